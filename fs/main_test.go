package fs_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/fs"
	"hyphafs.org/hyphafs/fs/fstest"
)

// serveEnv makes the test binary serve a mount over an in-memory drive instead of running tests: a process that
// uses its own mount can deadlock. The value is a setup in JSON; orders come as lines of JSON on stdin, answers go to stdout; the end of
// stdin is the order to unmount.
const serveEnv = "HYPHAFS_FS_TEST_SERVE"

func TestMain(m *testing.M) {
	if setup := os.Getenv(serveEnv); setup != "" {
		if err := serve(setup); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// setup says how the child mounts.
type setup struct {
	Dir      string
	Options  fs.Options
	ReadOnly bool // not authorised
}

// order is what a test tells the child to do: it plays the peer, the coming and going of requests, and the node's authorisation.
type order struct {
	Op    string
	Path  string
	Off   int64
	Data  []byte
	On    bool
	Time  time.Time
	Node  string
	Clear bool
}

// answer is what the child says.
type answer struct {
	Err      string
	Misuse   []string
	Inodes   int
	Synced   int
	Waiting  int // reads
	Approved []string
	Denied   []string
}

// pending is an honest fs.Pending without keys.
type pending struct {
	drive *fstest.Drive

	mu               sync.Mutex
	open             []fs.Request
	approved, denied []string
}

func (p *pending) Requests() []fs.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.open)
}

func (p *pending) answer(dir string, list *[]string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.drive.Writable() {
		return drive.ErrNotAuthorised
	}
	if slices.Contains(p.approved, dir) || slices.Contains(p.denied, dir) {
		return fs.ErrAnswered
	}
	i := slices.IndexFunc(p.open, func(r fs.Request) bool { return r.Dir == dir })
	if i < 0 {
		return drive.ErrNotExist
	}
	p.open = slices.Delete(p.open, i, i+1)
	*list = append(*list, dir)
	return nil
}

func (p *pending) Approve(_ context.Context, dir string) error { return p.answer(dir, &p.approved) }
func (p *pending) Deny(_ context.Context, dir string) error    { return p.answer(dir, &p.denied) }

type control struct{}

func (control) Status() []byte     { return []byte("all is well\n") }
func (control) StatusJSON() []byte { return []byte("{}\n") }
func (control) Link() []byte       { return []byte("hypha://00\n") }
func (control) Nodes() map[string][]byte {
	return map[string][]byte{"desktop-01234567": []byte("Desktop\n"), "bad/name": []byte("not to be seen")}
}

// serve is the child.
func serve(text string) error {
	signal.Ignore(os.Interrupt)
	var s setup
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	d := fstest.New(time.Now)
	d.SetWritable(!s.ReadOnly)
	p := &pending{drive: d}
	ctx := context.Background()
	server, err := fs.Mount(ctx, s.Dir, fs.Config{
		Drive: d, Pending: p, Control: control{}, Options: s.Options,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.Encode(answer{})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var o order
		a := answer{}
		err := json.Unmarshal(lines.Bytes(), &o)
		if err == nil {
			err = obey(ctx, o, d, p, server, &a)
		}
		if err != nil {
			a.Err = err.Error()
		}
		out.Encode(a)
	}
	ctx, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	if err := server.Close(ctx); !errors.Is(err, fs.ErrBusy) {
		return err
	}
	return nil
}

func obey(ctx context.Context, o order, d *fstest.Drive, p *pending, server *fs.Server, a *answer) error {
	var changes []drive.Change
	var err error
	switch o.Op {
	case "writable":
		d.SetWritable(o.On)
	case "write":
		changes, err = d.PeerWrite(o.Path, o.Data)
	case "replace":
		changes, err = d.PeerReplace(o.Path, o.Data)
	case "stall":
		err = d.PeerStall(o.Path, o.Off)
	case "resume":
		err = d.PeerResume(o.Path)
	case "waiting":
		a.Waiting, err = d.Waiting(o.Path)
	case "remove":
		changes, err = d.PeerRemove(o.Path)
	case "request":
		p.mu.Lock()
		p.open = append(p.open, fs.Request{Dir: o.Path, Words: "one two three four five six\n", JSON: []byte("{}\n")})
		p.mu.Unlock()
	case "withdraw":
		p.mu.Lock()
		p.open = slices.DeleteFunc(p.open, func(r fs.Request) bool { return r.Dir == o.Path })
		p.mu.Unlock()
	case "conflict":
		c := drive.Conflict{Path: o.Path, Node: o.Node, Time: o.Time, Removed: o.Clear}
		c.Version = record.Version{Feed: hypercore.Key{1}, Seq: uint64(o.Time.Unix())}
		err = d.AddConflict(c, o.Data)
	case "unmount":
		err = server.Unmount(ctx)
	case "state":
		p.mu.Lock()
		a.Approved, a.Denied = slices.Clone(p.approved), slices.Clone(p.denied)
		p.mu.Unlock()
		a.Misuse, a.Inodes, a.Synced = d.Misuse(), d.Inodes(), d.Synced()
	default:
		return errors.New("unknown order " + o.Op)
	}
	if err != nil {
		return err
	}
	server.Changed(changes)
	return server.Settled(ctx)
}

// mounted is a mount served by a child process.
type mounted struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
	done bool
}

// mount starts a child that serves a mount, and ends it with the test.
func mount(t *testing.T, s setup) *mounted {
	t.Helper()
	if s.Dir == "" {
		s.Dir = t.TempDir()
		os.Chmod(filepath.Dir(s.Dir), 0755) // tests let other users in
	}
	m, err := tryMount(t, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.end)
	return m
}

// child starts the serving process.
func child(t *testing.T, s setup) *mounted {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		missing(t, "mounting needs /dev/fuse and root")
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	m := &mounted{t: t, dir: s.Dir, cmd: exec.Command(os.Args[0])}
	m.cmd.Env = append(os.Environ(), serveEnv+"="+string(text))
	m.cmd.Stderr = t.Output()
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.out = json.NewDecoder(out)
	return m
}

// tryMount is mount that may fail.
func tryMount(t *testing.T, s setup) (*mounted, error) {
	t.Helper()
	m := child(t, s)
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	var ready answer
	if err := m.out.Decode(&ready); err != nil {
		m.in.Close()
		return nil, fmt.Errorf("child did not mount: %w", m.cmd.Wait())
	}
	return m, nil
}

// end unmounts and checks that the drive was used as it should be.
func (m *mounted) end() {
	if m.done {
		return
	}
	m.done = true
	if a := m.ask(order{Op: "state"}); len(a.Misuse) > 0 {
		m.t.Errorf("drive was misused: %q", a.Misuse)
	}
	m.in.Close()
	if err := m.cmd.Wait(); err != nil {
		m.t.Errorf("serving process: %v", err)
	}
	if err := syscall.Unmount(m.dir, syscall.MNT_DETACH); err == nil {
		m.t.Error("mount was left behind")
	}
}

// ask gives an order and returns the answer; a failure ends the test.
func (m *mounted) ask(o order) answer {
	m.t.Helper()
	a := m.try(o)
	if a.Err != "" {
		m.t.Fatalf("%s %s: %s", o.Op, o.Path, a.Err)
	}
	return a
}

func (m *mounted) try(o order) answer {
	m.t.Helper()
	line, err := json.Marshal(o)
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := m.in.Write(append(line, '\n')); err != nil {
		m.t.Fatal(err)
	}
	var a answer
	if err := m.out.Decode(&a); err != nil {
		m.t.Fatal(err)
	}
	return a
}

// missing skips a test that cannot run here, and fails it in CI, where everything has to be there.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}
