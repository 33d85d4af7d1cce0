package drive

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
)

// later lets time pass and publishes what is due then, as Run does.
func (w *world) later(d time.Duration) {
	w.t.Helper()
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	if err := w.publish(w.t.Context(), false); err != nil {
		w.t.Fatal(err)
	}
}

// TestRemovedWhileOpen: a file that is removed while somebody writes it is gone here and on other nodes, whenever that is published, and stays readable
// to who has it open.
func TestRemovedWhileOpen(t *testing.T) {
	a, b := twoNodes(t)
	id := a.put(record.Root, "f", "text")
	a.publishNow()
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Remove(t.Context(), record.Root, "f", false); err != nil {
		t.Fatal(err)
	}
	for _, wait := range []time.Duration{2 * time.Second, 20 * time.Second} {
		a.later(wait)
		exchange(t, a, b)
		for _, w := range []*world{a, b} {
			if got := w.tree(); got != "" {
				t.Errorf("node %d after %v:\n%s", w.n, wait, got)
			}
		}
		if _, err := f.WriteAt(t.Context(), []byte("more"), 4, false); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 9)
		if n, err := f.ReadAt(t.Context(), p, 0); err != nil || string(p[:n]) != "textmore" {
			t.Errorf("%q %v", p[:n], err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	a.Forget(id)
	a.publishNow()
	exchange(t, a, b)
	if got := a.tree() + b.tree(); got != "" {
		t.Errorf("after the close:\n%s", got)
	}
}

// TestPublishInUse: a folder keeps its links and its files while they are being published.
func TestPublishInUse(t *testing.T) {
	w := newWorld(t, 1)
	dir := w.mkdir(record.Root, "folder")
	const files = 800
	for i := range files {
		a, err := w.Make(t.Context(), dir, fmt.Sprint(i), NewInode{Kind: record.File, Mode: 0o644})
		if err == nil && i%100 == 0 {
			_, err = w.Make(t.Context(), dir, fmt.Sprint("folder ", i), NewInode{Kind: record.Dir})
		}
		if err != nil {
			t.Fatal(err)
		}
		w.Forget(a.ID)
	}
	before, err := w.Attr(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var group sync.WaitGroup
	group.Go(func() {
		for !stop.Load() {
			if a, err := w.Attr(t.Context(), dir); err != nil || a.Nlink != before.Nlink {
				t.Errorf("the folder has %d links, %v, want %d", a.Nlink, err, before.Nlink)
				return
			}
			if a, err := w.Lookup(t.Context(), dir, fmt.Sprint(files-1)); err != nil || a.Nlink != 1 {
				t.Errorf("a file has %d links, %v", a.Nlink, err)
				return
			}
		}
	})
	w.publishNow()
	stop.Store(true)
	group.Wait()
}

// TestBatches: what does not go into one batch goes into several, each of which another node can fold by itself.
func TestBatches(t *testing.T) {
	a, b := twoNodes(t)
	a.batch = 4
	deep := record.Root
	for i := range 10 {
		deep = a.mkdir(deep, fmt.Sprint("deep ", i))
	}
	for i := range 20 {
		a.put(deep, fmt.Sprint("file ", i), "text")
	}
	before := a.tree()
	first := a.own.Len()
	a.publishNow()
	if got := a.tree(); got != before {
		t.Errorf("published\n%s\nwant\n%s", got, before)
	}
	if n := a.own.Len() - first; n != 2*(10+20)+1 {
		t.Errorf("%d records", n)
	}
	exchange(t, a, b)
	if got := b.tree(); got != before {
		t.Errorf("on the other node\n%s\nwant\n%s", got, before)
	}
	es, err := b.ReadDir(t.Context(), deep)
	if err != nil {
		t.Fatal(err)
	}
	b.batch = 4
	for _, e := range es {
		if err := b.Remove(t.Context(), deep, e.Name, false); err != nil {
			t.Fatal(err)
		}
		b.Forget(e.ID)
	}
	for left := len(es); left > 0; { // each batch by itself
		b.later(2 * time.Second)
		exchange(t, a, b)
		now, err := a.ReadDir(t.Context(), deep)
		if err != nil || len(now) > left {
			t.Fatalf("%d of %d left, %v", len(now), left, err)
		}
		left = len(now)
	}
	if a.tree() != b.tree() {
		t.Errorf("first\n%s\nsecond\n%s", a.tree(), b.tree())
	}
}

// TestLinkOutlivesName: of a file that lost its old name, the name that is left goes into the same batch although it is not due: else the file would be shown
// where it was.
func TestLinkOutlivesName(t *testing.T) {
	w := newWorld(t, 1)
	ctx := t.Context()
	id := w.put(record.Root, "old", "text")
	w.publishNow()
	if _, err := w.Link(ctx, id, record.Root, "new"); err != nil {
		t.Fatal(err)
	}
	if err := w.Remove(ctx, record.Root, "old", false); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.now = w.now.Add(2 * time.Second)
	w.mu.Unlock()
	if err := w.Rename(ctx, record.Root, "new", record.Root, "newer", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.SetAttr(ctx, id, AttrChange{Mode: new(uint32)}); err != nil {
		t.Fatal(err)
	}
	w.later(0)
	if a, err := w.Lookup(ctx, record.Root, "old"); !errors.Is(err, ErrNotExist) {
		t.Errorf("the old name is back: %+v, %v", a, err)
	}
	if a, err := w.Lookup(ctx, record.Root, "newer"); err != nil || a.ID != id || a.Nlink != 1 {
		t.Errorf("%+v, %v", a, err)
	}
}

// brokenKV fails while it is told to.
type brokenKV struct {
	view.KV
	healthy atomic.Int64 // how many transactions go on working; negative: all
}

var errBroken = errors.New("broken")

func (k *brokenKV) View(fn func(view.Tx) error) error {
	if n := k.healthy.Load(); n == 0 {
		return errBroken
	} else if n > 0 {
		k.healthy.Add(-1)
	}
	return k.KV.View(fn)
}

// TestFoldFailsBehindBatch: a batch that is in the feed and cannot be folded here stays visible from the overlay, and is published no second time
// as if nobody had done so.
func TestFoldFailsBehindBatch(t *testing.T) {
	a, b := twoNodes(t)
	a.stop()
	kv := &brokenKV{KV: a.kv}
	kv.healthy.Store(-1)
	a.disk = kv
	a.start()
	for i := range 300 {
		a.put(record.Root, fmt.Sprint("f", i), "text")
	}
	before := a.tree()
	failed := 0
	for n := int64(0); ; n += 97 {
		kv.healthy.Store(n)
		err := a.Publish(t.Context())
		kv.healthy.Store(-1)
		if got := a.tree(); got != before {
			t.Fatalf("after %d transactions, %v, the tree is\n%s", n, err, got)
		}
		if err == nil {
			break
		}
		if failed++; !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
	}
	if failed == 0 {
		t.Error("nothing failed")
	}
	exchange(t, a, b)
	for _, w := range []*world{a, b} {
		if got := w.tree(); got != before {
			t.Errorf("node %d\n%s", w.n, got)
		}
		if cs, err := w.Conflicts(t.Context()); err != nil || len(cs) > 0 {
			t.Errorf("node %d: conflicts %+v, %v", w.n, cs, err)
		}
	}
}

// TestPeerWinsBehindTheOverlay: a peer's version arrives while the file is changed here, and has the greater stamp. Until ours is published ours is
// what is shown; then the kernel, which knows nothing but ours, is told that it is not.
func TestPeerWinsBehindTheOverlay(t *testing.T) {
	a, b := twoNodes(t)
	id := a.put(record.Root, "f", "before")
	meet(t, a, b)
	a.put(record.Root, "f", "here")
	b.Drive.clock = record.Stamp{Wall: record.MaxWall, Logical: math.MaxUint32} // which ours cannot pass, only equal, and b's key is the greater
	b.put(record.Root, "f", "there")
	b.publishNow()
	exchange(t, b, a)
	if got, err := a.read(id); got != "here" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	a.notices = nil // told when the peer's version came
	a.publishNow()
	if got, err := a.read(id); got != "there" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if !slices.Contains(a.notices, Change{ID: id}) {
		t.Errorf("the kernel is told %v", a.notices)
	}
}

// TestRemovedTree: a removed tree goes out in batches too small for it. At no time is any of it shown again.
func TestRemovedTree(t *testing.T) {
	w := newWorld(t, 1)
	w.batch = 3
	top := w.mkdir(record.Root, "top")
	for i := range 5 {
		dir := w.mkdir(top, fmt.Sprint("dir ", i))
		for k := range 5 {
			w.put(dir, fmt.Sprint("file ", k), "text")
		}
	}
	w.publishNow()
	for i := range 5 {
		dir := w.path("top", fmt.Sprint("dir ", i))
		for k := range 5 {
			if err := w.Remove(t.Context(), dir, fmt.Sprint("file ", k), false); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Remove(t.Context(), top, fmt.Sprint("dir ", i), true); err != nil {
			t.Fatal(err)
		}
	}
	for w.overlay.count > 0 {
		before := w.own.Len()
		due := w.due(true)
		if _, err := w.publishContent(t.Context(), due); err != nil {
			t.Fatal(err)
		}
		if _, err := w.publishRecords(t.Context(), due, true); err != nil {
			t.Fatal(err)
		}
		if w.own.Len() == before {
			t.Fatalf("%d entries are never published", w.overlay.count)
		}
		if left, err := w.ReadDir(t.Context(), top); len(left) > 0 || err != nil {
			t.Fatalf("shown again: %v, %v", left, err)
		}
	}
	if err := w.Remove(t.Context(), record.Root, "top", true); err != nil {
		t.Error(err)
	}
}

// TestMovedWithWhatIsNotPublished: a directory was moved, and has files that are not due. They go out with their inodes, not with its old name.
func TestMovedWithWhatIsNotPublished(t *testing.T) {
	a, b := twoNodes(t)
	a.mkdir(record.Root, "was")
	a.publishNow()
	a.mv("was", "is")
	a.mu.Lock()
	a.now = a.now.Add(2 * time.Second) // the move is due
	a.mu.Unlock()
	a.put(a.path("is"), "new", "text")
	if err := a.publish(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	exchange(t, a, b)
	if got, want := b.tree(), "/is/ 755\n"; got != want {
		t.Errorf("before the file is due the other node shows\n%swant\n%s", got, want)
	}
	a.publishNow()
	exchange(t, a, b)
	if got, want := b.tree(), "/is/ 755\n/is/new 644 1 \"text\"\n"; got != want {
		t.Errorf("the other node shows\n%swant\n%s", got, want)
	}
}

// TestDeletedBeforeItsName: a file that is open is deleted, and that is published before the removal of its name is due. It stays deleted, whatever is written to it.
func TestDeletedBeforeItsName(t *testing.T) {
	w := newWorld(t, 1)
	id := w.put(record.Root, "f", "text")
	w.publishNow()
	f, err := w.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	write := func() {
		t.Helper()
		if _, err := f.WriteAt(t.Context(), []byte("more"), 0, false); err != nil {
			t.Fatal(err)
		}
	}
	write()
	w.now = w.now.Add(w.cfg.Overdue)
	if err := w.Remove(t.Context(), record.Root, "f", false); err != nil {
		t.Fatal(err)
	}
	if err := w.publish(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if s, err := w.view.Inode(id); err != nil || !s.Removed || w.overlay.entry(record.Root, "f") == nil {
		t.Fatalf("not only the inode was published: %+v, %v", s, err)
	}
	write()
	w.publishNow()
	for range 2 {
		if got := w.tree(); got != "" {
			t.Errorf("shown is\n%s", got)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		w.publishNow()
	}
}

// TestPublishInOrder: what changed first goes first, over several batches, and side by side into the content feed.
func TestPublishInOrder(t *testing.T) {
	w := newWorld(t, 1)
	w.batch = 8
	now := time.Unix(1_700_000_000, 0)
	w.clock = func() time.Time { now = now.Add(time.Millisecond); return now }
	var ids []record.ID
	for i := range 50 {
		w.put(record.Root, fmt.Sprint("file ", i), "x")
		a, err := w.Lookup(t.Context(), record.Root, fmt.Sprint("file ", i))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, a.ID)
	}
	if err := w.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := uint64(0)
	for i, id := range ids {
		s, err := w.view.Inode(id)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = s.Extents[0].Seq
		}
		if len(s.Extents) != 1 || s.Extents[0].Seq != first+uint64(i) {
			t.Errorf("file %d is in %v, the first one in block %d", i, s.Extents, first)
		}
	}
}

// TestPartOfABatch: whoever has the records of a batch as far as they came over finds each name that is listed, and what it stands for.
func TestPartOfABatch(t *testing.T) {
	a, b := twoNodes(t)
	dir := a.mkdir(record.Root, "dir")
	a.put(dir, "moved", "here before")
	a.put(dir, "removed", "here before")
	a.publishNow()
	exchange(t, a, b)
	below := a.mkdir(a.mkdir(dir, "new"), "below")
	for i := range 20 {
		a.put(below, fmt.Sprint("file ", i), "")
	}
	if err := errors.Join(a.Rename(t.Context(), dir, "moved", below, "here", 0), a.Remove(t.Context(), dir, "removed", false)); err != nil {
		t.Fatal(err)
	}
	a.publishNow()
	to, err := b.feedsGet(a.own.Key())
	if err != nil {
		t.Fatal(err)
	}
	for seq := to.Len(); seq < a.own.Len(); seq++ {
		hand(t, a.own, to, seq)
		if err := b.receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.tree() // looks everything up
	}
	if want, got := a.tree(), b.tree(); got != want || !strings.Contains(got, "/dir/new/below/here ") {
		t.Errorf("have\n%s\nwant\n%s", got, want)
	}
}

// TestNameBeforeItsInode: one node made something, another one named it anew, and of the first nothing has arrived: no listing has what nobody can open, what is on its way
// cannot be replaced or removed with its directory, and it is told when it is there.
func TestNameBeforeItsInode(t *testing.T) {
	a, b, c := threeNodes(t)
	id := b.put(b.mkdir(record.Root, "dir"), "in", "of b")
	b.put(record.Root, "f", "of b")
	b.publishNow()
	exchange(t, b, c)
	to := c.mkdir(record.Root, "to")
	c.put(to, "here", "of c")
	c.mv("f", "to/f")
	c.mv("dir", "to/dir")
	c.publishNow()
	giveFeed(t, c.own, a, c.own.Len())
	giveFeed(t, c.bytes, a, c.bytes.Len())
	if err := a.receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := a.tree(), "/to/ 755\n/to/here 644 1 \"of c\"\n"; got != want {
		t.Errorf("shown is\n%s\nwant\n%s", got, want)
	}
	a.put(record.Root, "mine", "of a")
	for _, name := range []string{"f", "dir"} {
		if _, err := a.Make(t.Context(), to, name, NewInode{Kind: record.File, Mode: 0o644}); !errors.Is(err, ErrExist) {
			t.Errorf("%s made: %v", name, err)
		}
		if err := a.Rename(t.Context(), record.Root, "mine", to, name, 0); err == nil {
			t.Errorf("%s replaced", name)
		}
	}
	if err := errors.Join(a.Remove(t.Context(), to, "here", false), a.Remove(t.Context(), record.Root, "to", true)); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("removed with what was on its way: %v", err)
	}
	var told []Change
	a.cfg.Changed = func(changes []Change) { told = append(told, changes...) }
	exchange(t, a, b)
	if !slices.ContainsFunc(told, func(ch Change) bool { return ch.Dir == to && ch.Name == "f" }) {
		t.Errorf("told %+v", told)
	}
	if got := meet(t, a, b, c); !strings.Contains(got, "/to/f 644 1 \"of b\"\n") || !strings.Contains(got, "/to/dir/in 644 1 \"of b\"\n") || a.path("to", "dir", "in") != id {
		t.Errorf("after\n%s", got)
	}
}

// TestChangedBeforeItsInode: a kill that takes back what had come from peers, but not what was done to it here, leaves that listed.
func TestChangedBeforeItsInode(t *testing.T) {
	a, b := twoNodes(t)
	if err := b.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := a.put(record.Root, "f", "of a")
	a.publishNow()
	exchange(t, a, b)
	b.mv("f", "g")
	b.publishNow()
	b.put(record.Root, "g", "of b")
	b.crash(b.work.boot)
	if _, err := b.view.Inode(id); !errors.Is(err, view.ErrNotExist) {
		t.Fatalf("the record of the inode is still here: %v", err)
	}
	if got, want := b.tree(), "/g 644 1 \"of b\"\n"; got != want {
		t.Errorf("shown is\n%s\nwant\n%s", got, want)
	}
	if got := meet(t, a, b); got != "/g 644 1 \"of b\"\n" {
		t.Errorf("after\n%s", got)
	}
}
