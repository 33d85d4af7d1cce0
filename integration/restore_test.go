package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// copyState copies a state directory as a backup does.
func copyState(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
}

// inDoubt checks that n says its store may be an older copy and refuses changes.
func (n *node) inDoubt() {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, "refused"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		n.t.Errorf("a change of a store in doubt: %v", err)
	}
	out, err := n.run("status", n.dir)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(out, "ALARM") || !strings.Contains(out, "--trust-store") {
		n.t.Errorf("status of a store in doubt: %v\n%s", err, out)
	}
}

// TestRestoredStore brings a node back from a backup that lacks what the node wrote since. Alone it writes nothing; when a peer tells what is missing it takes that over and
// goes on behind it: nothing forks, nothing is lost.
func TestRestoredStore(t *testing.T) {
	for name, stop := range map[string]func(*node){"clean backup": (*node).stop, "backup of a killed node": (*node).kill} {
		t.Run(name, func(t *testing.T) {
			desktop, laptop := pair(t)
			laptop.stop()
			laptop.mount() // so that a kill does not make it forget its approval
			put := func(n *node, name string) {
				t.Helper()
				if err := writeDurably(n.dir, name, []byte(strings.Repeat(name, 30_000))); err != nil {
					t.Fatal(err)
				}
				if out, err := n.run("sync", "--peer", n.dir); err != nil {
					t.Fatalf("sync: %v\n%s", err, out)
				}
			}
			url := desktop.listening()
			put(laptop, "before")
			stop(laptop)
			backup := filepath.Join(filepath.Dir(laptop.state), "backup")
			copyState(t, laptop.state, backup)
			laptop.mount()
			put(laptop, "after")
			laptop.kill()
			desktop.stop()
			if err := os.RemoveAll(laptop.state); err != nil {
				t.Fatal(err)
			}
			copyState(t, backup, laptop.state)
			laptop.mount()
			laptop.inDoubt()
			if _, err := os.ReadFile(filepath.Join(laptop.dir, "before")); err != nil {
				t.Errorf("reading goes on: %v", err)
			}
			laptop.stop()
			laptop.mount() // the doubt stays
			laptop.inDoubt()
			desktop.mount("--listen", url)
			eventually(t, "the restored node writable", func() bool { return laptop.status().Writable })
			put(laptop, "again")
			same(t, desktop, laptop)
			for _, n := range []*node{desktop, laptop} {
				for _, name := range []string{"before", "after", "again"} {
					if got, err := os.ReadFile(filepath.Join(n.dir, name)); err != nil || len(got) != len(name)*30_000 {
						t.Errorf("%s: %d bytes, %v", name, len(got), err)
					}
				}
				if s := n.status(); len(s.Alarms) > 0 || s.Conflicts > 0 {
					t.Errorf("alarms %v, %d conflicts", s.Alarms, s.Conflicts)
				}
				n.stop()
				n.check()
			}
			laptop.mount() // it is the newest of itself from now on
			if !laptop.status().Writable {
				t.Error("in doubt again")
			}
		})
	}
}

// TestTrustStore moves a node without peers to another directory: its person has to say that this is the newest of it, once.
func TestTrustStore(t *testing.T) {
	n := newNode(t, "Hypha")
	n.signUp("Desktop")
	if err := writeDurably(n.dir, "before", []byte("text")); err != nil {
		t.Fatal(err)
	}
	n.stop()
	moved := n.state + " moved"
	copyState(t, n.state, moved)
	for i, arg := range n.flags {
		if arg == n.state {
			n.flags[i] = moved
		}
	}
	n.state = moved
	n.mount()
	n.inDoubt()
	n.stop()
	n.mount("--trust-store")
	if err := writeDurably(n.dir, "after", []byte("text")); err != nil {
		t.Fatal(err)
	}
	n.kill()
	n.mount()
	if s := n.status(); !s.Writable || len(s.Alarms) > 0 {
		t.Errorf("writable %v, alarms %v", s.Writable, s.Alarms)
	}
	n.stop()
	n.check()
}
