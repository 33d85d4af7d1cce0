package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/control"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/status"
	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/fs"
)

const pass = "unwrapped-7 gallows marmalade sterility quantum borough nectar pliable twine"

// patience bounds what waits for another goroutine; it is no measure of speed.
const patience = time.Minute

func newSettings(t *testing.T, role state.Role, name string) Settings {
	t.Helper()
	return Settings{
		State: state.Dir(filepath.Join(t.TempDir(), "state")), New: true, LogLevel: "warn", LogFormat: "text",
		Config: state.Config{Domain: "anna.example", Role: role, Name: name, NoDiscovery: true},
	}
}

// running opens the node that s describes and starts all of it but the mount, until the test ends.
func running(t *testing.T, s Settings) *Node {
	t.Helper()
	log := slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := s.State.Make(); err != nil {
		t.Fatal(err)
	}
	id, err := identify(t.Context(), &s, []byte(pass))
	if err != nil {
		t.Fatal(err)
	}
	n, err := open(t.Context(), s, id, log, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.close(context.Background()); err != nil {
			t.Errorf("close %s: %v", s.Config.Name, err)
		}
		id.wipe()
	})
	if _, err := n.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

func (n *Node) asked(t *testing.T, out any, op string, args ...string) error {
	t.Helper()
	return control.Do(t.Context(), n.settings.State.Socket(), control.Request{Op: op, Args: args}, out)
}

// TestApproval signs up, signs in, approves through the control socket, and writes on both nodes.
func TestApproval(t *testing.T) {
	up := newSettings(t, state.SignUp, "Desktop")
	up.Config.Listen = []string{"tcp://127.0.0.1:0"}
	desktop := running(t, up)
	var s status.Status
	if err := desktop.asked(t, &s, OpStatus); err != nil || !s.Writable || len(s.Listen) != 1 || s.Words != "" || s.PID != os.Getpid() {
		t.Fatalf("desktop: %+v, %v", s, err)
	}
	in := newSettings(t, state.SignIn, "Laptop")
	in.Config.Peers = s.Listen
	laptop := running(t, in)
	if err := laptop.asked(t, &s, OpStatus); err != nil || s.Writable || len(strings.Fields(s.Words)) != 6 || s.Hyphalink != desktop.link() {
		t.Fatalf("laptop: %+v, %v", s, err)
	}
	words := s.Words
	requests := oneRequest(t, desktop)
	if requests[0].Words != words || requests[0].Node != laptop.directory() || !json.Valid(requests[0].Said) {
		t.Errorf("the request is %+v, the laptop's words are %q", requests[0], words)
	}
	mounted := pending{desktop.inbox}.Requests()
	if len(mounted) != 1 || mounted[0].Words != words+"\n" || mounted[0].Dir != requests[0].Node {
		t.Errorf("in the mount: %+v", mounted)
	}
	if err := desktop.asked(t, nil, OpApprove, requests[0].Node); err != nil {
		t.Fatal(err)
	}
	if _, err := laptop.drive.Make(t.Context(), record.Root, "x", drive.NewInode{Kind: record.File, Mode: 0o644}); err != nil {
		t.Errorf("writing on the laptop as soon as it is approved: %v", err)
	}
	select {
	case <-laptop.approved:
	case <-time.After(patience):
		t.Fatal("the laptop does not hear that it was approved")
	}
	if err := laptop.asked(t, nil, OpSync, ArgPeer); err != nil {
		t.Errorf("sync --peer: %v", err)
	}
	var writers []status.Writer
	if err := desktop.asked(t, &writers, OpNodes); err != nil || len(writers) != 2 {
		t.Fatalf("%+v, %v", writers, err)
	}
	if w := writers[1]; w.Node != laptop.directory() || w.ApprovedBy != desktop.directory() || w.Self || w.Approved == nil || w.LastSeen == nil {
		t.Errorf("the laptop as a writer: %+v", w)
	}
	if texts := desktop.Nodes(); len(texts) != 2 || !bytes.Contains(texts[laptop.directory()], []byte(desktop.directory())) {
		t.Errorf("%q", texts)
	}
	for _, n := range []*Node{desktop, laptop} {
		if err := n.asked(t, nil, OpCheck); err != nil {
			t.Errorf("check: %v", err)
		}
	}
}

// oneRequest waits for one open request at n.
func oneRequest(t *testing.T, n *Node) (requests []status.Request) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); len(requests) != 1; {
		if err := n.asked(t, &requests, OpPending); err != nil {
			t.Fatal(err)
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("open requests: %+v", requests)
		}
	}
	return requests
}

func TestRefusals(t *testing.T) {
	n := running(t, newSettings(t, state.SignUp, "Desktop"))
	for _, c := range []struct {
		op   string
		args []string
		want fault.Code
	}{
		{OpApprove, []string{"laptop-1f2e3d4c"}, fault.Failed},
		{OpDeny, []string{"laptop-1f2e3d4c"}, fault.Failed},
		{OpApprove, nil, fault.Usage},
		{"nonsense", nil, fault.Usage},
		{OpStop, nil, fault.Busy},
		{OpSync, nil, fault.Done},
	} {
		if err := n.asked(t, nil, c.op, c.args...); fault.CodeOf(err) != c.want {
			t.Errorf("%s %q: %v", c.op, c.args, err)
		}
	}
	if err := (pending{n.inbox}).Approve(t.Context(), "laptop-1f2e3d4c"); !errors.Is(err, drive.ErrNotExist) {
		t.Errorf("in the mount: %v", err)
	}
	var _ fs.Control = n
	if text := string(n.Status()); !strings.Contains(text, "writable") || !strings.HasPrefix(string(n.Link()), "hypha://") || !json.Valid(n.StatusJSON()) {
		t.Error(text)
	}
}

func TestRefusalsAreKeptSealed(t *testing.T) {
	n := running(t, newSettings(t, state.SignUp, "Desktop"))
	r := refusals{n.settings.State, n.identity.Identity}
	if got, err := r.Load(); got != nil || err != nil {
		t.Errorf("at first: %q, %v", got, err)
	}
	if err := r.Save([]byte("laptop-1f2e3d4c")); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Load(); string(got) != "laptop-1f2e3d4c" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if sealed, err := n.settings.State.Refusals(); err != nil || bytes.Contains(sealed, []byte("laptop")) {
		t.Errorf("on disk %q, %v", sealed, err)
	}
}

func TestSignThenCheck(t *testing.T) {
	s := newSettings(t, state.SignIn, "Laptop")
	var said []string
	if err := Sign(t.Context(), s, []byte(pass), io.Discard, func(line string) { said = append(said, line) }); err != nil {
		t.Fatal(err)
	}
	if len(said) != 3 || len(strings.Fields(said[1])) != 6 || !strings.Contains(said[2], ".hypha/pending/laptop-") {
		t.Errorf("said %q", said)
	}
	before, err := s.State.Key()
	if err != nil {
		t.Fatal(err)
	}
	s.New = false
	if err := Check(t.Context(), s, []byte(pass), io.Discard); err != nil {
		t.Errorf("check: %v", err)
	}
	if err := Check(t.Context(), s, []byte("another passphrase"), io.Discard); fault.CodeOf(err) != fault.WrongPassphrase {
		t.Errorf("wrong passphrase: %v", err)
	}
	if after, err := s.State.Key(); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the key changed: %v", err)
	}
	if err := os.WriteFile(filepath.Join(string(s.State), "view.db"), []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), s, []byte(pass), io.Discard); err != nil {
		t.Errorf("with a damaged view: %v", err)
	}
	s.New = true
	if err := Sign(t.Context(), s, []byte(pass), io.Discard, func(string) {}); fault.CodeOf(err) != fault.Busy {
		t.Errorf("a second sign-in: %v", err)
	}
}

// deaf is a person who does not listen.
type deaf struct{}

func (deaf) Say(string) {}
func (deaf) Ready()     {}

func TestListenTwice(t *testing.T) {
	s := newSettings(t, state.SignUp, "Desktop")
	s.Config.Listen = []string{"tcp://127.0.0.1:0"}
	n := running(t, s)
	var st status.Status
	if err := n.asked(t, &st, OpStatus); err != nil {
		t.Fatal(err)
	}
	other := newSettings(t, state.SignUp, "Other")
	other.Config.Listen, other.Mount = st.Listen, t.TempDir()
	if err := Run(t.Context(), other, []byte(pass), io.Discard, deaf{}); fault.CodeOf(err) != fault.Failed || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("got %v", err)
	}
}

// FuzzKeyFile: what is taken for the secrets of a node has all that this node needs.
func FuzzKeyFile(f *testing.F) {
	source := hypercore.Key{1}
	f.Add([]byte(`{"source":"`+source.String()+`"}`), true)
	f.Add([]byte(`{"source":"`+source.String()+`","writer":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`), false)
	f.Fuzz(func(t *testing.T, plain []byte, origin bool) {
		role := state.SignIn
		if origin {
			role = state.SignUp
		}
		file, err := parseKeyFile(plain, source, role)
		switch {
		case err != nil && !errors.Is(err, state.ErrDamaged):
			t.Fatal(err)
		case err == nil && (file.Source != source.String() || !origin && len(file.Writer) != 32):
			t.Fatalf("%q was taken", plain)
		}
	})
}
