package background

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
)

// order is what the tests hand over; Do says how the re-executed test binary behaves.
type order struct {
	Do string `json:"do"`
}

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "as-node" {
		os.Exit(asNode())
	}
	os.Exit(m.Run())
}

// asNode is the background side.
func asNode() int {
	var o order
	n, secret, err := Inherited(&o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	switch o.Do {
	case "ready":
		n.Say("first " + string(secret))
		n.Say("second")
		n.Ready()
		if n.Fail(errors.New("too late")) {
			return 2
		}
	case "fail":
		n.Fail(fault.New(fault.WrongPassphrase, "try again", "it does not\nopen"))
		return 5
	case "plain":
		n.Fail(fmt.Errorf("wrapped: %w", fault.New(fault.Busy, "wait", "busy")))
	case "vanish":
		fmt.Println("last words")
	case "hang":
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		n.Say("waiting")
		<-stop
	}
	return 0
}

func run(t *testing.T, ctx context.Context, do string, say func(string)) (string, error) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	err := start(ctx, "/proc/self/exe", []string{"node", "as-node"}, order{Do: do}, []byte("se\ncret"), log, say)
	text, readErr := os.ReadFile(log)
	if readErr != nil {
		t.Fatal(readErr)
	}
	return string(text), err
}

func TestReady(t *testing.T) {
	var said []string
	if log, err := run(t, t.Context(), "ready", func(s string) { said = append(said, s) }); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if got := strings.Join(said, "|"); got != "first se\ncret|second" {
		t.Errorf("said %q", got)
	}
}

func TestFailuresComeBack(t *testing.T) {
	for _, c := range []struct {
		do   string
		code fault.Code
		text string
	}{
		{"fail", fault.WrongPassphrase, "it does not, open; try again"},
		{"plain", fault.Busy, "wrapped: busy; wait"},
		{"vanish", fault.Failed, "the node ended before it was ready; see "},
	} {
		log, err := run(t, t.Context(), c.do, func(string) {})
		if err == nil || !strings.HasPrefix(err.Error(), c.text) || fault.CodeOf(err) != c.code {
			t.Errorf("%s: got %v (%d)", c.do, err, fault.CodeOf(err))
		}
		if c.do == "vanish" && !strings.Contains(log, "last words") {
			t.Errorf("the log has %q", log)
		}
	}
}

func TestInterruptStopsTheNode(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := run(t, ctx, "hang", func(string) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestOldLogIsKept(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, make([]byte, 4<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openLog(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(log + ".old"); err != nil || info.Size() != 4<<20+1 {
		t.Errorf("old log: %v", err)
	}
}

func TestInheritedNeedsThePipes(t *testing.T) {
	cmd := []string{"node", "as-node"}
	p, err := os.StartProcess("/proc/self/exe", cmd, &os.ProcAttr{Files: []*os.File{nil, nil, nil}})
	if err != nil {
		t.Fatal(err)
	}
	st, err := p.Wait()
	if err != nil || st.ExitCode() != 2 {
		t.Errorf("exit %v, %v", st, err)
	}
}

func TestFollowRefusesNoise(t *testing.T) {
	for _, in := range []string{"noise\n", strings.Repeat("x", maxReport+1)} {
		if ready, err := follow(strings.NewReader(in), func(string) {}); err == nil || ready {
			t.Errorf("%.10q was taken", in)
		}
	}
}

// FuzzFollow: whatever a starting node says, the command is told lines and one end.
func FuzzFollow(f *testing.F) {
	f.Add(`{"say":"words"}` + "\n" + `{"ready":true}` + "\n")
	f.Add(`{"code":5,"error":"wrong","next":"try again"}`)
	f.Fuzz(func(t *testing.T, text string) {
		said := 0
		ready, err := follow(strings.NewReader(text), func(string) { said++ })
		if ready && err != nil || said > strings.Count(text, "\n")+1 {
			t.Fatalf("%q: ready %v, %v, %d lines", text, ready, err, said)
		}
	})
}
