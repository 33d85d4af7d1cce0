package integration

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hyphafs.org/hyphafs/auth"
)

// always is an always-on node: a state directory and, while it runs, a process.
type always struct {
	t         *testing.T
	state     string
	http, tcp string // host:port; the same over restarts
	flags     []string
	env       []string
	cmd       *exec.Cmd
	stdout    *readyWriter
	stderr    *lockedBuffer // of all runs
	ended     chan error
}

// newAlways makes an always-on node that does not run yet.
func newAlways(t *testing.T, flags ...string) *always {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "always-")
	if err != nil {
		t.Fatal(err)
	}
	a := &always{t: t, state: filepath.Join(dir, "state"), http: "127.0.0.1:0", tcp: "127.0.0.1:0", flags: flags, stderr: &lockedBuffer{}}
	t.Cleanup(func() {
		a.stop()
		if t.Failed() {
			t.Logf("the always-on node said:\n%s", tail(a.stderr.String(), 6000))
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return a
}

// startAlways runs an always-on node.
func startAlways(t *testing.T, flags ...string) *always {
	t.Helper()
	a := newAlways(t, flags...)
	a.start()
	return a
}

// start runs the node, at the ports that it had before, and returns when it is ready.
func (a *always) start() {
	a.t.Helper()
	if err := a.tryStart(); err != nil {
		a.t.Fatalf("serve: %v\n%s", err, a.stderr.String())
	}
}

func (a *always) tryStart() error {
	a.cmd = exec.Command(binary, append([]string{"serve", "--state", a.state, "--http", a.http, "--tcp", a.tcp}, a.flags...)...)
	a.cmd.Env = append(os.Environ(), a.env...)
	a.cmd.Stderr = a.stderr
	a.stdout = &readyWriter{line: "ready ", seen: make(chan struct{})}
	a.cmd.Stdout = a.stdout
	if err := a.cmd.Start(); err != nil {
		return err
	}
	ended, cmd := make(chan error, 1), a.cmd
	a.ended = ended
	go func() { ended <- cmd.Wait() }() // owned by a: stop and kill receive from it
	select {
	case <-a.stdout.seen:
	case err := <-ended:
		a.cmd = nil
		return fmt.Errorf("ended before it was ready: %w", err)
	case <-time.After(patience):
		a.kill()
		return errors.New("not ready in time")
	}
	for _, url := range strings.Fields(a.stdout.String())[1:] {
		if address, ok := strings.CutPrefix(url, "http://"); ok {
			a.http = address
		} else if address, ok := strings.CutPrefix(url, "tcp://"); ok {
			a.tcp = address
		}
	}
	return nil
}

// stop ends the node as systemd would, which it has to do in order and within 5 s.
func (a *always) stop() {
	a.t.Helper()
	if a.cmd == nil {
		return
	}
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		a.t.Error(err)
	}
	select {
	case err := <-a.ended:
		if err != nil {
			a.t.Errorf("the always-on node ended: %v", err)
		}
		a.cmd = nil
	case <-time.After(patience):
		a.t.Error("the always-on node does not end")
		a.kill()
	}
}

// kill ends the node with SIGKILL.
func (a *always) kill() {
	a.t.Helper()
	if a.cmd == nil {
		return
	}
	if err := a.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		a.t.Error(err)
	}
	<-a.ended
	a.cmd = nil
}

func (a *always) ws() string    { return "ws://" + a.http }
func (a *always) byTCP() string { return "tcp://" + a.tcp }

// get asks by HTTP.
func (a *always) get(path string) (status int, body string) {
	a.t.Helper()
	answer, err := http.Get("http://" + a.http + path)
	if err != nil {
		a.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// metric returns one value of /metrics.
func (a *always) metric(name string) float64 {
	a.t.Helper()
	_, body := a.get("/metrics")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				a.t.Fatal(line, err)
			}
			return v
		}
	}
	a.t.Fatalf("no metric %s in\n%s", name, body)
	return 0
}

// ours is a --hypha flag for the tests' Hypha.
func ours(id *auth.Identity) string { return "--hypha=" + id.Source.String() }

// contains waits until the file at path holds want.
func contains(t *testing.T, path, want string) {
	t.Helper()
	eventually(t, path+" to hold "+want, func() bool {
		b, err := os.ReadFile(path)
		return err == nil && string(b) == want
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestAlwaysOn: a node behind WebSocket and one on TCP replicate through an always-on node and approve each other through it. It is killed in the middle. And
// through all that it could read nothing: neither its disk nor its memory nor its log hold a name, content or key, though they do hold what it needs.
func TestAlwaysOn(t *testing.T) {
	needMount(t)
	needCommand(t, "gcore")
	a := startAlways(t, "--adopt", "--log-level", "debug")
	desktop, laptop := newNode(t, "Hypha"), newNode(t, "B")
	desktop.mount("--sign-up", "--domain", "anna.example", "--name", "Deskwren", "--peer", a.ws())
	write(t, filepath.Join(desktop.dir, "plumage-of-wrens.txt"), "the tail is cocked")
	eventually(t, "the always-on node to adopt", func() bool { return a.metric("hyphafs_hyphas") == 1 })
	laptop.mount("--sign-in", "--domain", "anna.example", "--name", "Lapwing", "--peer", a.byTCP())
	contains(t, filepath.Join(laptop.dir, "plumage-of-wrens.txt"), "the tail is cocked")
	if err := os.WriteFile(filepath.Join(laptop.dir, "early"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("written before the approval: %v", err)
	}
	touch(t, filepath.Join(desktop.pending(), "approve"))
	eventually(t, "the laptop writable", func() bool { return laptop.status().Writable })
	write(t, filepath.Join(laptop.dir, "crests-of-lapwings.txt"), "they stand up")
	contains(t, filepath.Join(desktop.dir, "crests-of-lapwings.txt"), "they stand up")
	if p := desktop.status().Peers; len(p) != 1 || p[0].URL != a.ws() || p[0].Kind != "ws" {
		t.Errorf("the desktop's peers: %+v", p)
	}
	a.kill()
	write(t, filepath.Join(desktop.dir, "written-without-it"), "by the desktop")
	write(t, filepath.Join(laptop.dir, "written-without-it-too"), "by the laptop")
	a.start()
	contains(t, filepath.Join(laptop.dir, "written-without-it"), "by the desktop")
	contains(t, filepath.Join(desktop.dir, "written-without-it-too"), "by the laptop")
	for _, n := range []*node{desktop, laptop} {
		if out, err := n.run("sync", "--peer", n.dir); err != nil {
			t.Fatalf("sync: %v\n%s", err, out)
		}
	}
	searchAlways(t, a)
}

// TestAlwaysOnKilledInTransfer: the always-on node is killed three times while a large file passes through it. It ends up whole on the other side, and every block
// there is verified.
func TestAlwaysOnKilledInTransfer(t *testing.T) {
	needMount(t)
	const size = 48 << 20
	a := startAlways(t, ours(identity(t)))
	desktop, laptop := newNode(t, "Hypha"), newNode(t, "B")
	desktop.mount("--sign-up", "--domain", "anna.example", "--name", "Desktop", "--peer", a.ws())
	laptop.mount("--sign-in", "--domain", "anna.example", "--name", "Laptop", "--peer", a.byTCP())
	want := makeBig(t, filepath.Join(desktop.dir, "big"), size)
	if out, err := desktop.run("sync", desktop.dir); err != nil {
		t.Fatalf("sync: %v\n%s", err, out)
	}
	killed := 0
	for part := range 3 {
		eventually(t, "a part of the file on the always-on node", func() bool { return a.metric("hyphafs_stored_bytes") > float64(size/4*part) })
		if a.metric("hyphafs_blocks_missing") > 0 {
			killed++
		}
		a.kill()
		a.start()
	}
	t.Logf("killed %d times with blocks missing", killed)
	if out, err := desktop.run("sync", "--peer", desktop.dir); err != nil {
		t.Fatalf("sync: %v\n%s", err, out)
	}
	eventually(t, "everything on the laptop", func() bool {
		s := laptop.status()
		_, err := os.Stat(filepath.Join(laptop.dir, "big"))
		return err == nil && s.Missing.Blocks == 0
	})
	if got := hash(t, filepath.Join(laptop.dir, "big")); got != want {
		t.Errorf("the file is %s, wanted %s", got, want)
	}
	laptop.stop()
	laptop.check()
}

// searchAlways looks in everything that a has for what it must not know.
func searchAlways(t *testing.T, a *always) {
	t.Helper()
	id := identity(t)
	keys, ephemeral, local := id.Content(), id.Ephemeral(), id.Local()
	epoch := keys.Epochs[0]
	secret := map[string][]byte{
		"a file's name": []byte("plumage-of-wrens"), "another one": []byte("crests-of-lapwings"), "a content": []byte("the tail is cocked"),
		"another content": []byte("they stand up"), "the origin's name": []byte("Deskwren"), "the other node's name": []byte("Lapwing"), "the domain": []byte("anna.example"),
		"the passphrase": []byte("gallows marmalade"), "the origin's secret key": []byte(id.SourceSecret())[:32],
		"the key of names": keys.Names[:], "the key of records": epoch.Meta[:], "the key of blocks": epoch.Blocks[:], "the ephemeral key": ephemeral[:], "the local key": local[:],
	}
	places := map[string][]byte{"log": []byte(a.stderr.String()), "core": core(t, a.cmd.Process.Pid)}
	err := filepath.WalkDir(a.state, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			places[path] = []byte(path)
			return err
		}
		places[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for place, content := range places {
		for what, value := range secret {
			for _, form := range [][]byte{value, []byte(hex.EncodeToString(value))} {
				if bytes.Contains(content, form) {
					t.Errorf("%s is in its %s", what, place)
				}
			}
		}
	}
	// That the search finds what is there: the read key is in its memory and on its disk, and in no log.
	readKey := id.Source.String()
	if !bytes.Contains(places["core"], id.Source[:]) || !bytes.Contains(places[filepath.Join(a.state, "serve.json")], []byte(readKey)) {
		t.Error("the read key was not found where it must be: the search is blind")
	}
	if len(places) < 2+6*4 { // the feeds of two writers
		t.Errorf("only %d files", len(places))
	}
	if log := strings.ToLower(a.stderr.String()); strings.Contains(log, readKey) || !strings.Contains(log, "msg=ready") {
		t.Error("the read key is in the log, or there is no log")
	}
	for line := range strings.Lines(a.stderr.String()) {
		if strings.Contains(line, "127.0.0.1") && !strings.Contains(line, "level=DEBUG") {
			t.Errorf("an address is in the log: %s", line)
		}
	}
}

// core returns the memory of a running process.
func core(t *testing.T, pid int) []byte {
	t.Helper()
	prefix := filepath.Join(t.TempDir(), "core")
	if out, err := exec.Command("gcore", "-a", "-o", prefix, strconv.Itoa(pid)).CombinedOutput(); err != nil {
		t.Fatalf("gcore: %v\n%s", err, out)
	}
	b, err := os.ReadFile(prefix + "." + strconv.Itoa(pid))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAlwaysOnUnknown: a key that is not kept gets 404 and leaves nothing behind, also with a real sign-in, which takes it for a wrong passphrase.
func TestAlwaysOnUnknown(t *testing.T) {
	a := startAlways(t, "--hypha", strings.Repeat("ab", 32), "--log-level", "debug")
	before := dirSize(t, a.state)
	id := identity(t)
	for range 50 {
		if status, body := a.get("/hypha/" + id.Source.String()); status != http.StatusNotFound || strings.Contains(body, id.Source.String()) {
			t.Fatal(status, body)
		}
	}
	if status, _ := a.get("/hypha/" + strings.Repeat("ab", 32)); status != http.StatusUpgradeRequired {
		t.Errorf("the known key without a WebSocket: %d", status)
	}
	for _, peer := range []string{a.ws(), a.byTCP()} {
		laptop := newNode(t, "B")
		out, err := laptop.run("sign-in", "--domain", "anna.example", "--state", laptop.state, "--passphrase-file", laptop.passphraseFile, "--peer", peer)
		if code := exitCode(err); code != 5 || !strings.Contains(out, "wrong passphrase or domain") {
			t.Errorf("sign-in by %s: exit %d, %s", peer, code, out)
		}
	}
	if after := dirSize(t, a.state); after != before {
		t.Errorf("the state directory grew from %d to %d files", before, after)
	}
	if refused := a.metric(`hyphafs_refused_total{reason="unknown_read_key"}`); refused != 51 {
		t.Errorf("%v refused", refused)
	}
	if strings.Contains(a.stderr.String(), id.Source.String()) {
		t.Error("the unknown key is in the log")
	}
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// dirSize counts the files and folders below dir.
func dirSize(t *testing.T, dir string) (n int) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(string, os.DirEntry, error) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestAlwaysOnAdopts: an empty node is not taken by a sign-in with a wrong passphrase, nor over TCP, where the reason is told on both sides; it takes the first
// Hypha that shows itself and no other, over kill -9 too.
func TestAlwaysOnAdopts(t *testing.T) {
	needMount(t)
	a := startAlways(t, "--adopt")
	wrong := newNode(t, "Wrong")
	if out, err := wrong.run("sign-in", "--domain", "other.example", "--state", wrong.state, "--passphrase-file", wrong.passphraseFile, "--peer", a.ws()); err != nil {
		t.Fatalf("sign-in: %v\n%s", err, out)
	}
	desktop := newNode(t, "Hypha")
	desktop.mount("--sign-up", "--domain", "anna.example", "--name", "Desktop", "--peer", a.byTCP())
	eventually(t, "the TCP peer's reason", func() bool {
		return strings.Contains(a.stderr.String(), "cannot be adopted over TCP") && strings.Contains(desktop.stderr.String(), "may not know this Hypha")
	})
	if n := a.metric("hyphafs_hyphas"); n != 0 {
		t.Fatalf("%v Hyphas adopted", n)
	}
	desktop.stop()
	desktop.mount("--peer", a.ws())
	eventually(t, "the adoption", func() bool { return a.metric("hyphafs_hyphas") == 1 })
	a.kill()
	a.start()
	if n := a.metric("hyphafs_hyphas"); n != 1 {
		t.Fatalf("%v Hyphas after a restart", n)
	}
	second := newNode(t, "Second")
	second.mount("--sign-up", "--domain", "second.example", "--name", "Second", "--peer", a.ws())
	eventually(t, "the second Hypha to be refused", func() bool { return strings.Contains(second.stderr.String(), "does not keep this Hypha") })
	if out, err := desktop.run("sync", "--peer", desktop.dir); err != nil {
		t.Errorf("sync: %v\n%s", err, out)
	}
	if n := a.metric("hyphafs_hyphas"); n != 1 {
		t.Errorf("%v Hyphas", n)
	}
}

// TestAlwaysOnFull: beyond --max-bytes the sender's status says why nothing is taken, sync --peer fails, and no file is lost; with more room it goes on.
func TestAlwaysOnFull(t *testing.T) {
	needMount(t)
	a := startAlways(t, ours(identity(t)), "--max-bytes", "1M")
	desktop := newNode(t, "Hypha")
	desktop.mount("--sign-up", "--domain", "anna.example", "--name", "Desktop", "--peer", a.byTCP())
	want := makeBig(t, filepath.Join(desktop.dir, "big"), 3<<20)
	out, err := desktop.run("sync", "--peer", desktop.dir)
	if exitCode(err) != 1 || !strings.Contains(out, "no room") {
		t.Errorf("sync --peer: %v\n%s", err, out)
	}
	if p := desktop.status().Peers; len(p) != 1 || !strings.Contains(p[0].Refuses, "no space left") || !strings.Contains(p[0].Refuses, "1.0 MiB") {
		t.Errorf("%+v", p)
	}
	if text, err := desktop.run("status", desktop.dir); err != nil || !strings.Contains(text, "takes nothing more: no space left") {
		t.Errorf("status: %v\n%s", err, text)
	}
	if stored, full := a.metric("hyphafs_stored_bytes"), a.metric("hyphafs_hyphas_full"); stored > 1<<20 || stored < 900_000 || full != 1 {
		t.Errorf("%v bytes stored, %v full", stored, full)
	}
	a.stop()
	a.flags = []string{ours(identity(t)), "--max-bytes", "1G"}
	a.start()
	if out, err := desktop.run("sync", "--peer", desktop.dir); err != nil {
		t.Errorf("with room: %v\n%s", err, out)
	}
	if p := desktop.status().Peers; len(p) != 1 || p[0].Refuses != "" {
		t.Errorf("%+v", p)
	}
	laptop := newNode(t, "B")
	laptop.mount("--sign-in", "--domain", "anna.example", "--name", "Laptop", "--peer", a.byTCP())
	eventually(t, "the file on the laptop", func() bool {
		_, err := os.Stat(filepath.Join(laptop.dir, "big"))
		return err == nil && hash(t, filepath.Join(laptop.dir, "big")) == want
	})
}

// TestAlwaysOnOperation: exit codes, health, the lock, settings from the environment and the end within 5 seconds.
func TestAlwaysOnOperation(t *testing.T) {
	a := newAlways(t)
	a.env = []string{"HYPHAFS_HYPHA=hypha://" + identity(t).Source.String(), "HYPHAFS_LOG_FORMAT=json"}
	a.start()
	if status, body := a.get("/healthz"); status != http.StatusOK || body != "ready\n" {
		t.Error(status, body)
	}
	if status, body := a.get("/"); status != http.StatusOK || !strings.Contains(body, "always-on node") {
		t.Error(status, body)
	}
	if n := a.metric("hyphafs_hyphas"); n != 1 {
		t.Errorf("%v Hyphas", n)
	}
	if !strings.Contains(a.stderr.String(), `"msg":"ready"`) {
		t.Errorf("log: %s", a.stderr)
	}
	if out, err := exec.Command(binary, "serve", "--state", a.state, "--http", "127.0.0.1:0").CombinedOutput(); exitCode(err) != 6 {
		t.Errorf("a second one: %v %s", err, out)
	}
	for _, args := range [][]string{{"--http", "127.0.0.1:0"}, {"--state", a.state}, {"--state", a.state, "--http", "nonsense"}, {"--state", a.state, "--http", ":0", "--hypha", "xyz"},
		{"--state", a.state, "--http", ":0", "--max-bytes", "many"}, {"--state", a.state, "--http", ":0", "--peer", "http://x"}, {"--state", a.state, "--http", ":0", "--origin", "x"},
		{"--state", a.state, "--http", ":0", "--log-level", "loud"}, {"--state", a.state, "--http", ":0", "surplus"}} {
		if out, err := exec.Command(binary, append([]string{"serve"}, args...)...).CombinedOutput(); exitCode(err) != 2 || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%v: %v %s", args, err, out)
		}
	}
	if out, err := exec.Command(binary, "serve", "--state", a.state+"2", "--http", a.http).CombinedOutput(); exitCode(err) != 1 {
		t.Errorf("an address in use: %v %s", err, out)
	}
	begun := time.Now()
	a.stop()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the end took %v", took)
	}
}
