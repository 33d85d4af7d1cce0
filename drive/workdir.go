package drive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// Workspace is the disk space of what this node changed and has not published: a journal, and one file for each inode whose bytes are here.
type Workspace interface {
	// Boot identifies the run of the operating system, "" if that is not known: within one, what was written is there even if it
	// was not synced.
	Boot() string
	// Journal opens the journal called name, making it if it is missing.
	Journal(name string) (hypercore.File, error)
	// Current returns the name of the journal in force, "" at first; SetCurrent changes it, durably and at once, and removes the others.
	Current() (string, error)
	SetCurrent(name string) error
	// Backing opens the file of an inode's bytes, making it if it is missing.
	Backing(id record.ID) (hypercore.File, error)
	RemoveBacking(id record.ID) error
	// SyncNames makes durable that the files opened so far exist.
	SyncNames() error
	Backings() ([]record.ID, error)
	// Statfs tells of the disk, in bytes and inodes.
	Statfs() (Statfs, error)
}

// WorkDir is a Workspace in the folder at path, which is made, mode 0700.
func WorkDir(path string) (Workspace, error) {
	for _, dir := range []string{path, filepath.Join(path, "files")} {
		if err := hypercore.MakeDir(dir); err != nil {
			return nil, err
		}
	}
	return workDir(path), nil
}

type workDir string

func (w workDir) path(name string) string { return filepath.Join(string(w), name) }

func (w workDir) Boot() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (w workDir) Journal(name string) (hypercore.File, error) {
	return hypercore.OpenFile(w.path("journal-" + name))
}

func (w workDir) Current() (string, error) {
	b, err := os.ReadFile(w.path("current"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

func (w workDir) SetCurrent(name string) error {
	if err := hypercore.SyncDir(string(w)); err != nil { // the journal has to have its name before it is in force
		return err
	}
	temp := w.path("current.new")
	if err := writeSynced(temp, []byte(name+"\n")); err != nil {
		return err
	}
	if err := os.Rename(temp, w.path("current")); err != nil {
		return err
	}
	if err := hypercore.SyncDir(string(w)); err != nil {
		return err
	}
	entries, err := os.ReadDir(string(w))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "journal-") && e.Name() != "journal-"+name {
			err = errors.Join(err, os.Remove(w.path(e.Name())))
		}
	}
	return err
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func (w workDir) Backing(id record.ID) (hypercore.File, error) {
	return hypercore.OpenFile(filepath.Join(w.path("files"), id.String()))
}

func (w workDir) SyncNames() error { return hypercore.SyncDir(w.path("files")) }

func (w workDir) RemoveBacking(id record.ID) error {
	err := os.Remove(filepath.Join(w.path("files"), id.String()))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (w workDir) Backings() (ids []record.ID, err error) {
	entries, err := os.ReadDir(w.path("files"))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		id, err := record.ParseID(e.Name())
		if err != nil {
			return nil, fmt.Errorf("%s in the workspace: %w", e.Name(), err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}
