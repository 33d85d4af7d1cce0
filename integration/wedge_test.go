package integration

import (
	"errors"
	"os"
	"path/filepath"
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
