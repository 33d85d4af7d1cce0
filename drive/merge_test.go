package drive

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/record"
)

// threeNodes are an origin and two more nodes that may write.
func threeNodes(t testing.TB) (a, b, c *world) {
	t.Helper()
	a, b = twoNodes(t)
	c = newWorld(t, 3)
	if err := a.Authorize(t.Context(), public(3), "Third"); err != nil {
		t.Fatal(err)
	}
	meet(t, a, b, c)
	return a, b, c
}

// meet lets all nodes publish and have everything of each other. They must show the same then, and their views say the same.
func meet(t testing.TB, ws ...*world) string {
	t.Helper()
	shown, err := gather(t, ws...)
	if err != nil {
		t.Error(err)
	}
	return shown
}

// gather is meet; whether they do is the error.
func gather(t testing.TB, ws ...*world) (shown string, err error) {
	t.Helper()
	for _, w := range ws {
		w.publishNow()
	}
	for range 2 {
		for i, a := range ws {
			for _, b := range ws[i+1:] {
				exchange(t, a, b)
			}
		}
	}
	shown = ws[0].tree()
	sum, err := ws[0].view.Digest()
	for _, w := range ws {
		if got := w.tree(); got != shown {
			err = errors.Join(err, fmt.Errorf("node %d shows\n%s\nnode %d\n%s", w.n, got, ws[0].n, shown))
		}
		if got, err2 := w.view.Digest(); err2 != nil || got != sum {
			err = errors.Join(err, fmt.Errorf("node %d has another view: %v", w.n, err2))
		}
		if err2 := w.Check(t.Context()); err2 != nil {
			err = errors.Join(err, fmt.Errorf("node %d: %w", w.n, err2))
		}
	}
	return shown, err
}

// path finds an inode by names.
func (w *world) path(names ...string) record.ID {
	w.t.Helper()
	id := record.Root
	for _, n := range names {
		a, err := w.Lookup(w.t.Context(), id, n)
		if err != nil {
			w.t.Fatalf("%v: %v\n%s", names, err, w.tree())
		}
		id = a.ID
	}
	return id
}

// mv renames from to to, paths relative to the root.
func (w *world) mv(from, to string) {
	w.t.Helper()
	f, t := strings.Split(from, "/"), strings.Split(to, "/")
	if err := w.Rename(w.t.Context(), w.path(f[:len(f)-1]...), f[len(f)-1], w.path(t[:len(t)-1]...), t[len(t)-1], 0); err != nil {
		w.t.Fatalf("%s to %s: %v", from, to, err)
	}
}

func (w *world) rmdir(path string) error {
	p := strings.Split(path, "/")
	return w.Remove(w.t.Context(), w.path(p[:len(p)-1]...), p[len(p)-1], true)
}

// TestDirectoryMovedTwice is merge rule 3.
func TestDirectoryMovedTwice(t *testing.T) {
	a, b, c := threeNodes(t)
	for _, name := range []string{"one", "two", "three"} {
		a.mkdir(record.Root, name)
	}
	a.put(a.mkdir(record.Root, "dir"), "file", "text")
	meet(t, a, b, c)
	a.mv("dir", "one/dir")
	b.mv("dir", "two/dir")
	c.put(c.path("dir"), "more", "from c")
	c.mv("dir", "three/renamed")
	got := meet(t, a, b, c)
	if strings.Count(got, "more 644 1") != 1 || strings.Count(got, `file 644 1 "text"`) != 1 || !strings.Contains(got, "/three/renamed/more") {
		t.Errorf("after all three moved it\n%s", got)
	}
	dir := a.path("three", "renamed")
	if at, err := a.Attr(t.Context(), dir); err != nil || at.Nlink != 2 {
		t.Errorf("%+v %v", at, err)
	}
	a.mv("three/renamed", "again") // settles it
	if got := meet(t, a, b, c); !strings.Contains(got, "/again/more") || strings.Contains(got, "dir/") {
		t.Errorf("after it was moved again\n%s", got)
	}
	// removed where it is shown, it is back, empty, at the entry that nobody took away
	for _, name := range []string{"file", "more"} {
		if err := b.Remove(t.Context(), dir, name, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.rmdir("again"); err != nil {
		t.Fatal(err)
	}
	if got := meet(t, a, b, c); got != "/one/ 755\n/three/ 755\n/two/ 755\n/two/dir/ 755\n" {
		t.Errorf("after it was removed\n%s", got)
	}
	b.put(b.path("two", "dir"), "new", "x") // a directory as any other
	if got := meet(t, a, b, c); !strings.Contains(got, `/two/dir/new 644 1 "x"`) {
		t.Errorf("with something new in it\n%s", got)
	}
}

// TestCycle is merge rule 4.
func TestCycle(t *testing.T) {
	a, b := twoNodes(t)
	a.put(a.mkdir(record.Root, "x"), "in x", "1")
	a.put(a.mkdir(record.Root, "y"), "in y", "2")
	meet(t, a, b)
	a.mv("x", "y/x")
	b.mv("y", "x/y")
	got := meet(t, a, b)
	// b's clock is ahead: y falls back to the root, with x in it
	if want := "/y/ 755\n/y/in y 644 1 \"2\"\n/y/x/ 755\n/y/x/in x 644 1 \"1\"\n"; got != want {
		t.Errorf("in the cycle\n%swant\n%s", got, want)
	}
	a.mkdir(a.path("y"), "made")
	a.mv("y", "renamed") // settles it
	if got := meet(t, a, b); !strings.HasPrefix(got, "/renamed/ 755\n/renamed/in y") || !strings.Contains(got, "/renamed/made/") || !strings.Contains(got, "/renamed/x/in x") {
		t.Errorf("after y was renamed\n%s", got)
	}
}

// TestCycleFallsToTheRoot: the place that a directory came from is gone.
func TestCycleFallsToTheRoot(t *testing.T) {
	a, b, c := threeNodes(t)
	from := a.mkdir(record.Root, "from")
	a.put(a.mkdir(from, "y"), "in y", "2")
	a.put(a.mkdir(record.Root, "x"), "in x", "1")
	meet(t, a, b, c)
	a.mv("x", "from/y/x")
	b.mv("from/y", "x/y")
	exchange(t, b, c)
	b.publishNow()
	exchange(t, b, c)
	if err := c.rmdir("from"); err != nil {
		t.Fatal(err)
	}
	got := meet(t, a, b, c)
	if want := "/y/ 755\n/y/in y 644 1 \"2\"\n/y/x/ 755\n/y/x/in x 644 1 \"1\"\n"; got != want {
		t.Errorf("shown\n%swant\n%s", got, want)
	}
}

// TestDeleteAgainstMove: a directory that was moved into one that another node deleted brings it back; one that was moved out of it stays.
func TestDeleteAgainstMove(t *testing.T) {
	a, b := twoNodes(t)
	old := a.mkdir(record.Root, "old")
	a.put(a.mkdir(old, "out"), "file", "1")
	a.put(a.mkdir(record.Root, "in"), "file", "2")
	meet(t, a, b)
	b.mv("old/out", "out")
	b.mv("in", "old/in")
	if err := a.Remove(t.Context(), a.path("old", "out"), "file", false); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"old/out", "old"} {
		if err := a.rmdir(path); err != nil {
			t.Fatal(err)
		}
	}
	got := meet(t, a, b)
	if want := "/old/ 755\n/old/in/ 755\n/old/in/file 644 1 \"2\"\n/out/ 755\n"; got != want {
		t.Errorf("shown\n%swant\n%s", got, want)
	}
	a.put(a.path("old"), "works", "again") // a removed it itself, and its kernel may still know it
	a.put(a.path("out"), "works", "too")
	if got := meet(t, a, b); !strings.Contains(got, "/old/works") || !strings.Contains(got, "/out/works") {
		t.Errorf("shown\n%s", got)
	}
	if err := b.rmdir("old"); !errors.Is(err, ErrNotEmpty) {
		t.Error(err)
	}
}

// TestDeleteAgainstMoveOfFile: a file that another node moved while it was removed here is there under its new name, can be written, and has on all nodes what was
// written before or behind that.
func TestDeleteAgainstMoveOfFile(t *testing.T) {
	for what, c := range map[string]struct {
		before, behind string // written to the file while it has no name, and once it has the new one
		crash          bool
		want           string
	}{
		"as it was":            {want: "old"},
		"written behind":       {behind: "new text", want: "new text"},
		"written and crashed":  {behind: "new text", crash: true, want: "new text"},
		"written while hidden": {before: "dropped with its name", want: "old"},
	} {
		t.Run(what, func(t *testing.T) {
			a, b := twoNodes(t)
			a.put(record.Root, "file", "old")
			meet(t, a, b)
			b.mv("file", "moved")
			b.publishNow()
			if c.before != "" {
				a.put(record.Root, "file", c.before)
			}
			if err := a.Remove(t.Context(), record.Root, "file", false); err != nil {
				t.Fatal(err)
			}
			if c.before != "" {
				a.publishNow() // what nobody knew is not brought back by a name
			}
			exchange(t, a, b)
			if c.behind != "" {
				a.put(record.Root, "moved", c.behind)
			}
			if c.crash {
				a.crash(a.work.boot)
			}
			if got, want := meet(t, a, b), fmt.Sprintf("/moved 644 1 %q\n", c.want); got != want {
				t.Errorf("shown\n%swant\n%s", got, want)
			}
		})
	}
}

// TestRemovedBeforeDirectoriesMeet: what was removed in a directory here does not come back when that is shown as one with a peer's of the same name before the removal is published, under
// whichever of the two it is asked for: what was written to it then would be lost with it.
func TestRemovedBeforeDirectoriesMeet(t *testing.T) {
	a, b := twoNodes(t)
	ours := a.mkdir(record.Root, "dir")
	a.put(ours, "f", "of a")
	a.publishNow()
	b.now = a.now.Add(time.Hour)
	b.put(b.mkdir(record.Root, "dir"), "g", "of b")
	b.publishNow()
	if err := a.Remove(t.Context(), ours, "f", false); err != nil {
		t.Fatal(err)
	}
	exchange(t, a, b)
	both := a.path("dir")
	if both == ours {
		t.Fatal("the directory that was made later does not stand for both")
	}
	for _, dir := range []record.ID{ours, both} {
		if at, err := a.Lookup(t.Context(), dir, "f"); !errors.Is(err, ErrNotExist) {
			t.Errorf("%s: %+v, %v", dir, at, err)
		}
	}
	if got, want := a.tree(), "/dir/ 755\n/dir/g 644 1 \"of b\"\n"; got != want {
		t.Errorf("shown is\n%s\nwant\n%s", got, want)
	}
	a.put(both, "f", "again")
	if got, want := meet(t, a, b), "/dir/ 755\n/dir/f 644 1 \"again\"\n/dir/g 644 1 \"of b\"\n"; got != want {
		t.Errorf("after\n%s\nwant\n%s", got, want)
	}
}

// TestRevivedUnderAnotherRemoval: a directory that was removed here comes back, since a peer put something into it, while another one that had its name in between is removed. It takes new
// files here as well, although the kernel has known it without a name.
func TestRevivedUnderAnotherRemoval(t *testing.T) {
	a, b := twoNodes(t)
	was := a.mkdir(record.Root, "dir")
	meet(t, a, b)
	if err := a.rmdir("dir"); err != nil {
		t.Fatal(err)
	}
	a.publishNow()
	b.put(was, "file", "of b")
	b.publishNow()
	a.mkdir(record.Root, "dir")
	if err := a.rmdir("dir"); err != nil {
		t.Fatal(err)
	}
	exchange(t, a, b)
	a.publishNow()
	if _, err := a.Make(t.Context(), was, "more", NewInode{Kind: record.File, Mode: 0o644}); err != nil {
		t.Error(err)
	}
	if got := meet(t, a, b); strings.Count(got, "/file 644 1 \"of b\"") != 1 || strings.Count(got, "/more 644 1 \"\"") != 1 {
		t.Errorf("after\n%s", got)
	}
}

// TestCycleWithWhatIsNotPublished: between a peer's move and the publication of this node's both directories stay in sight.
func TestCycleWithWhatIsNotPublished(t *testing.T) {
	a, b := twoNodes(t)
	a.put(a.mkdir(record.Root, "x"), "in x", "1")
	a.put(a.mkdir(record.Root, "y"), "in y", "2")
	meet(t, a, b)
	a.mv("x", "y/x")
	a.publishNow()
	b.mv("y", "x/y")
	exchange(t, a, b)
	if got := b.tree(); !strings.Contains(got, "in x") || !strings.Contains(got, "in y") {
		t.Errorf("before b published\n%s", got)
	}
	got := meet(t, a, b)
	if want := "/y/ 755\n/y/in y 644 1 \"2\"\n/y/x/ 755\n/y/x/in x 644 1 \"1\"\n"; got != want {
		t.Errorf("in the cycle\n%swant\n%s", got, want)
	}
}

// TestMovedTwiceWithWhatIsNotPublished: a directory is never shown in two places, here neither.
func TestMovedTwiceWithWhatIsNotPublished(t *testing.T) {
	a, b := twoNodes(t)
	a.mkdir(record.Root, "one")
	a.mkdir(record.Root, "two")
	a.put(a.mkdir(record.Root, "dir"), "file", "text")
	meet(t, a, b)
	a.mv("dir", "one/dir")
	a.publishNow()
	b.mv("dir", "two/dir")
	exchange(t, a, b)
	if got := b.tree(); strings.Count(got, "file 644") != 1 {
		t.Errorf("before b published\n%s", got)
	}
	if got := meet(t, a, b); !strings.Contains(got, "/two/dir/file") || strings.Count(got, "file 644") != 1 {
		t.Errorf("after\n%s", got)
	}
}
