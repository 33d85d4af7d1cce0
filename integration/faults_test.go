package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"hyphafs.org/hyphafs/integration/faultfs"
)

// TestFailingDisk lets a disk fail under a running node in many ways, kills the node, and starts it on the disk, well again: it comes back by itself,
// shows everything that was acknowledged, publishes it, and checks clean. Package powerloss tries what a loss of power takes.
func TestFailingDisk(t *testing.T) {
	need(t, os.Getuid() == 0, "root, to use a mount of another process")
	n := newNode(t, "Hypha")
	if err := os.Mkdir(n.state, 0o700); err != nil {
		t.Fatal(err)
	}
	disk, err := faultfs.Start(n.state, faultfs.NewDisk())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.stop()
		if err := disk.Stop(); err != nil {
			t.Error(err)
		}
	})
	n.signUp("Desktop")
	kept := map[string][]byte{}
	write := func(round string) (failed int) {
		for i := range 12 {
			name := fmt.Sprintf("%s %d", round, i)
			data := bytes.Repeat([]byte(name), []int{1, 1000, 20_000}[i%3])
			if err := writeDurably(n.dir, name, data); err == nil {
				kept[name] = data
			} else {
				failed++
			}
		}
		return failed
	}
	all := func(when string) {
		t.Helper()
		for name, data := range kept {
			if got, err := os.ReadFile(filepath.Join(n.dir, name)); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%s: %s was fsynced with %d bytes and is %d bytes, %v", when, name, len(data), len(got), err)
			}
		}
	}
	if failed := write("on a good disk"); failed > 0 {
		t.Fatalf("%d writes failed", failed)
	}
	for _, c := range []struct {
		name string
		rule faultfs.Rule
	}{
		{"no fsync below work", faultfs.Rule{Kinds: []faultfs.Kind{faultfs.Sync}, Path: "work/", Skip: 2, Count: 3, Errno: syscall.EIO}},
		{"fsync done and reported failed", faultfs.Rule{Kinds: []faultfs.Kind{faultfs.Sync}, Skip: 3, Count: 3, Errno: syscall.EIO, Stored: true}},
		{"writes fail below work", faultfs.Rule{Kinds: []faultfs.Kind{faultfs.Write}, Path: "work/", Skip: 4, Count: 5, Errno: syscall.EIO}},
		{"writes done and reported failed", faultfs.Rule{Kinds: []faultfs.Kind{faultfs.Write}, Path: "work/", Skip: 5, Count: 5, Errno: syscall.EIO, Stored: true}},
		{"no space for feeds", faultfs.Rule{Kinds: []faultfs.Kind{faultfs.Write}, Path: "feeds/", Errno: syscall.ENOSPC}},
		{"feeds fail though stored", faultfs.Rule{Path: "feeds/", Skip: 3, Count: 4, Errno: syscall.EIO, Stored: true}},
		{"short writes", faultfs.Rule{Kinds: []faultfs.Kind{faultfs.Write}, Short: true}},
		{"no space at all", faultfs.Rule{Skip: 6, Errno: syscall.ENOSPC}},
		{"no view", faultfs.Rule{Path: "view.db", Errno: syscall.EIO}},
	} {
		if err := disk.Inject(c.rule); err != nil {
			t.Fatal(err)
		}
		failed := write(c.name)
		_, syncErr := n.run("sync", n.dir)
		all(c.name)
		t.Logf("%s: %d of 12 files failed; sync: %v", c.name, failed, syncErr)
		if err := disk.Inject(faultfs.Rule{}); err != nil {
			t.Fatal(err)
		}
		n.kill()
		n.mount()
		all(c.name + ", started again")
		if out, err := n.run("sync", n.dir); err != nil {
			t.Errorf("%s: sync: %v\n%s", c.name, err, out)
		}
		if s := n.status(); s.Unpublished.Files > 0 || len(s.Alarms) > 0 || s.Conflicts > 0 {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
	n.stop()
	n.check()
	coldView(t, n, &disk)
	all("without a view")
}

// coldView starts the node on a disk that cannot read its view: it makes another or ends, and comes back when the disk is well.
func coldView(t *testing.T, n *node, disk **faultfs.FS) {
	t.Helper()
	log, err := (*disk).Log()
	if err == nil {
		err = (*disk).Stop()
	}
	if err != nil {
		t.Fatal(err)
	}
	again, err := faultfs.Start(n.state, log.Crash(len(log.Ops), faultfs.Kept, nil))
	if err != nil {
		t.Fatal(err)
	}
	*disk = again
	if err := again.Inject(faultfs.Rule{Kinds: []faultfs.Kind{faultfs.Read}, Path: "view.db", Skip: 1, Errno: syscall.EIO}); err != nil {
		t.Fatal(err)
	}
	if err := n.tryMount(); err != nil { // the new one may be as hard to read: then it says so, and ends
		t.Logf("with a view that cannot be read: %v", err)
	}
	if err := again.Inject(faultfs.Rule{}); err != nil {
		t.Fatal(err)
	}
	if n.cmd != nil {
		n.kill()
	}
	n.mount()
}
