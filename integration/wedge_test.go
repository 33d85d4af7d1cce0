package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKillWhileAReadWaits kills a node while a program waits for a block that no peer has, of a file that another peer changed meanwhile. The kernel must let the process go,
// which it does not while one of its threads waits in the kernel for the page that the program waits for, and the next mount must work.
func TestKillWhileAReadWaits(t *testing.T) {
	desktop, phone, laptop := newNode(t, "Hypha"), newNode(t, "P"), newNode(t, "B")
	desktop.signUp("Desktop")
	v := newValve(t, desktop.listening())
	phone.signIn("Phone", v.url())
	touch(t, filepath.Join(desktop.pending(), "approve"))
	eventually(t, "the phone writable", func() bool { return phone.status().Writable })
	laptop.signIn("Laptop", phone.listening(), "--read-timeout", longWait.String())
	touch(t, filepath.Join(phone.pending(), "approve"))
	eventually(t, "the laptop writable", func() bool { return laptop.status().Writable })
	makeBig(t, filepath.Join(desktop.dir, "big"), silentBytes)
	eventually(t, "the big file's name", func() bool {
		for _, n := range []*node{phone, laptop} {
			if info, err := os.Stat(filepath.Join(n.dir, "big")); err != nil || info.Size() != silentBytes {
				return false
			}
		}
		return true
	})
	v.turn(false)

	reader := waitingFor(t, laptop, "os.pread(f, 10, at)", neverBytes)
	if err := os.Chmod(filepath.Join(phone.dir, "big"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(phone.dir, "after"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what the phone changed", func() bool {
		_, err := os.Stat(filepath.Join(laptop.dir, "after"))
		return err == nil
	})
	laptop.killed(t)
	select {
	case <-reader.ended:
	case <-time.After(atOnce):
		t.Error("the program goes on waiting for a node that is dead")
	}
	quickly(t, "mount", func() error { return laptop.tryMount() })
}

// TestMountOverADyingNode mounts where a node was killed that cannot end, as the kernel waits in it: it is cut off, by umount and by mount. One that lives and does not answer is left alone.
func TestMountOverADyingNode(t *testing.T) {
	n := newNode(t, "Hypha")
	need(t, os.Geteuid() == 0, "root: others cannot cut a mount off without fusectl")
	n.signUp("Desktop")
	n.stop()
	for _, clear := range []string{"umount", "mount"} {
		t.Run(clear, func(t *testing.T) {
			w := startWedge(t, n)
			if clear == "umount" {
				w.stopped(t, n)
			}
			read := exec.Command("cat", filepath.Join(n.dir, wedgeName))
			if err := read.Start(); err != nil {
				t.Fatal(err)
			}
			looks := 0
			eventually(t, "the kernel to wait", func() bool {
				if looks++; !strings.Contains(w.states(t), "D") { // not to be woken
					looks = 0
				}
				return looks >= 5
			})
			if err := w.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "its other threads to end", func() bool { return strings.Trim(w.states(t), "ZD") == "" })
			quickly(t, clear, func() error {
				if clear == "umount" {
					out, err := n.run("umount", n.dir)
					return errors.Join(err, notEmpty(out))
				}
				return n.tryMount()
			})
			quickly(t, "the process to end", func() error { <-w.ended; return nil })
			if err := read.Wait(); err == nil {
				t.Error("somebody got what nobody sent")
			}
		})
	}
	n.stop()
	n.check()
}

func notEmpty(said string) error {
	if said == "" {
		return nil
	}
	return errors.New(said)
}

// wedged is a process that runs wedge.
type wedged struct {
	cmd   *exec.Cmd
	ended chan error
}

// startWedge returns when the process has mounted in the place of n.
func startWedge(t *testing.T, n *node) *wedged {
	t.Helper()
	w := &wedged{exec.Command(os.Args[0]), make(chan error, 1)}
	w.cmd.Dir = n.state
	w.cmd.Env = append(os.Environ(), asWedge+"="+n.dir)
	w.cmd.Stderr = n.stderr
	ready := &readyWriter{line: "ready " + n.dir, seen: make(chan struct{})}
	w.cmd.Stdout = ready
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { w.ended <- w.cmd.Wait(); close(w.ended) }() // the end of the test sees to that
	t.Cleanup(func() {
		if t.Failed() {
			_ = w.cmd.Process.Kill()
			_ = syscall.Unmount(n.dir, syscall.MNT_FORCE|syscall.MNT_DETACH)
		}
		<-w.ended
	})
	select {
	case <-ready.seen:
	case err := <-w.ended:
		t.Fatalf("the process ended: %v", err)
	case <-time.After(patience):
		t.Fatal("not mounted in time")
	}
	return w
}

// stopped lets the process live without an answer: nobody may take its mount away.
func (w *wedged) stopped(t *testing.T, n *node) {
	t.Helper()
	if err := w.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process to stop", func() bool { return strings.Trim(w.states(t), "T") == "" })
	quickly(t, "mount over a node that does not answer", func() error {
		if err := n.tryMount(); err == nil || !strings.Contains(n.stderr.String(), "does not answer") {
			return fmt.Errorf("%v\n%s", err, n.stderr)
		}
		return nil
	})
	if err := w.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(n.dir, wedgeName)); err != nil || info.Size() != 1 {
		t.Errorf("the mount of a node that lives: %v, %v", info, err)
	}
}

// states has the letter of proc_pid_stat(5) for each of its threads.
func (w *wedged) states(t *testing.T) string {
	t.Helper()
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", w.cmd.Process.Pid))
	if err != nil || len(stats) == 0 {
		t.Fatalf("the process is gone: %v", err)
	}
	var states []byte
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if _, after, ok := strings.Cut(string(text), ") "); err == nil && ok {
			states = append(states, after[0])
		}
	}
	return string(states)
}

// killed kills the node and fails the test if the kernel keeps the process.
func (n *node) killed(t *testing.T) {
	t.Helper()
	if err := n.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-n.ended:
		n.cmd = nil
	case <-time.After(atOnce):
		if err := syscall.Unmount(n.dir, syscall.MNT_FORCE|syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EBUSY) {
			t.Error(err)
		}
		<-n.ended
		n.cmd = nil
		t.Fatal("the process that was killed stays")
	}
}
