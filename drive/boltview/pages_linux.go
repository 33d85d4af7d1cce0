package boltview

import (
	"errors"
	"os"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// How much of the file is read ahead when it is opened, by how much at once, and after how much reading its pages are let go, from which size on. bbolt tells
// the kernel that it reads at random, so each page of a cold file is a wait of its own; and what it touched counts as memory of the process. A page fault maps 16
// pages around, and the pages of neighbouring rows lie anywhere, so it is up to 16 times what was read.
const (
	readAhead  = 256 << 20
	aheadStep  = 128 << 10 // of one call the kernel heeds no more than the disk's read_ahead_kb, which is this nearly everywhere
	pageSize   = 4 << 10   // what a search reads, at least
	trimEvery  = 2 << 20
	trimLarger = 64 << 20
)

// prefetch asks the kernel for the file at path, if it is not too large, until stop is closed. What the disk cannot read is found out by whoever needs it.
func prefetch(path string, stop <-chan struct{}) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() <= readAhead {
		for at := int64(0); at < info.Size() && err == nil; at += aheadStep {
			select {
			case <-stop:
				return f.Close()
			default:
			}
			err = unix.Fadvise(int(f.Fd()), at, aheadStep, unix.FADV_WILLNEED)
		}
	}
	return errors.Join(err, f.Close())
}

// trim takes the file's pages out of the process; they stay in the page cache. Within tx the mapping stays where it is.
func trim(db *bbolt.DB, tx *bbolt.Tx) error {
	if tx.Size() < trimLarger {
		return nil
	}
	if _, _, errno := unix.Syscall(unix.SYS_MADVISE, db.Info().Data, uintptr(tx.Size()), unix.MADV_DONTNEED); errno != 0 {
		return errno
	}
	return nil
}
