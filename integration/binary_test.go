package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hyphafs.org/hyphafs/integration/faultfs"
)

// patience bounds every wait of a test; it is long because machines are shared, and never a measure of speed.
const patience = 90 * time.Second

// passphrase is strong enough to be accepted; the Hyphas it guards live in temporary folders.
const passphrase = "unwrapped-7 gallows marmalade sterility quantum borough nectar pliable twine"

var (
	binary  string // path of the built hyphafs
	scratch string // folder of everything the tests make, on a real disk
)

func TestMain(m *testing.M) {
	faultfs.Serve() // in the process that serves a failing disk it does not return
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	if job := os.Getenv(asWorker); job != "" {
		return runWorker(job)
	}
	if dir := os.Getenv(asWedge); dir != "" {
		return runWedge(dir)
	}
	if os.Getenv(asUser) != "" { // re-executed: everything is built already
		binary, scratch = os.Getenv(asUser), os.Getenv("HYPHAFS_TEST_DIR")
		return m.Run()
	}
	dir, err := os.MkdirTemp(os.Getenv("HYPHAFS_TEST_DIR"), "hyphafs-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	scratch, binary = dir, filepath.Join(dir, "hyphafs")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "../cmd/hyphafs")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	if left := mountsBelow(dir); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "mounts left behind: %s\n", strings.Join(left, " "))
		for _, mnt := range left {
			if err := syscall.Unmount(mnt, syscall.MNT_DETACH); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
		return 1
	}
	return code
}

// mountsBelow lists the mount points below dir.
func mountsBelow(dir string) []string {
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			found = append(found, f[1])
		}
	}
	return found
}

// need fails the test in CI, and skips it with the reason elsewhere, when what it needs is missing.
func need(t *testing.T, ok bool, what string) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("needs %s", what)
	}
	t.Skipf("needs %s", what)
}

func needMount(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	need(t, err == nil, "/dev/fuse, and the right to open it")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func needNode(t *testing.T) {
	t.Helper()
	_, err := os.Stat("peers/node_modules/hyperdb")
	need(t, err == nil, "the npm packages of peers/ (npm ci in integration/peers)")
}

func needCommand(t *testing.T, name string) {
	t.Helper()
	_, err := exec.LookPath(name)
	need(t, err == nil, "the command "+name)
}

// lockedBuffer collects a process's output while others read it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// node is one hyphafs node: a state directory, a mount point and, while it runs, a foreground process.
type node struct {
	t              *testing.T
	dir            string // mount point
	state          string
	passphraseFile string
	flags          []string // of every mount
	boot           string   // id of the system's run that its processes are shown; "" for the real one
	env            []string // beyond the test's own
	cmd            *exec.Cmd
	stderr         *lockedBuffer
	ended          chan error
}

// newNode makes the folders of a node named name.
func newNode(t *testing.T, name string, flags ...string) *node {
	t.Helper()
	needMount(t)
	base, err := os.MkdirTemp(scratch, "node-")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, dir: filepath.Join(base, name), state: filepath.Join(base, "state"), passphraseFile: filepath.Join(base, "passphrase")}
	n.flags = append([]string{"--state", n.state, "--passphrase-file", n.passphraseFile, "--no-discovery"}, flags...)
	if err := os.WriteFile(n.passphraseFile, []byte(passphrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(n.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, tail(n.stderr.String(), 6000))
		}
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	n.stderr = &lockedBuffer{}
	return n
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// mount starts the node in the foreground and returns when it is ready.
func (n *node) mount(extra ...string) {
	n.t.Helper()
	if err := n.tryMount(extra...); err != nil {
		n.t.Fatalf("mount: %v\n%s", err, n.stderr.String())
	}
}

func (n *node) tryMount(extra ...string) error {
	args := append([]string{"mount", "--foreground"}, n.flags...)
	n.cmd = n.inBoot(append(append(args, extra...), n.dir)...)
	n.cmd.Env = append(os.Environ(), n.env...)
	n.cmd.Stderr = n.stderr
	ready := &readyWriter{line: "ready " + n.dir, seen: make(chan struct{})}
	n.cmd.Stdout = ready
	if err := n.cmd.Start(); err != nil {
		return err
	}
	ended, cmd := make(chan error, 1), n.cmd
	n.ended = ended
	go func() { ended <- cmd.Wait() }() // owned by n: stop and kill receive from it
	select {
	case <-ready.seen:
		return nil
	case err := <-ended:
		n.cmd = nil
		return fmt.Errorf("ended before it was ready: %w", err)
	case <-time.After(patience):
		n.kill()
		return errors.New("not ready in time")
	}
}

// readyWriter closes seen when a whole line that begins with line has been written to it.
type readyWriter struct {
	line string
	once sync.Once
	seen chan struct{}

	mu   sync.Mutex // guards what follows
	text bytes.Buffer
}

func (w *readyWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	for line := range strings.Lines(w.text.String()) {
		if strings.HasPrefix(line, w.line) && strings.HasSuffix(line, "\n") {
			w.once.Do(func() { close(w.seen) })
		}
	}
	return len(p), nil
}

func (w *readyWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// stop unmounts as a person would and waits for the node to end. Without a running node it does nothing.
func (n *node) stop() {
	n.t.Helper()
	if n.cmd == nil {
		return
	}
	out, err := n.run("umount", n.dir)
	if err != nil {
		n.t.Errorf("umount: %v\n%s", err, out)
	}
	select {
	case err := <-n.ended:
		if err != nil {
			n.t.Errorf("node ended: %v", err)
		}
		n.cmd = nil
	case <-time.After(patience):
		n.t.Errorf("node did not end after umount")
		n.kill()
	}
}

// kill ends the node with SIGKILL and leaves the dead mount for the next mount to find.
func (n *node) kill() {
	n.t.Helper()
	if n.cmd == nil {
		return
	}
	if err := n.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		n.t.Error(err)
	}
	<-n.ended
	n.cmd = nil
}

// run runs one hyphafs command and returns what it printed, stderr behind stdout.
func (n *node) run(args ...string) (string, error) { return n.runFor(patience, args...) }

// runFor is run of a command that may take as long as bound.
func (n *node) runFor(bound time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, args...).CombinedOutput()
	return string(out), err
}

// status is the part of `hyphafs status --json` that tests look at.
type status struct {
	Domain    string   `json:"domain"`
	Hyphalink string   `json:"hyphalink"`
	Writable  bool     `json:"writable"`
	Listen    []string `json:"listen"`
	Pending   int      `json:"pending"`
	Conflicts int      `json:"conflicts"`
	Alarms    []any    `json:"alarms"`
	PID       int      `json:"pid"`
	Node      struct {
		Name        string `json:"name"`
		Fingerprint string `json:"fingerprint"`
	} `json:"node"`
	Peers []struct {
		URL     string `json:"url"`
		Kind    string `json:"kind"`
		Refuses string `json:"refuses"`
	} `json:"peers"`
	Feeds []struct {
		Key    string `json:"key"`
		Writer string `json:"writer"`
		Length uint64 `json:"length"`
		Have   uint64 `json:"have"`
	} `json:"feeds"`
	Unpublished struct {
		Files uint64 `json:"files"`
		Bytes uint64 `json:"bytes"`
	} `json:"unpublished"`
	Missing struct {
		Blocks uint64 `json:"blocks"`
		Bytes  uint64 `json:"bytes"`
	} `json:"missing"`
}

func (n *node) status() status {
	n.t.Helper()
	text, err := os.ReadFile(filepath.Join(n.dir, ".hypha/status.json"))
	if err != nil {
		n.t.Fatal(err)
	}
	var s status
	if err := json.Unmarshal(text, &s); err != nil {
		n.t.Fatalf("%v in %s", err, text)
	}
	return s
}

// listening returns the URL of the node's first listener.
func (n *node) listening() string {
	n.t.Helper()
	s := n.status()
	if len(s.Listen) == 0 {
		n.t.Fatal("the node does not listen")
	}
	return s.Listen[0]
}

// eventually polls until ok holds: what it waits for crosses processes, so there is nothing to be told by.
func eventually(t *testing.T, what string, ok func() bool) { eventuallyElse(t, what, ok, func() {}) }

// eventuallyElse is eventually; giveUp says more when it fails.
func eventuallyElse(t *testing.T, what string, ok func() bool, giveUp func()) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); ; {
		if ok() {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			giveUp()
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// signUp mounts n as the origin of a new Hypha, listening on loopback.
func (n *node) signUp(name string) {
	n.t.Helper()
	n.mount("--sign-up", "--domain", "anna.example", "--name", name, "--listen", "tcp://127.0.0.1:0")
}

// signIn mounts n as a further node of the Hypha that peer serves.
func (n *node) signIn(name, peerURL string, extra ...string) {
	n.t.Helper()
	n.mount(append([]string{"--sign-in", "--domain", "anna.example", "--name", name, "--listen", "tcp://127.0.0.1:0", "--peer", peerURL}, extra...)...)
}

// pending waits for exactly one open request and returns its directory.
func (n *node) pending() string {
	n.t.Helper()
	var dir string
	eventually(n.t, "one open request", func() bool {
		entries, err := os.ReadDir(filepath.Join(n.dir, ".hypha/pending"))
		if err != nil || len(entries) != 1 {
			return false
		}
		dir = filepath.Join(n.dir, ".hypha/pending", entries[0].Name())
		return true
	})
	return dir
}

// touch runs the real touch.
func touch(t *testing.T, path string) {
	t.Helper()
	if out, err := exec.Command("touch", path).CombinedOutput(); err != nil {
		t.Fatalf("touch: %v\n%s", err, out)
	}
}

// pair mounts an origin and an approved second node.
func pair(t *testing.T) (desktop, laptop *node) {
	t.Helper()
	desktop, laptop = newNode(t, "Hypha"), newNode(t, "B")
	desktop.signUp("Desktop")
	laptop.signIn("Laptop", desktop.listening())
	touch(t, filepath.Join(desktop.pending(), "approve"))
	eventually(t, "the laptop writable", func() bool { return laptop.status().Writable })
	return desktop, laptop
}
