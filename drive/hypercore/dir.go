package hypercore

import (
	"fmt"
	"os"
	"path/filepath"
)

// Dir returns the Storage of a feed in the folder path, which is made, mode 0700, when the first file is opened.
func Dir(path string) Storage { return dir(path) }

type dir string

func (d dir) Open(name string) (File, error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_RDWR|os.O_CREATE, 0o600)
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
