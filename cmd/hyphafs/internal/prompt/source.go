package prompt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Source says where a passphrase comes from without asking anybody.
type Source struct {
	File        string // --passphrase-file; empty: none
	FD          int    // --passphrase-fd; negative: none
	Credentials string // $CREDENTIALS_DIRECTORY, where systemd puts credentials; empty: none
}

// ErrNoSource says that the passphrase has to be asked for.
var ErrNoSource = errors.New("no passphrase was given")

// Read returns the first line of the first source there is: descriptor, file, credential. ErrNoSource: none of them. An fs.ErrNotExist comes
// only from a --passphrase-file that is not there. The caller owns the bytes.
func (s Source) Read() ([]byte, error) {
	switch {
	case s.FD >= 0:
		f := os.NewFile(uintptr(s.FD), "passphrase")
		if f == nil {
			return nil, fmt.Errorf("descriptor %d is not open", s.FD)
		}
		return firstLineOf(f)
	case s.File != "":
		return s.open(s.File)
	case s.Credentials != "":
		pass, err := s.open(filepath.Join(s.Credentials, "passphrase"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, ErrNoSource
		}
		return pass, err
	}
	return nil, ErrNoSource
}

func (s Source) open(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return firstLineOf(f)
}

func firstLineOf(f *os.File) ([]byte, error) {
	line, err := FirstLine(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(line) == 0 {
		return nil, fmt.Errorf("%s: the first line is empty", f.Name())
	}
	return line, nil
}

// Save writes a new passphrase to path, mode 0600, durably. It never replaces a file: fs.ErrExist.
func Save(path string, passphrase []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(append(make([]byte, 0, len(passphrase)+1), passphrase...), '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
