package boltview

import (
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// How much of the file is read ahead when it is opened, by how much at once, after how much reading it is looked how many pages of files the process holds, and with how
// many it lets those of the view go. bbolt tells the kernel that it reads at random, so each page of a cold file is a wait of its own; and what it touched counts as memory of the
// process. A page fault maps 16 pages around, and the pages of neighbouring rows lie anywhere, so up to 16 times what was read is added between two looks.
const (
	readAhead = 256 << 20
	aheadStep = 128 << 10 // of one call the kernel heeds no more than the disk's read_ahead_kb, which is this nearly everywhere
	pageSize  = 4 << 10   // what a search reads, at least
	lookEvery = 1 << 20
	trimAbove = 48 << 20
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

// trim takes the file's pages out of the process if it holds many of files; they stay in the page cache. Within tx the mapping stays where it is.
func trim(db *bbolt.DB, tx *bbolt.Tx) error {
	if held, err := heldOfFiles(); err == nil && held < trimAbove {
		return nil
	}
	if _, _, errno := unix.Syscall(unix.SYS_MADVISE, db.Info().Data, uintptr(tx.Size()), unix.MADV_DONTNEED); errno != 0 {
		return errno
	}
	return nil
}

// heldOfFiles is how many bytes of mapped files are in the process: the third number of statm, proc_pid_statm(5).
func heldOfFiles() (int, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var size, resident, shared int
	if _, err := fmt.Sscan(string(b), &size, &resident, &shared); err != nil {
		return 0, err
	}
	return shared * os.Getpagesize(), nil
}
