//go:build !linux

package hypercore

import "os"

// punch writes zeros: holes are a Linux matter.
func punch(f *os.File, off, n int64) error { return writeZeros(f, off, n) }

func syncData(f *os.File) error { return f.Sync() }
