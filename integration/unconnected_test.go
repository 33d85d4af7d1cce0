package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestUnconnected: a person whose node reaches nobody is told so, and why, by status and by sync --peer.
func TestUnconnected(t *testing.T) {
	n := newNode(t, "Desktop", "--peer", "tcp://127.0.0.1:1")
	hidden := filepath.Join(n.dir, "made while it was not mounted")
	if err := os.WriteFile(hidden, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n.mount("--sign-up", "--domain", "anna.example")
	if !strings.Contains(n.stderr.String(), n.dir+" is not empty; what is in it is hidden") {
		t.Errorf("mounted over a file: %s", n.stderr)
	}
	const why = "tcp://127.0.0.1:1 not connected: dial tcp 127.0.0.1:1: connect: connection refused"
	eventually(t, "a reason in status", func() bool {
		text, err := n.run("status", n.dir)
		return err == nil && strings.Contains(text, "peers       0\n  "+why+"\n")
	})
	said := &lockedBuffer{}
	waiting := exec.Command(binary, "sync", "--peer", n.dir)
	waiting.Stderr = said
	if err := waiting.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what sync --peer waits for", func() bool {
		return strings.Contains(said.String(), "waiting for a peer, none is connected (tcp://127.0.0.1:1: dial")
	})
	if err := waiting.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	if err := waiting.Wait(); err == nil {
		t.Error("sync --peer succeeded without a peer")
	}
}
