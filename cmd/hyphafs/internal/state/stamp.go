package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// stamp says where a state directory is and when it was last used. Its own file's place is part of it, so a copy of it says something else than where it is.
type stamp struct {
	Machine string    `json:"machine,omitempty"` // hash of /etc/machine-id; empty where there is none
	Dir     place     `json:"dir"`
	File    place     `json:"file"`
	Stops   uint64    `json:"stops"` // clean ones
	Stopped time.Time `json:"stopped,omitzero"`
	Running bool      `json:"running"` // it was not stopped cleanly since
}

// place names a file as long as it exists, over reboots.
type place struct {
	Inode uint64 `json:"inode"`
	Birth int64  `json:"birth,omitempty"` // ns since 1970; 0 where the file system does not know it
}

func placeOf(path string) (place, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return place{}, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	p := place{Inode: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		p.Birth = st.Btime.Sec*int64(time.Second) + int64(st.Btime.Nsec)
	}
	return p, nil
}

// machine names this machine to nobody else: machine-id(5) asks for a hash.
func machine() string {
	id, err := os.ReadFile("/etc/machine-id")
	if id = bytes.TrimSpace(id); err != nil || len(id) != 32 {
		return "" // a container, say
	}
	sum := sha256.Sum256(append([]byte("hyphafs stamp "), id...))
	return hex.EncodeToString(sum[:16])
}

func (d Dir) stampPath() string { return filepath.Join(string(d), "stamp") }

// Doubt says why the directory may be an older copy of itself; "" if nothing speaks for it.
func (d Dir) Doubt() (why string, err error) {
	data, err := d.read("stamp")
	if errors.Is(err, ErrNoNode) {
		return "", nil
	}
	var s stamp
	if errors.Is(err, ErrDamaged) || err == nil && json.Unmarshal(data, &s) != nil {
		return "its stamp cannot be read", nil
	}
	if err != nil {
		return "", err
	}
	dir, err := placeOf(string(d))
	if err != nil {
		return "", err
	}
	file, err := placeOf(d.stampPath())
	if err != nil {
		return "", err
	}
	last := "it never stopped cleanly"
	if s.Stops > 0 {
		last = "its last clean stop was at " + s.Stopped.UTC().Format(time.DateTime)
	}
	switch here := machine(); {
	case here != "" && s.Machine != "" && s.Machine != here:
		return "it was last used on another machine; " + last, nil
	case s.Dir != dir:
		return "it was last used in another directory; " + last, nil
	case s.File != file:
		return "it was put back, from a backup perhaps; " + last, nil
	}
	return "", nil
}

// Running stamps the directory as in use, durably: it is where it belongs.
func Running(d Dir) error { return d.stamp(func(s *stamp) { s.Running = true }) }

// Stopped stamps the directory as left in order.
func Stopped(d Dir) error {
	return d.stamp(func(s *stamp) { s.Running, s.Stops, s.Stopped = false, s.Stops+1, time.Now().UTC() })
}

// stamp replaces the stamp by one of here and now, which goes on from the one before. The caller holds the lock.
func (d Dir) stamp(change func(*stamp)) (err error) {
	var s stamp
	if data, err := d.read("stamp"); err == nil {
		_ = json.Unmarshal(data, &s) // of one that cannot be read only the count is lost
	}
	change(&s)
	s.Machine = machine()
	if s.Dir, err = placeOf(string(d)); err != nil {
		return err
	}
	f, err := os.CreateTemp(string(d), ".stamp-*")
	if err != nil {
		return err
	}
	if s.File, err = placeOf(f.Name()); err == nil {
		err = json.NewEncoder(f).Encode(s)
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), d.stampPath())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("stamp: %w", err), os.Remove(f.Name()))
	}
	return syncDir(string(d))
}
