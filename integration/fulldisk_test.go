package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestFullDisk fills the disk under a state directory. Writes fail with ENOSPC when they are made or fsynced, never later; what was taken is there, reading and
// deleting go on, and when there is room again everything is published.
func TestFullDisk(t *testing.T) {
	need(t, os.Getuid() == 0, "root, to mount a small file system")
	n := newNode(t, "Hypha")
	if err := os.Mkdir(n.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", n.state, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.stop()
		if err := syscall.Unmount(n.state, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	n.signUp("Desktop")
	kept := map[string][]byte{}
	full := 0
	for i := 0; full < 20 && i < 2000; i++ {
		name := fmt.Sprintf("file %04d", i)
		data := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 20_000+1000*(i%100))
		switch err := writeDurably(n.dir, name, data); {
		case err == nil:
			kept[name] = data
		case errors.Is(err, syscall.ENOSPC):
			full++
		default:
			t.Fatalf("%s: %v", name, err)
		}
	}
	if full == 0 || len(kept) < 10 {
		t.Fatalf("%d files fit, %d times the disk was full", len(kept), full)
	}
	t.Logf("%d files fit; unpublished: %+v", len(kept), n.status().Unpublished)
	all := func() {
		t.Helper()
		for name, data := range kept {
			if got, err := os.ReadFile(filepath.Join(n.dir, name)); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%s: %d bytes of %d, %v", name, len(got), len(data), err)
			}
		}
	}
	all()
	if err := os.Remove(filepath.Join(n.dir, "file 0000")); err != nil {
		t.Errorf("delete on a full disk: %v", err)
	}
	delete(kept, "file 0000")
	if out, err := exec.Command("df", n.dir).CombinedOutput(); err != nil {
		t.Errorf("df: %v\n%s", err, out)
	}
	if err := syscall.Mount("tmpfs", n.state, "tmpfs", syscall.MS_REMOUNT, "size=200m"); err != nil {
		t.Fatal(err)
	}
	if err := writeDurably(n.dir, "with room", []byte("again")); err != nil {
		t.Fatal(err)
	}
	kept["with room"] = []byte("again")
	if out, err := n.run("sync", n.dir); err != nil {
		t.Fatalf("sync: %v\n%s", err, out)
	}
	if u := n.status().Unpublished; u.Files != 0 {
		t.Errorf("unpublished with room: %+v", u)
	}
	all()
	n.stop()
	n.check()
	n.mount()
	all()
}
