package drive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// crowd is two or three nodes that do things apart from each other. Every content begins with a text of its own, which ends with a semicolon.
type crowd struct {
	t       *testing.T
	rt      *rapid.T
	ws      []*world
	held    map[*world]map[record.ID]*File // open for writing
	written map[string]bool                // the contents that nobody who saw them took away
}

// TestNodesAgree: whatever two or three people do apart, with directories above all, while nodes are killed, cannot publish or have parts of what others published, all show the same once
// everybody has everything, what was written last in each file is somewhere, and whatever a node shows can be reached and changed. Some faults take thousands of histories:
//
//	go test -count=1 -timeout 1h -run TestNodesAgree ./drive -rapid.checks=20000
func TestNodesAgree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := twoNodes(t)
		c := &crowd{t: t, rt: rt, ws: []*world{a, b}, held: map[*world]map[record.ID]*File{}, written: map[string]bool{}}
		if rapid.Bool().Draw(rt, "three") {
			if err := a.Authorize(t.Context(), public(3), "Third"); err != nil {
				rt.Fatal(err)
			}
			c.ws = append(c.ws, newWorld(t, 3))
		}
		for _, name := range []string{"x", "y", "z"} {
			a.put(a.mkdir(record.Root, name), "in "+name, name+";")
			c.written[name+";"] = true
		}
		meet(t, c.ws...)
		for _, w := range c.ws {
			w.batch = rapid.SampledFrom([]int{1, 3, batchRecords}).Draw(rt, "batch")
			c.held[w] = map[record.ID]*File{}
		}
		for i := range rapid.IntRange(1, 50).Draw(rt, "steps") {
			n, other := rapid.IntRange(0, len(c.ws)-1).Draw(rt, "node"), rapid.IntRange(0, len(c.ws)-1).Draw(rt, "other")
			if n != other {
				switch rapid.IntRange(0, 6).Draw(rt, "meet") {
				case 0:
					exchange(t, c.ws[n], c.ws[other])
				case 1, 2:
					c.givePart(c.ws[n], c.ws[other])
				}
			}
			c.step(c.ws[n], fmt.Sprintf("text %d;", i))
		}
		for _, w := range c.ws {
			c.letGo(w)
		}
		got, err := gather(t, c.ws...)
		c.allow(err)
		for text := range c.written {
			if !strings.Contains(got, `"`+text) && !c.kept(a, text) {
				rt.Fatalf("%q is lost\n%s", text, got)
			}
		}
		for _, w := range c.ws {
			w.stop()
			w.feeds, w.kv = nil, nil // the test holds the nodes of all its histories
		}
		if t.Failed() {
			rt.Fatal("the stores do not check")
		}
	})
}

// givePart gives to all contents that from has, and the records of each writer as far as they came over.
func (c *crowd) givePart(from, to *world) {
	if rapid.Bool().Draw(c.rt, "published") {
		from.publishNow()
	}
	logs := []hypercore.Key{public(1), public(2), public(3)}
	for _, f := range from.FeedSet().List() {
		theirs, err := to.feedsGet(f.Key())
		if err != nil {
			c.rt.Fatal(err)
		}
		until := f.Len()
		if has := theirs.Len(); slices.Contains(logs, f.Key()) && has < until {
			until = rapid.Uint64Range(has, until).Draw(c.rt, "part")
		}
		giveFeed(c.t, f, to, until)
	}
	if err := to.receive(c.t.Context()); err != nil {
		c.rt.Fatal(err)
	}
}

// kept reports whether a kept head of w has text.
func (c *crowd) kept(w *world, text string) bool {
	cs, err := w.Conflicts(c.t.Context())
	if err != nil {
		c.rt.Fatal(err)
	}
	return slices.ContainsFunc(cs, func(kept Conflict) bool {
		f, err := w.OpenConflict(c.t.Context(), kept)
		if err != nil {
			c.rt.Fatal(err)
		}
		b := make([]byte, 40)
		n, err := f.ReadAt(c.t.Context(), b, 0)
		if err := errors.Join(err, f.Close()); err != nil {
			c.rt.Fatal(err)
		}
		return strings.HasPrefix(string(b[:n]), text)
	})
}

// name is an entry as a node shows it.
type name struct {
	dir record.ID
	DirEntry
	below []record.ID // a directory: what is in it, at any depth, itself included
}

// names lists everything that w shows below dir.
func (c *crowd) names(w *world, dir record.ID) (all []name) {
	es, err := w.ReadDir(c.t.Context(), dir)
	if err != nil {
		c.rt.Fatal(err)
	}
	for _, e := range es {
		n := name{dir: dir, DirEntry: e}
		var inside []name
		if e.Kind == record.Dir {
			n.below = []record.ID{e.ID}
			inside = c.names(w, e.ID)
		}
		for _, i := range inside {
			n.below = append(n.below, i.below...)
		}
		all = append(append(all, n), inside...)
	}
	return all
}

// step lets w do one thing, with text if that is to write.
func (c *crowd) step(w *world, text string) {
	ctx, rt := c.t.Context(), c.rt
	all := c.names(w, record.Root)
	dirs := []record.ID{record.Root}
	for _, n := range all {
		if n.Kind == record.Dir {
			dirs = append(dirs, n.ID)
		}
	}
	dir := rapid.SampledFrom(dirs).Draw(rt, "dir")
	as := rapid.SampledFrom([]string{"x", "y", "z", "f"}).Draw(rt, "name")
	at, err := w.Lookup(ctx, dir, as)
	exists := !errors.Is(err, ErrNotExist)
	if err != nil && exists {
		rt.Fatal(err)
	}
	var n, m name
	if len(all) > 0 {
		n, m = rapid.SampledFrom(all).Draw(rt, "what"), rapid.SampledFrom(all).Draw(rt, "with")
	}
	switch op := rapid.IntRange(0, 18).Draw(rt, "op"); {
	case op == 0 && !exists:
		c.allow(w.makeDir(dir, as), ErrExist)
	case op == 1 && (!exists || at.Kind == record.File):
		c.write(w, dir, as, text)
	case op == 2 && len(all) > 0:
		if n.Kind == record.File {
			c.goes(w, n.ID)
		}
		c.allow(w.Remove(ctx, n.dir, n.Name, n.Kind == record.Dir), ErrNotEmpty)
	case op == 3:
		w.publishNow()
	case op > 3 && op < 10 && len(all) > 0 && !slices.Contains(n.below, dir): // the kernel asks for none into itself
		if exists && at.Kind == record.File && n.Kind == record.File && at.ID != n.ID {
			c.goes(w, at.ID)
		}
		c.allow(w.Rename(ctx, n.dir, n.Name, dir, as, 0), ErrNotEmpty, ErrIsDir, ErrNotDir, ErrNotExist)
	case op == 10 && len(all) > 0: // changes no content
		mode := rapid.SampledFrom([]uint32{0o700, 0o755}).Draw(rt, "mode")
		_, err := w.SetAttr(ctx, n.ID, AttrChange{Mode: &mode})
		c.allow(err)
	case op == 11 && n.Kind == record.File && !exists:
		_, err := w.Link(ctx, n.ID, dir, as)
		c.allow(err, ErrExist)
	case op == 12 && len(all) > 0 && n.ID != m.ID && !slices.Contains(n.below, m.dir) && !slices.Contains(m.below, n.dir):
		c.allow(w.Rename(ctx, n.dir, n.Name, m.dir, m.Name, RenameExchange))
	case op == 13:
		w.now = w.now.Add(2 * time.Second) // by then it is quiet
		c.allow(w.publish(ctx, false))
	case op == 14:
		which := &fail
		if rapid.Bool().Draw(rt, "records") {
			which = &failOwn
		}
		c.publishFails(w, which)
	case op == 15:
		c.kill(w, rapid.Bool().Draw(rt, "flushed"))
	case op == 16:
		c.letGo(w)
	case op > 16 && n.Kind == record.File:
		c.hold(w, n.ID, text)
	}
}

// allow takes err for a failure unless it is one of those.
func (c *crowd) allow(err error, those ...error) {
	if err != nil && !slices.ContainsFunc(those, func(e error) bool { return errors.Is(err, e) }) {
		c.rt.Fatal(err)
	}
}

func (w *world) makeDir(dir record.ID, name string) error {
	_, err := w.Make(w.t.Context(), dir, name, NewInode{Kind: record.Dir, Mode: 0o755})
	return err
}

// goes notes that somebody who sees what is in a file takes it away.
func (c *crowd) goes(w *world, id record.ID) {
	was, err := w.read(id)
	if err != nil {
		c.rt.Fatal(err)
	}
	text, _, _ := strings.Cut(was, ";")
	delete(c.written, text+";")
}

// write makes the file name in dir, or overwrites it.
func (c *crowd) write(w *world, dir record.ID, name, text string) {
	at, err := w.Lookup(c.t.Context(), dir, name)
	if errors.Is(err, ErrNotExist) {
		at, err = w.Make(c.t.Context(), dir, name, NewInode{Kind: record.File, Mode: 0o644})
	}
	if errors.Is(err, ErrExist) {
		return // its inode is awaited
	}
	c.allow(err)
	f, err := w.Open(c.t.Context(), at.ID, true)
	c.allow(err)
	c.fill(w, f, at.ID, text)
	c.allow(f.Close())
}

// hold opens a file, or takes the one that is open, and may write to it. It stays open.
func (c *crowd) hold(w *world, id record.ID, text string) {
	f := c.held[w][id]
	if f == nil {
		var err error
		f, err = w.Open(c.t.Context(), id, true)
		c.allow(err)
		c.held[w][id] = f
	}
	if rapid.Bool().Draw(c.rt, "write") {
		c.fill(w, f, id, text)
	}
}

// fill replaces what is in the file id by text and a random number of dots behind it.
func (c *crowd) fill(w *world, f *File, id record.ID, text string) {
	c.goes(w, id)
	all := text + strings.Repeat(".", rapid.SampledFrom([]int{0, 5, 70_000, 200_000}).Draw(c.rt, "dots"))
	size := uint64(len(all))
	if rapid.Bool().Draw(c.rt, "from nothing") {
		size = 0
	}
	_, err := f.SetAttr(c.t.Context(), AttrChange{Size: &size})
	c.allow(err)
	_, err = f.WriteAt(c.t.Context(), []byte(all), 0, true)
	c.allow(err)
	c.written[text] = true
}

// letGo closes all files of w.
func (c *crowd) letGo(w *world) {
	for _, f := range c.held[w] {
		c.allow(f.Close())
	}
	clear(c.held[w])
}

// publishFails lets w publish while which makes it fail.
func (c *crowd) publishFails(w *world, which *atomic.Bool) {
	which.Store(true)
	defer which.Store(false)
	if err := w.Publish(c.t.Context()); err != nil && !errors.Is(err, ErrNoSpace) {
		c.rt.Fatal(err)
	}
}

// kill starts w again. What it got from others and had not flushed it gets again, or if it may write without that, the origin, in part.
func (c *crowd) kill(w *world, flushed bool) {
	if flushed {
		c.allow(w.flush(c.t.Context()))
	}
	clear(c.held[w])
	batch := w.batch
	w.crash(w.work.boot)
	w.batch = batch
	for _, other := range c.ws {
		switch {
		case flushed || other == w:
		case w.Writable():
			c.givePart(other, w)
		default:
			exchange(c.t, w, other)
		}
	}
}
