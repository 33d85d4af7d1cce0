package integration

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serviceManager listens on a notification socket, as systemd does, and puts it into the environment of what the test starts.
func serviceManager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "300000")
	return conn
}

// told returns the next datagram that has the line want.
func told(t *testing.T, conn *net.UnixConn, want string) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 4096); ; {
		n, err := conn.Read(b)
		if err != nil {
			t.Fatalf("waiting for %s: %v", want, err)
		}
		text := string(b[:n])
		for _, private := range []string{"anna", "Desktop", "127.0.0.1", scratch} {
			if strings.Contains(text, private) {
				t.Errorf("the service manager, which tells everybody, was told %q: %q", private, text)
			}
		}
		if strings.Contains("\n"+text+"\n", "\n"+want+"\n") {
			return text
		}
	}
}

// TestNotify plays the service manager of a mount: in the foreground and in the background it hears that the mount is ready when it answers, that
// the node lives, and that it stops.
func TestNotify(t *testing.T) {
	manager := serviceManager(t)
	n := newNode(t, "Hypha")
	n.signUp("Desktop")
	want := fmt.Sprintf("MAINPID=%d", n.cmd.Process.Pid)
	if text := told(t, manager, "READY=1"); !strings.Contains(text, want) || !strings.Contains(text, "STATUS=writable, 0 peers") {
		t.Errorf("ready: %q, want %s", text, want)
	}
	told(t, manager, "WATCHDOG=1")
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	told(t, manager, "STOPPING=1")
	if err := <-n.ended; err != nil {
		t.Error(err)
	}
	n.cmd = nil

	if out, err := n.run(append(append([]string{"mount"}, n.flags...), n.dir)...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pid := n.status().PID
	if text := told(t, manager, "READY=1"); !strings.Contains(text, fmt.Sprintf("MAINPID=%d", pid)) {
		t.Errorf("in the background: %q, the node is %d", text, pid)
	}
	told(t, manager, "WATCHDOG=1")
	if out, err := n.run("umount", n.dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	told(t, manager, "STOPPING=1")
}

// analyzed runs systemd-analyze on the unit that hyphafs prints for args, and returns what it says and the unit.
func analyzed(t *testing.T, tool []string, args ...string) (said, unit string) {
	t.Helper()
	needCommand(t, "systemd-analyze")
	text, err := exec.Command(binary, append([]string{"service"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "hyphafs.service")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("systemd-analyze", append(tool, path)...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s\n%s", cmd.Args, err, out, text)
	}
	return string(bytes.TrimSpace(out)), string(text)
}

// TestUnits: systemd understands every line of the units that hyphafs prints.
func TestUnits(t *testing.T) {
	said, unit := analyzed(t, []string{"--user", "verify"}, "mount", "--state", "S %t", "--passphrase-file", "p", "--peer", "tcp://server:4000", "-o", "ro", "A \"$HOME\"/Hypha")
	if said != "" {
		t.Errorf("systemd-analyze verify: %s\n%s", said, unit)
	}
	for _, want := range []string{"LoadCredential=passphrase:/", "\nType=notify\n", ` "--state=/`, `/S %%t"`, `\"$$HOME\"/Hypha"`, "--peer=tcp://server:4000"} {
		if !strings.Contains(unit, want) {
			t.Errorf("no %s in\n%s", want, unit)
		}
	}
	if strings.Contains(unit, "--passphrase") {
		t.Errorf("the unit names the passphrase's file twice:\n%s", unit)
	}
}

// TestServeUnit: systemd understands every line of the unit, and rates the service as little exposed: 1.5 of 10, where 2 is safe.
func TestServeUnit(t *testing.T) {
	args := []string{"serve", "--tls-domain", "anna.example", "--adopt", "--max-bytes", "10G"}
	if said, unit := analyzed(t, []string{"verify"}, args...); said != "" {
		t.Errorf("systemd-analyze verify: %s\n%s", said, unit)
	}
	analyzed(t, []string{"security", "--no-pager", "--offline=true", "--threshold=15"}, args...) // fails above
}
