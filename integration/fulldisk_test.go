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

// smallDisks are kinds of disk that fill soon, and how each is mounted and made larger.
var smallDisks = map[string]struct {
	mount   func(t *testing.T, dir string)
	enlarge func(t *testing.T, dir string)
}{
	"tmpfs": {
		func(t *testing.T, dir string) {
			if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
				t.Fatal(err)
			}
		},
		func(t *testing.T, dir string) {
			if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=200m"); err != nil {
				t.Fatal(err)
			}
		},
	},
	"ext4": {
		func(t *testing.T, dir string) {
			sh(t, "truncate -s 128M $0.img && mkfs.ext4 -q -F -m 0 -J size=4 $0.img && mount -o loop $0.img $0", dir)
			var s syscall.Statfs_t
			if err := syscall.Statfs(dir, &s); err != nil {
				t.Fatal(err)
			}
			sh(t, "fallocate -l $1 $0/ballast", dir, fmt.Sprint(int64(s.Bavail)*s.Bsize-28<<20))
		},
		func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
				t.Fatal(err)
			}
		},
	},
}

// sh runs a line of shell.
func sh(t *testing.T, line string, args ...string) {
	t.Helper()
	if out, err := exec.Command("sh", append([]string{"-c", line}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// onSmallDisk makes a node on a small disk and calls fill, which fills it. What fill returns was taken; it is all there, reading and deleting go on, everything is
// published although the disk is full, and when there is room writing goes on.
func onSmallDisk(t *testing.T, fill func(t *testing.T, n *node) map[string][]byte) {
	need(t, os.Getuid() == 0, "root, to mount a small file system")
	for kind, disk := range smallDisks {
		t.Run(kind, func(t *testing.T) {
			if kind == "ext4" {
				_, err := os.Stat("/dev/loop-control")
				need(t, err == nil, "loop devices")
				needCommand(t, "mkfs.ext4")
			}
			n := newNode(t, "Hypha")
			if err := os.Mkdir(n.state, 0o700); err != nil {
				t.Fatal(err)
			}
			disk.mount(t, n.state)
			t.Cleanup(func() {
				n.stop()
				if err := syscall.Unmount(n.state, syscall.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			n.signUp("Desktop")
			kept := fill(t, n)
			all := func() {
				t.Helper()
				for name, data := range kept {
					if got, err := os.ReadFile(filepath.Join(n.dir, name)); err != nil || !bytes.Equal(got, data) {
						t.Fatalf("%s: %d bytes of %d, %v", name, len(got), len(data), err)
					}
				}
			}
			all()
			if out, err := exec.Command("df", n.dir).CombinedOutput(); err != nil {
				t.Errorf("df: %v\n%s", err, out)
			}
			if out, err := n.run("sync", n.dir); err != nil {
				t.Fatalf("sync on the full disk: %v\n%s", err, out)
			}
			if u := n.status().Unpublished; u.Files != 0 {
				t.Errorf("on the full disk unpublished: %+v", u)
			}
			for name := range kept {
				if err := os.Remove(filepath.Join(n.dir, name)); err != nil {
					t.Errorf("delete on a full disk: %v", err)
				}
				delete(kept, name)
				break
			}
			n.kill()
			n.mount()
			all()
			disk.enlarge(t, n.state)
			if err := writeDurably(n.dir, "with room", []byte("again")); err != nil {
				t.Fatal(err)
			}
			kept["with room"] = []byte("again")
			all()
			n.stop()
			n.check()
			n.mount()
			all()
		})
	}
}

// TestFullDisk fills the disk with files. Writes fail with ENOSPC when they are made or fsynced, never later.
func TestFullDisk(t *testing.T) {
	onSmallDisk(t, func(t *testing.T, n *node) map[string][]byte {
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
		if full == 0 || len(kept) < 50 {
			t.Fatalf("%d files fit, %d times the disk was full", len(kept), full)
		}
		t.Logf("%d files fit; unpublished: %+v", len(kept), n.status().Unpublished)
		return kept
	})
}

// TestFullDiskOneFile fills the disk with one file that stays open, and then writes over its parts, each fsynced, as databases do.
func TestFullDiskOneFile(t *testing.T) {
	onSmallDisk(t, func(t *testing.T, n *node) map[string][]byte {
		const piece = 100_000
		f, err := os.Create(filepath.Join(n.dir, "database"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var data []byte
		write := func(off int, b []byte) bool {
			_, err := f.WriteAt(b, int64(off))
			switch {
			case errors.Is(err, syscall.ENOSPC): // a part of it may be there, of which os.File says nothing
				if err := f.Truncate(int64(len(data))); err != nil {
					t.Fatal(err)
				}
				return false
			case err != nil:
				t.Fatalf("write at %d: %v", off, err)
			}
			data = append(data, make([]byte, max(off+len(b)-len(data), 0))...)
			copy(data[off:], b)
			if err := f.Sync(); err != nil {
				t.Fatalf("fsync of what was taken: %v", err)
			}
			return true
		}
		for i := 0; write(i*piece, bytes.Repeat([]byte{byte(i + 1)}, piece)); i++ {
			if i > 1000 {
				t.Fatal("the disk is not full")
			}
		}
		if len(data) < 5*piece {
			t.Fatalf("%d bytes fit", len(data))
		}
		overwritten := 0
		for i := range 3000 {
			if write((i*7919*4096)%(len(data)-4096)&^4095, bytes.Repeat([]byte{byte(i)}, 4096)) {
				overwritten++
			}
		}
		t.Logf("%d bytes fit, then %d writes of 3,000 over them; unpublished: %+v", len(data), overwritten, n.status().Unpublished)
		return map[string][]byte{"database": data}
	})
}
