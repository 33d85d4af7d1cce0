package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wantFull says that the limits are to be tried in the amounts of the issue (see doc.go), not in what takes seconds.
func wantFull() bool { return os.Getenv("HYPHAFS_TEST_LIMITS") == "full" }

// takes logs how long a step took: for who reads the log, nothing depends on it.
func takes(t *testing.T, what string, do func()) {
	t.Helper()
	start := time.Now()
	do()
	t.Logf("%s: %v", what, time.Since(start).Round(time.Millisecond))
}

// publish makes n publish everything, which may be a million files.
func (n *node) publish() {
	n.t.Helper()
	if out, err := n.runFor(10*patience, "sync", n.dir); err != nil {
		n.t.Fatalf("sync: %v\n%s", err, out)
	}
}

// TestLimits goes to the limits of names, paths, sizes and numbers on a desktop and a laptop.
func TestLimits(t *testing.T) {
	desktop, laptop := pair(t)
	entries, links := 5_000, 2_000
	if wantFull() {
		entries, links = 100_000, 65_000
	}
	for _, l := range []struct {
		name string
		do   func(t *testing.T, desktop, laptop *node)
	}{
		{"names", names},
		{"paths", paths},
		{"hole", hole},
		{"entries", func(t *testing.T, desktop, laptop *node) { manyEntries(t, desktop, laptop, entries) }},
		{"links", func(t *testing.T, desktop, laptop *node) { manyLinks(t, desktop, laptop, links) }},
	} {
		t.Run(l.name, func(t *testing.T) { l.do(t, desktop, laptop) })
	}
	for _, n := range []*node{desktop, laptop} {
		n.stop()
		takes(t, "check", n.check)
	}
}

// names makes names of every byte that a name may have, and of the greatest length, and looks for them on a second node.
func names(t *testing.T, desktop, laptop *node) {
	var all []byte
	var names []string
	for b := 1; b < 256; b++ {
		if b == '/' {
			continue
		}
		all = append(all, byte(b))
		if b != '.' {
			names = append(names, string([]byte{byte(b)}), strings.Repeat(string([]byte{byte(b)}), 255))
		}
	}
	names = append(names, string(all), strings.Repeat("é", 127)+"e", "...", " . ")
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(desktop.dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []struct {
		name  string
		errno unix.Errno
	}{{strings.Repeat("n", 256), unix.ENAMETOOLONG}, {".hypha", unix.EEXIST}} {
		if err := unix.Mkdir(desktop.dir+"/"+at.name, 0o755); !errors.Is(err, at.errno) {
			t.Errorf("mkdir of %d bytes: %v, want %v", len(at.name), err, at.errno)
		}
	}
	slices.Sort(names)
	for _, n := range []*node{desktop, laptop} {
		eventually(t, "all names on "+n.dir, func() bool { return slices.Equal(namesIn(t, n.dir), names) })
		for _, name := range names {
			path := n.dir + "/" + name // Join would clean it
			if got, err := os.ReadFile(path); err != nil || string(got) != name {
				t.Errorf("%q on %s: %q, %v", name, n.dir, got, err)
			}
		}
	}
	for _, name := range names {
		if err := os.Remove(laptop.dir + "/" + name); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "no name on the desktop", func() bool { return len(namesIn(t, desktop.dir)) == 0 })
}

// namesIn returns the names in dir, ascending.
func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	names, err := d.Readdirnames(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// paths makes the longest paths that a system call takes, 4,095 bytes and a NUL, once of long names and once of short ones, which is the deepest tree.
func paths(t *testing.T, desktop, laptop *node) {
	for _, name := range []string{strings.Repeat("long", 60), "d"} {
		var below string
		for {
			next := below + "/" + name
			if len(desktop.dir)+len(next)+len("/file") > 4095 {
				break
			}
			if err := os.Mkdir(desktop.dir+next, 0o755); err != nil {
				t.Fatal(err)
			}
			below = next
		}
		below += "/"
		below += strings.Repeat("f", min(4095-len(desktop.dir)-len(below), 255))
		if err := os.WriteFile(desktop.dir+below, []byte(below), 0o644); err != nil {
			t.Fatalf("path of %d bytes: %v", len(desktop.dir+below), err)
		}
		t.Logf("path of %d bytes, %d folders deep", len(desktop.dir+below), strings.Count(below, "/")-1)
		eventually(t, "the file at the end of the path on the laptop", func() bool {
			got, err := os.ReadFile(laptop.dir + below) // a shorter mount point: its path is no longer than the other
			return err == nil && string(got) == below
		})
	}
	for _, name := range namesIn(t, laptop.dir) {
		if err := os.RemoveAll(filepath.Join(laptop.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "nothing on the desktop", func() bool { return len(namesIn(t, desktop.dir)) == 0 })
}

// hole makes a file of 1 TiB that is a hole but for its two ends and a page in the middle. It costs what its bytes cost, on both nodes.
func hole(t *testing.T, desktop, laptop *node) {
	const size, middle = 1 << 40, 1<<39 + 12345
	data := bytes.Repeat([]byte("data"), 1024)
	path := filepath.Join(desktop.dir, "sparse")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{size - int64(len(data)), middle, 0} {
		if _, err := f.WriteAt(data, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	desktop.publish()
	eventually(t, "the file on the laptop", func() bool {
		info, err := os.Stat(filepath.Join(laptop.dir, "sparse"))
		return err == nil && info.Size() == size
	})
	holes := func(n *node) {
		t.Helper()
		f, err := os.Open(filepath.Join(n.dir, "sparse"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Size != size || st.Blocks*512 > 1<<20 {
			t.Errorf("%s: size %d, %d blocks, %v", n.dir, st.Size, st.Blocks, err)
		}
		const block = 64 << 10
		at := int64(0)
		for _, want := range [][2]int64{{0, block}, {middle &^ (block - 1), middle&^(block-1) + block}, {size - block, size}} {
			from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
			if err != nil {
				t.Fatal(err)
			}
			if at, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil || [2]int64{from, at} != want {
				t.Errorf("%s: data from %d to %d, %v; want %v", n.dir, from, at, err, want)
			}
		}
		for off, want := range map[int64][]byte{0: data, middle: data, size - int64(len(data)): data, size / 3: make([]byte, len(data))} {
			got := make([]byte, len(data))
			if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: at %d: %v, or other bytes", n.dir, off, err)
			}
		}
	}
	holes(desktop)
	holes(laptop)
	if err := os.Truncate(filepath.Join(laptop.dir, "sparse"), middle+1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the shorter file on the desktop", func() bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() == middle+1
	})
}

// manyEntries makes a folder of very many entries, lists it, looks for it on a second node and removes it there.
func manyEntries(t *testing.T, desktop, laptop *node, n int) {
	dir := filepath.Join(desktop.dir, "folder")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	takes(t, fmt.Sprintf("create %d", n), func() {
		for i := range n {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("entry ", i)), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	})
	count := func(of *node) int {
		names, err := os.ReadDir(filepath.Join(of.dir, "folder"))
		if err != nil {
			return -1
		}
		return len(slices.CompactFunc(names, func(a, b os.DirEntry) bool { return a.Name() == b.Name() }))
	}
	takes(t, "list", func() {
		if got := count(desktop); got != n {
			t.Fatalf("%d entries, want %d", got, n)
		}
	})
	takes(t, "publish", desktop.publish)
	takes(t, "list again", func() {
		if got := count(desktop); got != n {
			t.Fatalf("%d entries, want %d", got, n)
		}
	})
	takes(t, "arrive on the laptop", func() {
		eventually(t, "all entries on the laptop", func() bool { return count(laptop) == n })
	})
	takes(t, "remove on the laptop", func() {
		if err := os.RemoveAll(filepath.Join(laptop.dir, "folder")); err != nil {
			t.Fatal(err)
		}
	})
	takes(t, "publish the removal", laptop.publish)
	eventually(t, "no folder on the desktop", func() bool { return count(desktop) < 0 })
}

// manyLinks gives one file very many names.
func manyLinks(t *testing.T, desktop, laptop *node, n int) {
	name := func(of *node, i int) string { return filepath.Join(of.dir, "links", fmt.Sprint("link ", i)) }
	if err := os.Mkdir(filepath.Join(desktop.dir, "links"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name(desktop, 0), []byte("one file"), 0o644); err != nil {
		t.Fatal(err)
	}
	links := func(of *node, i int) int {
		var st unix.Stat_t
		if err := unix.Stat(name(of, i), &st); err != nil {
			return 0
		}
		return int(st.Nlink)
	}
	takes(t, fmt.Sprintf("make %d links", n), func() {
		for i := 1; i < n; i++ {
			if err := os.Link(name(desktop, 0), name(desktop, i)); err != nil {
				t.Fatal(err)
			}
		}
	})
	if got := links(desktop, n/2); got != n {
		t.Errorf("%d links before publishing, want %d", got, n)
	}
	takes(t, "publish", desktop.publish)
	if got := links(desktop, n-1); got != n {
		t.Errorf("%d links, want %d", got, n)
	}
	takes(t, "arrive on the laptop", func() {
		eventually(t, "all links on the laptop", func() bool { return links(laptop, 0) == n })
	})
	takes(t, "remove all but one on the laptop", func() {
		for i := range n - 1 {
			if err := os.Remove(name(laptop, i)); err != nil {
				t.Fatal(err)
			}
		}
	})
	takes(t, "publish the removal", laptop.publish)
	eventually(t, "one link on the desktop", func() bool { return links(desktop, n-1) == 1 })
	if got, err := os.ReadFile(name(desktop, n-1)); err != nil || string(got) != "one file" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestManyFiles makes a drive of a million files, mounts it anew, walks over it and checks it.
func TestManyFiles(t *testing.T) {
	if !wantFull() {
		t.Skip("takes long: HYPHAFS_TEST_LIMITS=full runs it; TestBulk has ten thousand files")
	}
	const n = 1_000_000
	desktop := newNode(t, "Hypha")
	desktop.signUp("Desktop")
	takes(t, fmt.Sprintf("create %d", n), func() {
		for i := range n {
			dir := filepath.Join(desktop.dir, fmt.Sprintf("folder %04d", i/1000))
			if i%1000 == 0 {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file %d", i)), []byte("content"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	})
	takes(t, "publish", desktop.publish)
	t.Logf("resident memory %d MiB, at its peak %d MiB", desktop.memory().resident>>20, desktop.peakMemory()>>20)
	takes(t, "unmount", desktop.stop)
	takes(t, "mount", func() { desktop.mount() })
	t.Logf("resident memory %d MiB, at its peak %d MiB", desktop.memory().resident>>20, desktop.peakMemory()>>20)
	takes(t, "walk", func() {
		files := 0
		err := filepath.WalkDir(desktop.dir, func(_ string, d os.DirEntry, err error) error {
			files += b2i(err == nil && d.Type().IsRegular())
			return err
		})
		if err != nil || files != n {
			t.Errorf("%d files, %v, want %d", files, err, n)
		}
	})
	t.Logf("resident memory %d MiB, at its peak %d MiB", desktop.memory().resident>>20, desktop.peakMemory()>>20)
	desktop.stop()
	takes(t, "check", desktop.check)
}
