package integration

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestForeignNamespace ends a node while another mount namespace holds its mount, with a file open for writing in it. The node ends all the same and says why
// the other one sees an error from then on; what was written there before is published.
func TestForeignNamespace(t *testing.T) {
	need(t, os.Getuid() == 0, "root, to make a mount namespace")
	needCommand(t, "unshare")
	for name, end := range map[string]func(t *testing.T, n *node, holder int){
		"umount": func(t *testing.T, n *node, holder int) {
			out, err := n.run("umount", n.dir)
			if err != nil || strings.Count(out, "\n") != 1 || !strings.Contains(out, fmt.Sprintf("process %d (sh)", holder)) {
				t.Errorf("umount: %v\n%s", err, out)
			}
		},
		"signal": func(t *testing.T, n *node, holder int) {
			if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, "Hypha")
			n.signUp("Desktop")
			h := holdMount(t, n.dir)
			end(t, n, h.cmd.Process.Pid)
			select {
			case err := <-n.ended:
				n.cmd = nil
				if err != nil {
					t.Errorf("the node ended: %v", err)
				}
			case <-time.After(patience):
				n.kill()
				t.Fatalf("the node did not end within %v", patience)
			}
			if said := n.stderr.String(); name == "signal" && !strings.Contains(said, fmt.Sprintf("process %d (sh)", h.cmd.Process.Pid)) {
				t.Errorf("the log does not say who held the mount:\n%s", said)
			}
			if got := h.say("go on"); got != "refused" {
				t.Errorf("a write in the other namespace after the end: %s", got)
			}
			n.mount()
			if got, err := os.ReadFile(filepath.Join(n.dir, "held")); string(got) != "durable\n" {
				t.Errorf("the file holds %q, %v", got, err)
			}
			n.stop()
			n.check()
		})
	}
}

// holder is a shell in a mount namespace of its own that has a file of the mount open.
type holder struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

// holdMount starts a holder that wrote a line into the file held of dir, and ends it with the test.
func holdMount(t *testing.T, dir string) *holder {
	t.Helper()
	h := &holder{t: t, cmd: exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`exec 3>"$0/held" && echo durable >&3 && echo open && read go && { echo late >&3 && echo taken || echo refused; } 2>/dev/null`, dir)}
	in, err := h.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = h.cmd.Wait() // killed, or failed because the mount is gone
	})
	h.in, h.out = in, bufio.NewScanner(out)
	if got := h.line(); got != "open" {
		t.Fatalf("the other namespace said %q", got)
	}
	return h
}

// say sends a line and returns the answer.
func (h *holder) say(line string) string {
	h.t.Helper()
	if _, err := io.WriteString(h.in, line+"\n"); err != nil {
		h.t.Fatal(err)
	}
	return h.line()
}

func (h *holder) line() string {
	h.t.Helper()
	if !h.out.Scan() {
		h.t.Fatalf("the other namespace went away: %v", h.out.Err())
	}
	return h.out.Text()
}
