package sdnotify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manager listens as a service manager does and returns the environment of a service.
func manager(t *testing.T, name string) (*net.UnixConn, map[string]string) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, map[string]string{"NOTIFY_SOCKET": name}
}

// heard returns the next datagram.
func heard(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func from(env map[string]string, log *slog.Logger) *Manager {
	return FromEnv(func(name string) string { return env[name] }, log)
}

func TestLife(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "s"), fmt.Sprintf("@hyphafs-test-%d", os.Getpid())} {
		conn, env := manager(t, name)
		env["WATCHDOG_USEC"] = "30000"
		m := from(env, slog.New(slog.DiscardHandler))
		m.Ready("well\nMAINPID=1")
		if got, want := heard(t, conn), fmt.Sprintf("READY=1\nMAINPID=%d\nSTATUS=well MAINPID=1", os.Getpid()); got != want {
			t.Errorf("ready: %q, want %q", got, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx, func() string { return "alive" }) }() // ends with cancel, received below
		for range 2 {
			if got := heard(t, conn); got != "STATUS=alive\nWATCHDOG=1" {
				t.Errorf("running: %q", got)
			}
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		m.Stopping()
		for got := heard(t, conn); got != "STOPPING=1\nSTATUS=stopping"; got = heard(t, conn) {
			if got != "STATUS=alive\nWATCHDOG=1" { // one that was on its way
				t.Fatalf("stopping: %q", got)
			}
		}
	}
}

// TestHanging: a process that cannot say how it is falls silent.
func TestHanging(t *testing.T) {
	conn, env := manager(t, filepath.Join(t.TempDir(), "s"))
	env["WATCHDOG_USEC"] = "3000"
	m := from(env, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	asked, free, ended := make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
	go func() { // ends with cancel, received below
		ended <- m.Run(ctx, func() string {
			select {
			case asked <- struct{}{}:
			default:
			}
			<-free
			return "back"
		})
	}()
	<-asked
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("said %d bytes while it hung, %v", n, err)
	}
	cancel()
	close(free)
	<-ended
}

func TestWatchdog(t *testing.T) {
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"2000000", "", 2 * time.Second}, {"2000000", fmt.Sprint(os.Getpid()), 2 * time.Second}, {"2000000", "1", 0},
		{"", "", 0}, {"-1", "", 0}, {"x", "", 0}, {"99999999999999999999", "", 0},
	} {
		m := from(map[string]string{"WATCHDOG_USEC": c.usec, "WATCHDOG_PID": c.pid}, nil)
		if m.watchdog != c.want {
			t.Errorf("%q of pid %q: %v", c.usec, c.pid, m.watchdog)
		}
	}
}

func TestNobodyListens(t *testing.T) {
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	m := from(nil, log)
	m.Ready("x")
	m.Stopping()
	if err := m.Run(t.Context(), func() string { t.Error("asked for nobody"); return "" }); err != nil {
		t.Error(err)
	}
	if logged.Len() > 0 {
		t.Errorf("without a manager: %s", logged.String())
	}
	for _, socket := range []string{"nonsense", filepath.Join(t.TempDir(), "gone"), "/" + strings.Repeat("x", 200)} {
		logged.Reset()
		from(map[string]string{"NOTIFY_SOCKET": socket}, log).Ready("x")
		if !strings.Contains(logged.String(), "was not told") {
			t.Errorf("%.20s: logged %q", socket, logged.String())
		}
	}
}
