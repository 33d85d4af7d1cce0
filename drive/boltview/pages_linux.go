package boltview

import (
	"errors"
	"os"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// How much of the file is read ahead when it is opened, and how many reads may pass before its pages are let go, from which size on. bbolt tells
// the kernel that it reads at random, so each page of a cold file is a wait of its own; and what it touched counts as memory of the process.
const (
	readAhead  = 256 << 20
	trimEvery  = 4096
	trimLarger = 64 << 20
)

// prefetch asks the kernel for the file at path, if it is not too large, and does not wait.
func prefetch(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() <= readAhead {
		err = unix.Fadvise(int(f.Fd()), 0, info.Size(), unix.FADV_WILLNEED)
	}
	return errors.Join(err, f.Close())
}

// trim takes the file's pages out of the process; they stay in the page cache.
func trim(db *bbolt.DB) error {
	return db.View(func(tx *bbolt.Tx) error { // within a transaction the mapping stays where it is
		if tx.Size() < trimLarger {
			return nil
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, db.Info().Data, uintptr(tx.Size()), unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
		return nil
	})
}
