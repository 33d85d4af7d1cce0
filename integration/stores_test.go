package integration

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// makeStore in the environment lets TestMakeStore write a store of that name.
const makeStore = "HYPHAFS_MAKE_STORE"

// TestStores opens a copy of every store in testdata/stores, whichever version wrote it: it mounts by itself, shows what its listing says, publishes what was not
// published, and checks clean.
func TestStores(t *testing.T) {
	stores, err := filepath.Glob("testdata/stores/*.tar.gz")
	if err != nil || len(stores) == 0 {
		t.Fatalf("no stores: %v", err)
	}
	for _, store := range stores {
		t.Run(filepath.Base(store), func(t *testing.T) {
			want, err := os.ReadFile(strings.TrimSuffix(store, ".tar.gz") + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			n := newNode(t, "Hypha")
			unpack(t, store, n)
			n.mount("--trust-store") // it is a copy, but the newest there is
			if got := listing(t, n); got != string(want) {
				t.Errorf("the store shows\n%s\nand is to show\n%s", got, want)
			}
			if out, err := n.run("sync", n.dir); err != nil {
				t.Errorf("sync: %v\n%s", err, out)
			}
			if err := writeDurably(n.dir, "written today", []byte("text")); err != nil {
				t.Error(err)
			}
			n.stop()
			n.check()
			n.mount()
			if err := os.Remove(filepath.Join(n.dir, "written today")); err != nil {
				t.Error(err)
			}
			if got := listing(t, n); got != string(want) {
				t.Errorf("then it shows\n%s\nand is to show\n%s", got, want)
			}
			n.stop()
			if err := os.WriteFile(filepath.Join(n.state, "view.db"), []byte("no database"), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := n.run(append(append([]string{"mount"}, n.flags...), n.dir)...)
			if err != nil || !strings.HasPrefix(out, "Reading all names anew") {
				t.Errorf("mount in the background: %v\n%s", err, out)
			}
			if got := listing(t, n); got != string(want) {
				t.Errorf("with its names read anew it shows\n%s\nand is to show\n%s", got, want)
			}
			if out, err := n.run("umount", n.dir); err != nil {
				t.Errorf("umount: %v\n%s", err, out)
			}
		})
	}
}

// TestStoreOfANewerVersion: a store that says it has a format of later is refused in one line, and not touched.
func TestStoreOfANewerVersion(t *testing.T) {
	n := newNode(t, "Hypha")
	unpack(t, "testdata/stores/1.tar.gz", n)
	path := filepath.Join(n.state, "config.json")
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(config, []byte(`"version": 1`), []byte(`"version": 1000`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	before := hashes(t, n.state)
	for _, args := range [][]string{append(append([]string{"mount"}, n.flags...), n.dir), {"check", "--state", n.state, "--passphrase-file", n.passphraseFile}} {
		out, err := n.run(args...)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || strings.Count(out, "\n") != 1 || !strings.Contains(out, "newer version") {
			t.Errorf("%s: %v\n%s", args[0], err, out)
		}
	}
	if after := hashes(t, n.state); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

// unpack makes store the state directory of n.
func unpack(t *testing.T, store string, n *node) {
	t.Helper()
	if err := os.Mkdir(n.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-xzf", store, "-C", n.state).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
}

// hashes lists the files below dir with their content.
func hashes(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	if err := filepath.WalkDir(dir, func(path string, e iofs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || e.Name() == "lock" || e.Name() == "log" {
			return err
		}
		fmt.Fprintf(&b, "%s %s\n", path, hash(t, path))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// listing describes everything that n shows, and its conflicts.
func listing(t *testing.T, n *node) string {
	t.Helper()
	var b strings.Builder
	if err := filepath.WalkDir(n.dir, func(path string, e iofs.DirEntry, err error) error {
		if err != nil || path == n.dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v", strings.TrimPrefix(path, n.dir+"/"), info.Mode())
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			value := make([]byte, 100)
			size, err := syscall.Getxattr(path, "user.note", value)
			if err != nil && !errors.Is(err, syscall.ENODATA) {
				return err
			}
			fmt.Fprintf(&b, " links %d, %d bytes %x, note %q", info.Sys().(*syscall.Stat_t).Nlink, len(content), sha256.Sum256(content), value[:max(size, 0)])
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " to %s", target)
		}
		b.WriteByte('\n')
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "%d conflicts\n", n.status().Conflicts)
	return b.String()
}

// TestMakeStore makes a store for TestStores, with everything in it that a store can hold.
func TestMakeStore(t *testing.T) {
	name := os.Getenv(makeStore)
	if name == "" {
		t.Skipf("makes testdata/stores/$%s when that is set; see doc.go", makeStore)
	}
	desktop, laptop := pair(t)
	fixed := desktop.listening()
	desktop.flags = append(desktop.flags, "--listen", fixed)
	at := func(n *node, name string) string { return filepath.Join(n.dir, name) }
	write := func(n *node, name, text string, repeat int) {
		t.Helper()
		if err := writeDurably(filepath.Dir(at(n, name)), filepath.Base(name), []byte(strings.Repeat(text, repeat))); err != nil {
			t.Fatal(err)
		}
	}
	sync := func(n *node) {
		t.Helper()
		if out, err := n.run("sync", n.dir); err != nil {
			t.Fatalf("sync: %v\n%s", err, out)
		}
	}
	if err := os.MkdirAll(at(desktop, "folder/below"), 0o750); err != nil {
		t.Fatal(err)
	}
	write(desktop, "folder/small", "a few bytes\n", 1)
	write(desktop, "folder/below/large", "more than one block of bytes\n", 5000)
	write(desktop, "both", "as it was\n", 1)
	write(desktop, "changed", "changed here and there\n", 8000)
	if err := errors.Join(os.Truncate(at(desktop, "folder/below/large"), 1<<20), os.Symlink("folder/small", at(desktop, "symlink")),
		os.Link(at(desktop, "folder/small"), at(desktop, "hard link")), syscall.Mkfifo(at(desktop, "fifo"), 0o600),
		syscall.Setxattr(at(desktop, "both"), "user.note", []byte("kept"), 0)); err != nil {
		t.Fatal(err)
	}
	same(t, desktop, laptop)
	laptop.stop()
	write(desktop, "names", "of the desktop\n", 1)
	if err := os.WriteFile(at(desktop, "both"), []byte("as the desktop wants it\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sync(desktop)
	desktop.stop()
	laptop.mount()
	write(laptop, "names", "of the laptop\n", 1)
	if err := os.WriteFile(at(laptop, "both"), []byte("as the laptop wants it\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sync(laptop)
	laptop.stop()
	laptop.flags = append(laptop.flags, "--peer", fixed)
	desktop.mount()
	laptop.mount()
	eventually(t, "the conflicts", func() bool { return desktop.status().Conflicts > 0 })
	same(t, desktop, laptop)
	laptop.stop()
	desktop.stop() // downloads of the last second are not durable before
	desktop.mount()
	if err := os.WriteFile(at(desktop, ".draft.swp"), []byte("stays here\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(desktop, "folder/small", "changed and not published\n", 1)
	write(desktop, "folder/unpublished", "not published and larger than a block\n", 2500)
	fsyncs(t, at(desktop, "changed"))
	if s := desktop.status(); s.Unpublished.Files == 0 || s.Conflicts == 0 {
		t.Fatalf("the store is to have conflicts and unpublished files: %+v", s)
	}
	desktop.kill()
	if err := os.MkdirAll("testdata/stores", 0o755); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join("testdata/stores", name)
	if out, err := exec.Command("tar", "-czf", store+".tar.gz", "--owner=0", "--group=0", "--exclude=lock", "--exclude=log", "--exclude=control.sock",
		"-C", desktop.state, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	desktop.mount()
	if err := os.WriteFile(store+".txt", []byte(listing(t, desktop)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fsyncs changes some pages of a file, and makes each of them durable.
func fsyncs(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []int64{1, 20, 21, 40} {
		text := fmt.Appendf(nil, "page %d ", page)
		if _, err := f.WriteAt(bytes.Repeat(text, 4096/len(text)+1)[:4096], page*4096); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
