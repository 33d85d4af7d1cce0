package hypercore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Dir returns the Storage of a feed in the folder path, which is made, mode 0700, when the first file is opened.
func Dir(path string) Storage { return dir(path) }

type dir string

func (d dir) Open(name string) (File, error) {
	f, err := OpenFile(filepath.Join(string(d), name))
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	if err := MakeDir(string(d)); err != nil {
		return nil, err
	}
	return OpenFile(filepath.Join(string(d), name))
}

func (d dir) Sync() error {
	return errors.Join(SyncDir(string(d)), SyncDir(filepath.Dir(string(d))))
}

// MakeDir makes the folder path, and those above it, mode 0700. That path has its name is durable when it returns.
func MakeDir(path string) error {
	above := filepath.Dir(path)
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, os.ErrNotExist) && above != path {
		if err := MakeDir(above); err != nil {
			return err
		}
		err = os.Mkdir(path, 0o700)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return SyncDir(above) // also if it was there: who made it may have been killed before this
}

// SyncDir makes the names in the folder path durable.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// OpenFile opens the file at path, making it, mode 0600, if it is missing. That its name is durable is the caller's matter.
func OpenFile(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("size: %w", err)
	}
	return info.Size(), nil
}

func (f osFile) Punch(off, n int64) error { return punch(f.File, off, n) }

// Sync leaves out what reading the bytes back does not need: times.
func (f osFile) Sync() error { return syncData(f.File) }
