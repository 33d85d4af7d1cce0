package drive

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/record"
)

// deed is something that one node does to the file a, which has another name a2, while another node does something else, and what of it others have to see.
type deed struct {
	name    string
	do      func(scene) error
	content string // what the file holds then, # being the node's number and $ so many bytes of the file; "": what it held
	mode    uint32 // 0: what it was; so with the others
	uid     uint32
	xattr   string // its value
	mtime   int64
	removes []string
	adds    []string
}

// on is the deed with what is n's own in it.
func (e deed) on(n byte) deed {
	own := strings.NewReplacer("#", fmt.Sprint(n), "$", "base"[:n]).Replace
	e.content, e.xattr = own(e.content), own(e.xattr)
	if e.mode != 0 {
		e.mode |= 1 << (3 * (n - 1))
	}
	if e.uid != 0 {
		e.uid += uint32(n)
	}
	if e.mtime != 0 {
		e.mtime += int64(n)
	}
	e.adds = slices.Clone(e.adds)
	for i := range e.adds {
		e.adds[i] = own(e.adds[i])
	}
	return e
}

// scene is the directory of one pair of deeds, on one node.
type scene struct {
	*world
	dir record.ID
}

func (s scene) file() record.ID {
	s.t.Helper()
	at, err := s.Lookup(s.t.Context(), s.dir, "a")
	if err != nil {
		s.t.Fatal(err)
	}
	return at.ID
}

func (s scene) write(text string, truncate bool) error {
	f, err := s.Open(s.t.Context(), s.file(), true)
	if err != nil {
		return err
	}
	if truncate {
		if _, err := f.SetAttr(s.t.Context(), AttrChange{Size: new(uint64)}); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	_, err = f.Append(s.t.Context(), []byte(text), true)
	return errors.Join(err, f.Close())
}

func (s scene) setAttr(c AttrChange) error {
	_, err := s.SetAttr(s.t.Context(), s.file(), c)
	return err
}

func deeds() []deed {
	return []deed{
		{name: "write", content: "written on #", do: func(s scene) error { return s.write(fmt.Sprintf("written on %d", s.n), true) }},
		{name: "append", content: "base and #", do: func(s scene) error { return s.write(fmt.Sprintf(" and %d", s.n), false) }},
		{name: "truncate", content: "$", do: func(s scene) error {
			size := uint64(s.n)
			return s.setAttr(AttrChange{Size: &size})
		}},
		{name: "copy with times", content: "copy of #", mtime: 1_000_000_000, do: func(s scene) error { // cp -a, tar, rsync --inplace -a
			at := time.Unix(0, 1_000_000_000+int64(s.n))
			return errors.Join(s.write(fmt.Sprintf("copy of %d", s.n), true), s.setAttr(AttrChange{Mtime: &at}))
		}},
		{name: "chmod", mode: 0o600, do: func(s scene) error {
			mode := uint32(0o600 | 1<<(3*(s.n-1)))
			return s.setAttr(AttrChange{Mode: &mode})
		}},
		{name: "chown", uid: 1000, do: func(s scene) error {
			uid := 1000 + uint32(s.n)
			return s.setAttr(AttrChange{UID: &uid})
		}},
		{name: "touch", mtime: 2_000_000_000_000_000_000, do: func(s scene) error {
			at := time.Unix(0, 2_000_000_000_000_000_000+int64(s.n))
			return s.setAttr(AttrChange{Mtime: &at})
		}},
		{name: "setxattr", xattr: "of #", do: func(s scene) error {
			return s.SetXattr(s.t.Context(), s.file(), "user.k", fmt.Appendf(nil, "of %d", s.n), 0)
		}},
		{name: "ln", adds: []string{"link #"}, do: func(s scene) error {
			_, err := s.Link(s.t.Context(), s.file(), s.dir, fmt.Sprintf("link %d", s.n))
			return err
		}},
		{name: "unlink one of two", removes: []string{"a2"}, do: func(s scene) error {
			return s.Remove(s.t.Context(), s.dir, "a2", false)
		}},
		{name: "mv", removes: []string{"a"}, adds: []string{"c #"}, do: func(s scene) error {
			return s.Rename(s.t.Context(), s.dir, "a", s.dir, fmt.Sprintf("c %d", s.n), 0)
		}},
		{name: "mv over", removes: []string{"a"}, adds: []string{"x"}, do: func(s scene) error {
			return s.Rename(s.t.Context(), s.dir, "a", s.dir, "x", 0)
		}},
	}
}

// shows is what nodes have to show of the file after two nodes did p and q, the second of them later.
func shows(p, q deed) (want deed, conflicts int) {
	want = deed{content: "base", mode: 0o644, uid: 7, xattr: "of base"}
	one := func(is *string, a, b string) {
		if a != "" && b != "" && a != b {
			conflicts = 1
		}
		for _, s := range []string{a, b} {
			if s != "" {
				*is = s
			}
		}
	}
	one(&want.content, p.content, q.content)
	one(&want.xattr, p.xattr, q.xattr)
	for _, e := range []deed{p, q} {
		if e.mode != 0 {
			want.mode = e.mode
		}
		if e.uid != 0 {
			want.uid = e.uid
		}
		want.mtime = max(want.mtime, e.mtime)
	}
	if p.mtime == 0 && p.content != "" || q.mtime == 0 && q.content != "" { // a write sets another one
		want.mtime = 0
	}
	if p.mode != 0 && q.mode != 0 || p.uid != 0 && q.uid != 0 {
		conflicts = 1
	}
	names := map[string]bool{"a": true, "a2": true}
	for _, e := range []deed{p, q} {
		for _, n := range e.removes {
			delete(names, n)
		}
	}
	for _, n := range append(p.adds, q.adds...) {
		names[n] = true
	}
	want.adds = slices.Sorted(maps.Keys(names))
	return want, conflicts
}

// TestPairs: whatever two nodes do to one file apart from each other, all show what both did as far as it goes together, and only if both changed the same thing one of them
// is in .hypha/conflicts: for every pair of deeds, each being the later one, arriving first, or while the other one is not published yet.
func TestPairs(t *testing.T) {
	for _, laterArrivesFirst := range []bool{true, false} {
		t.Run(fmt.Sprintf("later arrives first %v", laterArrivesFirst), func(t *testing.T) { pairs(t, laterArrivesFirst) })
	}
}

// duo is a pair of deeds: b does earlier, a later, and c looks on.
type duo struct {
	earlier, later deed
	dir, file      record.ID
}

func pairs(t *testing.T, laterArrivesFirst bool) {
	a, b, c := threeNodes(t)
	var duos []duo
	for _, earlier := range deeds() {
		for _, later := range deeds() {
			duos = append(duos, a.stage(earlier, later))
		}
	}
	meet(t, a, b, c)
	for _, p := range duos {
		if err := p.earlier.do(scene{b, p.dir}); err != nil {
			t.Fatal(err)
		}
	}
	b.publishNow()
	a.now = b.now.Add(time.Hour)
	for _, p := range duos {
		if err := p.later.do(scene{a, p.dir}); err != nil {
			t.Fatal(err)
		}
	}
	if laterArrivesFirst {
		a.publishNow()
		exchange(t, a, c)
	} else {
		exchange(t, a, b) // a has not published
	}
	meet(t, a, b, c)
	for _, p := range duos {
		t.Run(p.earlier.name+" then "+p.later.name, func(t *testing.T) { p.check(t, a, b, c) })
		if err := c.SetXattr(t.Context(), p.file, "user.more", []byte("x"), 0); err != nil { // a change of what was merged
			t.Fatal(err)
		}
	}
	meet(t, a, b, c)
	for _, p := range duos {
		t.Run(p.earlier.name+" then "+p.later.name+" and one more change", func(t *testing.T) {
			conflicts := p.check(t, a, b, c)
			if s, err := c.view.Inode(p.file); err != nil || s.Kept != conflicts {
				t.Errorf("%d heads beside the one shown, want %d, %v", s.Kept, conflicts, err)
			}
		})
	}
}

// stage makes the files of a pair.
func (w *world) stage(earlier, later deed) duo {
	w.t.Helper()
	ctx, dir := w.t.Context(), w.mkdir(record.Root, earlier.name+" then "+later.name)
	id := w.put(dir, "a", "base")
	w.put(dir, "x", "other")
	uid := uint32(7)
	_, err := w.Link(ctx, id, dir, "a2")
	if err := errors.Join(err, scene{w, dir}.setAttr(AttrChange{UID: &uid}), w.SetXattr(ctx, id, "user.k", []byte("of base"), 0)); err != nil {
		w.t.Fatal(err)
	}
	return duo{earlier, later, dir, id}
}

// check compares what nodes show with what they have to, and returns how many conflicts there are.
func (p duo) check(t *testing.T, ws ...*world) int {
	t.Helper()
	ctx := t.Context()
	want, conflicts := shows(p.earlier.on(2), p.later.on(1))
	for _, w := range ws {
		at, err := w.Attr(ctx, p.file)
		if err != nil {
			t.Fatal(err)
		}
		text, err := w.read(p.file)
		x, err2 := w.Xattr(ctx, p.file, "user.k")
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if text != want.content || at.Mode != want.mode || at.UID != want.uid || string(x) != want.xattr {
			t.Errorf("node %d shows %q, %+v, attribute %q, want %+v", w.n, text, at, x, want)
		}
		if want.mtime != 0 && at.Mtime.UnixNano() != want.mtime {
			t.Errorf("node %d shows %v, want %v", w.n, at.Mtime, time.Unix(0, want.mtime))
		}
		es, err := w.ReadDir(ctx, p.dir)
		var names []string
		for _, e := range es {
			if e.ID == p.file {
				names = append(names, e.Name)
			}
		}
		if err != nil || !slices.Equal(names, want.adds) || int(at.Nlink) != len(names) || len(es) > len(names)+1 {
			t.Errorf("node %d shows %v, of the file %v, %d links, want %v, %v", w.n, es, names, at.Nlink, want.adds, err)
		}
		cs, err := w.Conflicts(ctx)
		if cs = slices.DeleteFunc(cs, func(c Conflict) bool { return c.ID != p.file }); err != nil || len(cs) != conflicts {
			t.Errorf("node %d has the conflicts %+v, want %d, %v", w.n, cs, conflicts, err)
		}
	}
	return conflicts
}

// TestDeletedApart: one node removes all names of the file while another one does something to it. What was done to content or attributes, or a name, brings the file back; that a
// time was set or one of two names removed does not.
func TestDeletedApart(t *testing.T) {
	a, b, c := threeNodes(t)
	var duos []duo
	for _, d := range deeds() {
		duos = append(duos, a.stage(deed{name: "rm"}, d))
	}
	meet(t, a, b, c)
	a.now = b.now.Add(time.Hour)
	for _, p := range duos {
		for _, name := range []string{"a2", "a"} {
			if err := a.Remove(t.Context(), p.dir, name, false); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.later.do(scene{b, p.dir}); err != nil {
			t.Fatal(err)
		}
	}
	b.publishNow()
	exchange(t, b, c) // before what was removed
	meet(t, a, b, c)
	for _, p := range duos {
		is := p.later.on(2)
		want := is.adds
		es, err := c.ReadDir(t.Context(), p.dir)
		var names []string
		for _, e := range es {
			if e.ID == p.file {
				names = append(names, e.Name)
			}
		}
		if is.content != "" || is.mode != 0 || is.uid != 0 || is.xattr != "" {
			if want = []string{"a"}; slices.Equal(names, []string{"a2"}) { // whichever went last
				want = names
			}
		}
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("%s: the file is at %q, want %q, %v", is.name, names, want, err)
		}
		if len(want) == 0 {
			continue
		}
		if text, err := c.read(p.file); err != nil || text != cmp.Or(is.content, "base") {
			t.Errorf("%s: %q %v", is.name, text, err)
		}
	}
	if cs, err := c.Conflicts(t.Context()); err != nil || len(cs) > 0 {
		t.Errorf("conflicts %+v %v", cs, err)
	}
}

// TestDirectoryChangedApart: what is made in a directory gives it new times, which undo no chmod and bring back no directory that was removed.
func TestDirectoryChangedApart(t *testing.T) {
	a, b, c := threeNodes(t)
	private, gone := a.mkdir(record.Root, "private"), a.mkdir(record.Root, "gone")
	meet(t, a, b, c)
	mode := uint32(0o700)
	if _, err := a.SetAttr(t.Context(), private, AttrChange{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	if err := a.rmdir("gone"); err != nil {
		t.Fatal(err)
	}
	a.publishNow()
	b.now = a.now.Add(time.Hour)
	b.put(private, "file", "text")
	b.put(gone, "file", "text")
	b.publishNow()
	if err := b.Remove(t.Context(), gone, "file", false); err != nil {
		t.Fatal(err)
	}
	if got, want := meet(t, a, b, c), "/private/ 700\n/private/file 644 1 \"text\"\n"; got != want {
		t.Errorf("shown\n%swant\n%s", got, want)
	}
	c.put(private, "more", "text")
	meet(t, a, b, c)
	if s, err := c.view.Inode(private); err != nil || s.Kept != 0 {
		t.Errorf("%d heads beside the one shown, %v", s.Kept, err)
	}
}

// TestPagesChangedApart: a chmod writes the extents of a file in many pieces anew, into pages of its own, and changes no content all the same.
func TestPagesChangedApart(t *testing.T) {
	a, b, c := threeNodes(t)
	fewPages(a, b, c)
	id := a.put(record.Root, "file", "")
	blocks := []uint64{0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26}
	a.scatter(id, blocks)
	meet(t, a, b, c)
	a.scatter(id, []uint64{4, 20})
	a.publishNow()
	b.now = a.now.Add(time.Hour)
	mode := uint32(0o600)
	if _, err := b.SetAttr(t.Context(), id, AttrChange{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	if got, want := meet(t, a, b, c), a.atBlocks(id, 28); !strings.HasPrefix(got, "/file 600 ") || !slices.Equal(b.atBlocks(id, 28), want) || !slices.Equal(c.atBlocks(id, 28), want) || want[4] != 1 || want[20] != 2 {
		t.Errorf("%v\n%s", want, got)
	}
	if cs, err := c.Conflicts(t.Context()); err != nil || len(cs) > 0 {
		t.Errorf("conflicts %+v %v", cs, err)
	}
}

// TestKeepAndDropOfMerged: both wrote, and one changed the mode as well. To drop the version that is kept leaves the merged file; to keep it takes its content, and what
// only the other one changed stays.
func TestKeepAndDropOfMerged(t *testing.T) {
	for _, keep := range []bool{true, false} {
		a, b, c := threeNodes(t)
		id := a.put(record.Root, "a", "base")
		meet(t, a, b, c)
		mode := uint32(0o600)
		if err := errors.Join(scene{b, record.Root}.write("by b", true), scene{b, record.Root}.setAttr(AttrChange{Mode: &mode})); err != nil {
			t.Fatal(err)
		}
		b.publishNow()
		a.now = b.now.Add(time.Hour)
		if err := errors.Join(scene{a, record.Root}.write("by a", true), a.SetXattr(t.Context(), id, "user.k", []byte("of a"), 0)); err != nil {
			t.Fatal(err)
		}
		if got, want := meet(t, a, b, c), "/a 600 1 \"by a\"\n"; got != want {
			t.Errorf("shown\n%swant\n%s", got, want)
		}
		cs, err := c.Conflicts(t.Context())
		if err != nil || len(cs) != 1 {
			t.Fatalf("conflicts %+v %v", cs, err)
		}
		want := "/a 600 1 \"by a\"\n"
		if keep {
			err, want = c.KeepConflict(t.Context(), cs[0]), "/a 600 1 \"by b\"\n"
		} else {
			err = c.DropConflict(t.Context(), cs[0])
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := meet(t, a, b, c); got != want {
			t.Errorf("keep %v: shown\n%swant\n%s", keep, got, want)
		}
		x, err := b.Xattr(t.Context(), id, "user.k")
		if cs, err2 := a.Conflicts(t.Context()); errors.Join(err, err2) != nil || len(cs) > 0 || string(x) != "of a" {
			t.Errorf("keep %v: attribute %q, conflicts %+v, %v %v", keep, x, cs, err, err2)
		}
	}
}

// TestRemoveWithKeptVersion: to remove a file of which another version is kept removes the one that is shown, and the other takes its place; to remove that ends it.
func TestRemoveWithKeptVersion(t *testing.T) {
	a, b, c := threeNodes(t)
	a.put(record.Root, "f", "base")
	meet(t, a, b, c)
	a.put(record.Root, "f", "by a")
	a.publishNow()
	b.now = a.now.Add(time.Hour)
	b.put(record.Root, "f", "by b")
	meet(t, a, b, c)
	for _, want := range []string{"/f 644 1 \"by a\"\n", ""} {
		if err := c.Remove(t.Context(), record.Root, "f", false); err != nil {
			t.Fatal(err)
		}
		if got := meet(t, a, b, c); got != want {
			t.Errorf("shown\n%swant\n%s", got, want)
		}
		if cs, err := a.Conflicts(t.Context()); err != nil || len(cs) > 0 {
			t.Errorf("conflicts %+v %v", cs, err)
		}
	}
}
