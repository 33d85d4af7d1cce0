package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Role says how a node came to its Hypha.
type Role string

// The roles of a node.
const (
	SignUp Role = "sign-up" // the origin: it made the Hypha
	SignIn Role = "sign-in" // a further node
)

// The errors of this package; they come wrapped with the path.
var (
	ErrNoNode  = errors.New("no node lives there")
	ErrLocked  = errors.New("in use by another process")
	ErrDamaged = errors.New("damaged file")
	ErrNewer   = errors.New("made by a newer version of hyphafs")
)

// maxFile bounds config.json and node.key, in bytes.
const maxFile = 1 << 20

// Config is what a node remembers of its first mount. It holds no secret.
type Config struct {
	Version     int      `json:"version"` // of the state directory
	Domain      string   `json:"domain"`
	Role        Role     `json:"role"`
	Name        string   `json:"name"`
	Listen      []string `json:"listen,omitempty"`
	Peers       []string `json:"peers,omitempty"`
	NoDiscovery bool     `json:"no_discovery,omitempty"`
}

// Dir is the path of a state directory, absolute.
type Dir string

// At makes path absolute.
func At(path string) (Dir, error) {
	abs, err := filepath.Abs(path)
	return Dir(abs), err
}

// Paths of the parts that other packages open.
func (d Dir) Feeds() string  { return filepath.Join(string(d), "feeds") }
func (d Dir) Hyphas() string { return filepath.Join(string(d), "hyphas") } // of an always-on node
func (d Dir) ACME() string   { return filepath.Join(string(d), "acme") }   // of an always-on node: account and keys of certificates
func (d Dir) Cache() string  { return filepath.Join(string(d), "cache") }  // of one whose feeds are in a bucket
func (d Dir) View() string   { return filepath.Join(string(d), "view.db") }
func (d Dir) Work() string   { return filepath.Join(string(d), "work") }
func (d Dir) Log() string    { return filepath.Join(string(d), "log") }
func (d Dir) Socket() string { return filepath.Join(string(d), "control.sock") }

// Make creates the directory, private to its owner, if it is missing.
func (d Dir) Make() error {
	if err := os.MkdirAll(filepath.Dir(string(d)), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(string(d), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := syncDir(filepath.Dir(string(d))); err != nil {
		return err
	}
	info, err := os.Stat(string(d))
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", d)
	case info.Mode().Perm()&0o077 != 0:
		return os.Chmod(string(d), 0o700)
	}
	return nil
}

// Abandon removes what an attempt to make a node left, if it made none. What is in use or not empty stays.
func (d Dir) Abandon() {
	if _, err := d.Config(); !errors.Is(err, ErrNoNode) {
		return
	}
	for _, path := range []string{filepath.Join(string(d), "lock"), d.Log(), string(d)} {
		_ = os.Remove(path) // an attempt to tidy up: what stays does no harm
	}
}

// version is the format of the whole state directory: 2 since the journal speaks of pages of 4 KiB, 3 since an fsync may tell it only what was added since the last one.
const version = 3

// Config reads what the node remembers: ErrNoNode if there is none, ErrNewer if the directory has a format of later, ErrDamaged if it cannot be understood.
func (d Dir) Config() (Config, error) {
	var c Config
	data, err := d.read("config.json")
	if err != nil {
		return c, err
	}
	path := filepath.Join(string(d), "config.json")
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	if c.Version > version {
		return c, fmt.Errorf("%s: %w: its format is %d, this version knows %d", d, ErrNewer, c.Version, version)
	}
	if c.Version < 1 || c.Domain == "" || (c.Role != SignUp && c.Role != SignIn) {
		return c, fmt.Errorf("%s: %w: no configuration of a node", path, ErrDamaged)
	}
	return c, nil
}

// Upgrade makes a directory of an earlier version one of this version, which reads what those wrote. The caller holds the lock; no program of before may write there
// any more.
func (d Dir) Upgrade() error {
	c, err := d.Config()
	if err != nil || c.Version == version {
		return err
	}
	return d.SetConfig(c)
}

// SetConfig makes c durable. On a new node it is the last thing written.
func (d Dir) SetConfig(c Config) error {
	c.Version = version
	data, err := json.MarshalIndent(c, "", "\t")
	if err != nil {
		return err
	}
	return d.write("config.json", append(data, '\n'))
}

// Key reads the sealed secrets. The caller owns the bytes.
func (d Dir) Key() ([]byte, error) { return d.read("node.key") }

// SetKey makes the sealed secrets durable.
func (d Dir) SetKey(sealed []byte) error { return d.write("node.key", sealed) }

// Refusals reads the sealed list of refused requests: ErrNoNode if there was none yet.
func (d Dir) Refusals() ([]byte, error) { return d.read("refusals") }

// SetRefusals makes the sealed list of refused requests durable.
func (d Dir) SetRefusals(sealed []byte) error { return d.write("refusals", sealed) }

// Pin is what a node learnt of its domain by Dat DNS. The key itself is not in it: it follows from the passphrase.
type Pin struct {
	Host    string     `json:"host"`
	Since   time.Time  `json:"since"`             // when the host first named this Hypha
	Changed *time.Time `json:"changed,omitempty"` // since when it names another one
}

// Pin reads what was learnt of the domain: nil if nothing yet.
func (d Dir) Pin() (*Pin, error) {
	data, err := d.read("domain.json")
	if errors.Is(err, ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var p Pin
	if err := json.Unmarshal(data, &p); err != nil || p.Host == "" || p.Since.IsZero() {
		return nil, fmt.Errorf("%s: %w", filepath.Join(string(d), "domain.json"), ErrDamaged)
	}
	return &p, nil
}

// SetPin makes p durable.
func (d Dir) SetPin(p Pin) error {
	data, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		return err
	}
	return d.write("domain.json", append(data, '\n'))
}

// Scratch reads the patterns of names that stay on this node, one a line, from scratch-names; nil if there is no such file.
func (d Dir) Scratch() ([]string, error) {
	data, err := d.read("scratch-names")
	if errors.Is(err, ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	patterns := []string{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		if _, err := path.Match(line, ""); err != nil {
			return nil, fmt.Errorf("%s: %w: the pattern %q", filepath.Join(string(d), "scratch-names"), ErrDamaged, line)
		}
		patterns = append(patterns, line)
	}
	return patterns, nil
}

func (d Dir) read(name string) ([]byte, error) {
	path := filepath.Join(string(d), name)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrNoNode)
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(data) == 0 || len(data) > maxFile {
		return nil, fmt.Errorf("%s: %w: %d bytes", path, ErrDamaged, len(data))
	}
	return data, nil
}

func (d Dir) write(name string, data []byte) error {
	return WriteFile(filepath.Join(string(d), name), data)
}

// WriteFile replaces path by data, mode 0600, durably: the old content or the new is there after a crash.
func WriteFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Lock is a held lock on a state directory.
type Lock struct{ file *os.File }

// Lock takes the directory for this process. ErrLocked comes wrapped with the pid of the holder.
func (d Dir) Lock() (*Lock, error) {
	path := filepath.Join(string(d), "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := make([]byte, 20)
		n, _ := f.ReadAt(holder, 0) // says who holds it, if it can
		err = errors.Join(err, f.Close())
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w (pid %s)", d, ErrLocked, pidText(holder[:n]))
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l := &Lock{file: f}
	if err := l.sign(); err != nil {
		return nil, errors.Join(err, l.Release())
	}
	return l, nil
}

func pidText(b []byte) string {
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return "unknown"
	}
	return strconv.Itoa(pid)
}

func (l *Lock) sign() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Release gives the directory free. The file stays: removing it would let two processes hold two locks.
func (l *Lock) Release() error {
	return errors.Join(l.file.Truncate(0), l.file.Close())
}
