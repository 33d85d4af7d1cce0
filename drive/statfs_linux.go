package drive

import "golang.org/x/sys/unix"

func (w workDir) Statfs() (Statfs, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(string(w), &s); err != nil {
		return Statfs{}, err
	}
	size := uint64(s.Bsize)
	return Statfs{Total: s.Blocks * size, Free: s.Bfree * size, Available: s.Bavail * size, FilesFree: s.Ffree}, nil
}
