//go:build !linux

package archive

import "io/fs"

// allocated returns what a file takes on disk at most.
func allocated(info fs.FileInfo) int64 { return info.Size() }
