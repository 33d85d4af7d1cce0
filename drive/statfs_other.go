//go:build !linux

package drive

// Statfs cannot tell of the disk here.
func (w workDir) Statfs() (Statfs, error) { return Statfs{}, nil }
