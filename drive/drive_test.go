package drive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hyphafs.org/hyphafs/drive/record"
)

func TestAcrossNodes(t *testing.T) {
	a, b := twoNodes(t)
	sub := a.mkdir(record.Root, "sub")
	a.put(sub, "hello", "hi")
	a.put(sub, "big", strings.Repeat("0123456789", 30_000))
	before := a.tree()
	a.publishNow()
	if got := a.tree(); got != before {
		t.Errorf("publishing changed the tree\n%s\n%s", before, got)
	}
	exchange(t, a, b)
	if got := b.tree(); got != before {
		t.Errorf("on the other node\n%s\nwant\n%s", got, before)
	}
	b.put(sub, "hello", "hi from b")
	b.publishNow()
	exchange(t, a, b)
	if got := a.tree(); got != b.tree() || !strings.Contains(got, "hi from b") {
		t.Errorf("back on the first\n%s\nsecond\n%s", got, b.tree())
	}
	s, err := a.Status()
	if err != nil || s.Conflicts != 0 || s.UnpublishedFiles != 0 || s.MissingBlocks != 0 || len(s.Feeds) != 4 {
		t.Errorf("%+v %v", s, err)
	}
	nodes, err := b.Nodes()
	if err != nil || len(nodes) != 2 || nodes[0].Name != "Node 1" || nodes[1].Name != "Second" || nodes[1].ApprovedBy != public(1) || !nodes[1].Self {
		t.Errorf("%+v %v", nodes, err)
	}
}

func TestReadOnlyBeforeApproval(t *testing.T) {
	a, b := newWorld(t, 1), newWorld(t, 2)
	id := a.put(record.Root, "f", "text")
	a.publishNow()
	exchange(t, a, b)
	if got, err := b.read(id); err != nil || got != "text" {
		t.Errorf("%q %v", got, err)
	}
	ctx := t.Context()
	_, made := b.Make(ctx, record.Root, "x", NewInode{Kind: record.File})
	_, opened := b.Open(ctx, id, true)
	_, set := b.SetAttr(ctx, id, AttrChange{})
	_, linked := b.Link(ctx, id, record.Root, "y")
	for what, err := range map[string]error{
		"make": made, "open": opened, "setattr": set, "link": linked,
		"remove": b.Remove(ctx, record.Root, "f", false), "rename": b.Rename(ctx, record.Root, "f", record.Root, "g", 0),
		"setxattr": b.SetXattr(ctx, id, "user.a", nil, 0), "removexattr": b.RemoveXattr(ctx, id, "user.a"), "authorise": b.Authorize(ctx, public(3), "x"),
	} {
		if !errors.Is(err, ErrNotAuthorised) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if a.tree() != b.tree() {
		t.Error("the trees differ")
	}
}

// TestTemporaryFilesNeverReachTheLog: what is gone before it is published leaves no record.
func TestTemporaryFilesNeverReachTheLog(t *testing.T) {
	a := newWorld(t, 1)
	a.put(record.Root, "doc", "one")
	a.publishNow()
	before := a.own.Len()
	a.put(record.Root, "tmp", "gone")
	if err := a.Remove(t.Context(), record.Root, "tmp", false); err != nil {
		t.Fatal(err)
	}
	a.put(record.Root, "doc.new", "two")
	if err := a.Rename(t.Context(), record.Root, "doc.new", record.Root, "doc", 0); err != nil {
		t.Fatal(err)
	}
	a.publishNow()
	// the new inode, the entry, the deletion of the old inode, and the root's times
	if n := a.own.Len() - before; n != 4 {
		t.Errorf("%d records", n)
	}
	if got := a.tree(); !strings.Contains(got, `/doc 644 1 "two"`) || strings.Contains(got, "tmp") {
		t.Error(got)
	}
}

// TestTrash: a desktop moves files and folders to the trash by one rename, whatever others know of them, and back.
func TestTrash(t *testing.T) {
	a, b := twoNodes(t)
	a.put(record.Root, "f", "x")
	a.put(a.mkdir(record.Root, "d"), "g", "y")
	a.publishNow()
	exchange(t, a, b)
	trash := b.mkdir(record.Root, ".Trash-1000")
	for _, name := range []string{"f", "d"} {
		if err := b.Rename(t.Context(), record.Root, name, trash, name, 0); err != nil {
			t.Errorf("%s to the trash: %v", name, err)
		}
	}
	if err := b.Rename(t.Context(), trash, "d", record.Root, "d", 0); err != nil {
		t.Errorf("back from the trash: %v", err)
	}
	b.publishNow()
	exchange(t, a, b)
	if got := a.tree(); got != b.tree() || !strings.Contains(got, "/.Trash-1000/f 644 1 \"x\"") || !strings.Contains(got, "/d/g 644 1 \"y\"") {
		t.Errorf("the other node shows\n%s\nwant\n%s", got, b.tree())
	}
}

func TestScratchStaysHere(t *testing.T) {
	a, b := twoNodes(t)
	a.put(record.Root, ".doc.swp", "vim")
	scratch := a.mkdir(record.Root, ".#scratch")
	a.put(scratch, "inside", "x")
	a.put(record.Root, "plain", "y")
	a.publishNow()
	exchange(t, a, b)
	if got := b.tree(); got != "/plain 644 1 \"y\"\n" {
		t.Errorf("the other node shows\n%s", got)
	}
	if err := a.Rename(t.Context(), record.Root, "plain", scratch, "plain", 0); !errors.Is(err, ErrCrossDevice) {
		t.Errorf("a published file went to a place that stays here: %v", err)
	}
	a.stop()
	a.start()
	if got := a.tree(); !strings.Contains(got, ".doc.swp") || !strings.Contains(got, ".#scratch/inside") {
		t.Errorf("after a restart\n%s", got)
	}
	if err := a.Rename(t.Context(), record.Root, ".doc.swp", record.Root, "doc", 0); err != nil {
		t.Fatal(err)
	}
	a.publishNow()
	exchange(t, a, b)
	if got := b.tree(); !strings.Contains(got, `/doc 644 1 "vim"`) {
		t.Errorf("renamed to an ordinary name\n%s", got)
	}
}

func TestConflicts(t *testing.T) {
	a, b := twoNodes(t)
	id := a.put(record.Root, "f", "base")
	a.publishNow()
	exchange(t, a, b)
	a.put(record.Root, "f", "from a")
	b.put(record.Root, "f", "from b")
	a.publishNow()
	b.publishNow()
	exchange(t, a, b)
	if a.tree() != b.tree() {
		t.Errorf("the nodes differ\n%s\n%s", a.tree(), b.tree())
	}
	shown, err := a.read(id)
	if err != nil {
		t.Fatal(err)
	}
	cs, err := a.Conflicts(t.Context())
	if err != nil || len(cs) != 1 || cs[0].Path != "f" {
		t.Fatalf("%+v %v", cs, err)
	}
	f, err := a.OpenConflict(t.Context(), cs[0])
	if err != nil {
		t.Fatal(err)
	}
	kept := make([]byte, 20)
	n, err := f.ReadAt(t.Context(), kept, 0)
	if err := errors.Join(err, f.Close()); err != nil || string(kept[:n]) == shown || !strings.HasPrefix(string(kept), "from ") {
		t.Fatalf("kept %q, shown %q, %v", kept[:n], shown, err)
	}
	if err := a.KeepConflict(t.Context(), cs[0]); err != nil {
		t.Fatal(err)
	}
	a.publishNow()
	exchange(t, a, b)
	if got, err := b.read(id); err != nil || got != string(kept[:n]) {
		t.Errorf("%q %v", got, err)
	}
	for _, w := range []*world{a, b} {
		if cs, err := w.Conflicts(t.Context()); len(cs) != 0 || err != nil {
			t.Errorf("%+v %v", cs, err)
		}
	}
}

// TestTimesAreNoConflict: what was touched on two nodes is nothing to decide, and the next change ends both heads.
func TestTimesAreNoConflict(t *testing.T) {
	a, b := twoNodes(t)
	f, g := a.put(record.Root, "f", "same"), a.put(record.Root, "g", "same")
	a.publishNow()
	exchange(t, a, b)
	for _, w := range []*world{a, b} {
		for _, id := range []record.ID{f, g} {
			now := w.cfg.Now()
			if _, err := w.SetAttr(t.Context(), id, AttrChange{Mtime: &now}); err != nil {
				t.Fatal(err)
			}
		}
		w.publishNow()
	}
	exchange(t, a, b)
	a.put(record.Root, "f", "changed")
	if err := b.Remove(t.Context(), record.Root, "g", false); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, w := range []*world{a, b} {
			if cs, err := w.Conflicts(t.Context()); len(cs) != 0 || err != nil {
				t.Errorf("%+v %v", cs, err)
			}
		}
		a.publishNow()
		b.publishNow()
		exchange(t, a, b)
	}
	if a.tree() != b.tree() || strings.Contains(a.tree(), "/g ") {
		t.Errorf("the deleted file is back, or the nodes differ\n%s\n%s", a.tree(), b.tree())
	}
}

// TestConflictOfAttributes: two heads that hold the same bytes differ all the same, and keep takes all of the kept one.
func TestConflictOfAttributes(t *testing.T) {
	a, b := twoNodes(t)
	id := a.put(record.Root, "f", "same")
	a.publishNow()
	exchange(t, a, b)
	for i, w := range []*world{a, b} {
		mode := []uint32{0600, 0755}[i]
		if _, err := w.SetAttr(t.Context(), id, AttrChange{Mode: &mode}); err != nil {
			t.Fatal(err)
		}
		if err := w.SetXattr(t.Context(), id, "user.by", fmt.Append(nil, mode), 0); err != nil {
			t.Fatal(err)
		}
		w.publishNow()
	}
	exchange(t, a, b)
	cs, err := a.Conflicts(t.Context())
	if err != nil || len(cs) != 1 {
		t.Fatalf("%+v %v", cs, err)
	}
	before, err := a.Attr(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.KeepConflict(t.Context(), cs[0]); err != nil {
		t.Fatal(err)
	}
	a.publishNow()
	exchange(t, a, b)
	want := uint32(0600 ^ 0755 ^ before.Mode) // the other's
	for _, w := range []*world{a, b} {
		attr, err := w.Attr(t.Context(), id)
		by, err2 := w.Xattr(t.Context(), id, "user.by")
		if err := errors.Join(err, err2); err != nil || attr.Mode != want || string(by) != fmt.Sprint(want) {
			t.Errorf("mode %o, user.by %s, %v; want %o of both", attr.Mode, by, err, want)
		}
	}
}

// TestRemoteChangeWhileDirty: a peer's change that arrives while the same file is being written stays as a kept head.
func TestRemoteChangeWhileDirty(t *testing.T) {
	a, b := twoNodes(t)
	id := a.put(record.Root, "f", "base")
	a.publishNow()
	exchange(t, a, b)
	f, err := b.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(t.Context(), []byte("mine"), 0, true); err != nil {
		t.Fatal(err)
	}
	a.put(record.Root, "f", "theirs")
	a.publishNow()
	exchange(t, a, b)
	if got, err := b.read(id); err != nil || got != "mine" {
		t.Errorf("while it is open: %q %v", got, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b.publishNow()
	cs, err := b.Conflicts(t.Context())
	if err != nil || len(cs) != 1 {
		t.Fatalf("%+v %v", cs, err)
	}
}

func TestUnlinkedButOpen(t *testing.T) {
	a := newWorld(t, 1)
	id := a.put(record.Root, "f", "text")
	a.publishNow()
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Remove(t.Context(), record.Root, "f", false); err != nil {
		t.Fatal(err)
	}
	a.publishNow()
	if _, err := f.WriteAt(t.Context(), []byte("more"), 4, true); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 20)
	n, err := f.ReadAt(t.Context(), b, 0)
	at, err2 := f.Attr(t.Context())
	if string(b[:n]) != "textmore" || err != nil || err2 != nil || at.Nlink != 0 || at.Size != 8 {
		t.Errorf("%q %v %+v %v", b[:n], err, at, err2)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	a.Forget(id)
	a.publishNow()
	if len(a.overlay.inodes) != 0 || a.tree() != "" {
		t.Errorf("%d inodes left, tree %q", len(a.overlay.inodes), a.tree())
	}
}

func TestHardLinks(t *testing.T) {
	a, b := twoNodes(t)
	id := a.put(record.Root, "one", "x")
	if at, err := a.Link(t.Context(), id, record.Root, "two"); err != nil || at.Nlink != 2 {
		t.Fatalf("%+v %v", at, err)
	}
	a.publishNow()
	if at, err := a.Link(t.Context(), id, record.Root, "three"); err != nil || at.Nlink != 3 {
		t.Fatalf("%+v %v", at, err)
	}
	if err := a.Remove(t.Context(), record.Root, "one", false); err != nil {
		t.Fatal(err)
	}
	if at, err := a.Attr(t.Context(), id); err != nil || at.Nlink != 2 {
		t.Errorf("%+v %v", at, err)
	}
	a.publishNow()
	exchange(t, a, b)
	if a.tree() != b.tree() || !strings.Contains(a.tree(), `/three 644 2 "x"`) {
		t.Errorf("%s\n%s", a.tree(), b.tree())
	}
}

// TestLinksOfARemovedDirectory: one that is still known to the kernel has none, published or not.
func TestLinksOfARemovedDirectory(t *testing.T) {
	a := newWorld(t, 1)
	for _, publish := range []bool{false, true} {
		dir := a.mkdir(record.Root, "dir")
		if publish {
			a.publishNow()
		}
		if err := a.Remove(t.Context(), record.Root, "dir", true); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if at, err := a.Attr(t.Context(), dir); err != nil || at.Nlink != 0 {
				t.Errorf("published %v: %+v %v", publish, at, err)
			}
			a.publishNow()
		}
		if at, err := a.Attr(t.Context(), record.Root); err != nil || at.Nlink != 2 {
			t.Errorf("root: %+v %v", at, err)
		}
		a.Forget(dir)
	}
}

func TestSparse(t *testing.T) {
	a := newWorld(t, 1)
	id := a.put(record.Root, "f", "")
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	const far = 1 << 40
	if _, err := f.WriteAt(t.Context(), []byte("end"), far, true); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		at, err := f.Attr(t.Context())
		if err != nil || at.Size != far+3 || at.Blocks > 256 {
			t.Errorf("%+v %v", at, err)
		}
		if off, err := f.SeekData(t.Context(), 0, false); off != far || err != nil {
			t.Errorf("data at %d %v", off, err)
		}
		if off, err := f.SeekData(t.Context(), 0, true); off != 0 || err != nil {
			t.Errorf("hole at %d %v", off, err)
		}
		if off, err := f.SeekData(t.Context(), far, true); off != far+3 || err != nil {
			t.Errorf("hole at %d %v", off, err)
		}
		b := make([]byte, 8)
		if n, err := f.ReadAt(t.Context(), b, far-5); n != 8 || err != nil || string(b) != "\x00\x00\x00\x00\x00end" {
			t.Errorf("%q %v", b[:n], err)
		}
	}
	check()
	a.publishNow()
	check()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	a.publishNow()
	if f, err = a.Open(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	check()
	if err := f.Allocate(t.Context(), punchHole|keepSize, far, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := f.SeekData(t.Context(), 0, false); !errors.Is(err, ErrNoData) {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestChangesThatAPublishFoldsAreTold: whoever folds a peer's records, the kernel hears of them.
func TestChangesThatAPublishFoldsAreTold(t *testing.T) {
	a, b := twoNodes(t)
	b.put(record.Root, "from b", "x")
	b.publishNow()
	give(t, b, a)
	var told []Change
	a.cfg.Changed = func(cs []Change) { told = append(told, cs...) }
	a.put(record.Root, "from a", "y")
	a.publishNow() // folds b's records on its way
	if err := a.receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(told, func(c Change) bool { return c.Name == "from b" }) {
		t.Errorf("told %+v", told)
	}
}
