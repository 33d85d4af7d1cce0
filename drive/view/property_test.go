package view_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
)

// history draws a history of two or three writers: each acts on what its own view shows, and takes over others' records at random. In half of the
// histories they begin with some directories, mostly move them, and seldom meet: so do cycles come about.
type history struct {
	t     testing.TB
	rt    *rapid.T
	logs  []*log
	views []*view.View
	taken [][]int // [node][writer] entries folded
	clock uint64
	ids   byte
	moves bool
}

func draw(t testing.TB, rt *rapid.T) *history {
	h := &history{t: t, rt: rt}
	n := rapid.IntRange(2, 3).Draw(rt, "nodes")
	for i := range n {
		h.logs = append(h.logs, &log{feed: hypercore.Key{byte(i + 1)}})
		h.views = append(h.views, newView(t))
		h.taken = append(h.taken, make([]int, n))
	}
	apart := 1
	if h.moves = rapid.Bool().Draw(rt, "moves"); h.moves {
		apart = 8
		for _, name := range []string{"x", "y", "z.txt", "v", "w"} {
			h.make(0, record.Root, name, record.Dir)
		}
		for node := range n {
			h.take(node, 0, len(h.logs[0].entries))
		}
	}
	for range rapid.IntRange(1, 40).Draw(rt, "steps") {
		node := rapid.IntRange(0, n-1).Draw(rt, "node")
		if from := rapid.IntRange(0, n*apart-1).Draw(rt, "from"); from != node && from < n {
			h.take(node, from, rapid.IntRange(h.taken[node][from], len(h.logs[from].entries)).Draw(rt, "upto"))
		}
		h.act(node)
		h.take(node, node, len(h.logs[node].entries))
	}
	return h
}

func (h *history) take(node, from, to int) {
	if to > h.taken[node][from] {
		fold(h.t, h.views[node], h.logs[from], h.taken[node][from], to)
		h.taken[node][from] = to
	}
}

func (h *history) stamp() record.Stamp {
	h.clock += rapid.Uint64Range(0, 2).Draw(h.rt, "tick")
	return stamp(h.clock)
}

// act lets node do something a person can do with what it sees.
func (h *history) act(node int) {
	v, l := h.views[node], h.logs[node]
	dirs, files := h.places(v)
	at := rapid.SampledFrom(dirs).Draw(h.rt, "dir")
	name := rapid.SampledFrom([]string{"x", "y", "z.txt"}).Draw(h.rt, "name")
	e, err := v.Lookup(at, name)
	exists := err == nil
	if es, err := v.ReadDir(at); err == nil && len(es) > 0 && rapid.IntRange(0, 2).Draw(h.rt, "any") == 0 { // conflict copies, too
		e, exists = rapid.SampledFrom(es).Draw(h.rt, "entry"), true
	}
	switch op := rapid.IntRange(0, 9).Draw(h.rt, "op"); {
	case h.moves && op >= 4: // move a directory
		var moving []view.EntryState
		for _, dir := range dirs {
			es, err := v.ReadDir(dir)
			if err != nil {
				h.rt.Fatal(err)
			}
			moving = append(moving, slices.DeleteFunc(es, func(e view.EntryState) bool { return e.Kind != record.Dir })...)
		}
		if len(moving) > 0 {
			e = rapid.SampledFrom(moving).Draw(h.rt, "moving")
			h.rename(v, l, e, at, rapid.SampledFrom([]string{e.Stored, e.Stored, name}).Draw(h.rt, "new name"))
		}
	case op <= 2 && !exists: // create
		kind := record.Dir
		if rapid.IntRange(0, 2).Draw(h.rt, "kind") == 0 {
			kind = record.File
		}
		h.make(node, at, name, kind)
	case op == 3: // change
		id := rapid.SampledFrom(append(slices.Clone(dirs[1:]), append(files, record.Root)...)).Draw(h.rt, "inode")
		s, err := v.Inode(id)
		if err != nil {
			return // its record is not here yet
		}
		l.inode(h.t, id, record.Inode{Kind: s.Kind, Mtime: int64(h.clock), Stamp: h.stamp(), Replaces: s.Replaces})
	case op == 4 && len(files) > 0 && !exists: // link
		id := rapid.SampledFrom(files).Draw(h.rt, "file")
		l.dirent(h.t, at, record.Dirent{Name: name, Inode: id, Kind: record.File, Stamp: h.stamp(), Replaces: h.tombstones(v, at, name)})
	case op <= 7 && exists: // rename
		to := rapid.SampledFrom(dirs).Draw(h.rt, "to")
		toName := rapid.SampledFrom([]string{"x", "y", "z.txt"}).Draw(h.rt, "new name")
		h.rename(v, l, e, to, toName)
	case exists: // remove
		if h.mayGo(v, e) {
			h.unname(v, l, e)
			l.dirent(h.t, e.Dir, record.Dirent{Name: e.Stored, Inode: e.ID, Kind: e.Kind, Removed: true, Stamp: h.stamp(), Replaces: e.Versions})
		}
	}
}

func (h *history) make(node int, dir record.ID, name string, kind record.Kind) {
	h.ids++
	id := record.ID{h.ids}
	h.logs[node].dirent(h.t, dir, record.Dirent{Name: name, Inode: id, Kind: kind, Stamp: h.stamp(), Replaces: h.tombstones(h.views[node], dir, name)})
	h.logs[node].inode(h.t, id, record.Inode{Kind: kind, Stamp: h.stamp()})
	h.take(node, node, len(h.logs[node].entries))
}

func (h *history) tombstones(v *view.View, dir record.ID, name string) []record.Version {
	versions, err := v.Tombstones(dir, name)
	if err != nil {
		h.rt.Fatal(err)
	}
	return versions
}

// mayGo reports whether e is no directory with something in it.
func (h *history) mayGo(v *view.View, e view.EntryState) bool {
	empty, err := v.Empty(e.ID)
	if err != nil {
		h.rt.Fatal(err)
	}
	return e.Kind != record.Dir || empty
}

// unname deletes the inode of e if that is its last name.
func (h *history) unname(v *view.View, l *log, e view.EntryState) {
	if s, err := v.Inode(e.ID); err == nil && s.Nlink <= 1 {
		l.inode(h.t, e.ID, record.Inode{Kind: e.Kind, Size: s.Size, Removed: true, Stamp: h.stamp(), Replaces: s.Replaces})
	}
}

// rename moves e, over what is there; not into itself, as far as v shows.
func (h *history) rename(v *view.View, l *log, e view.EntryState, dir record.ID, name string) {
	over, err := v.Lookup(dir, name)
	exists := err == nil
	if exists && (over.ID == e.ID || (over.Kind == record.Dir) != (e.Kind == record.Dir) || !h.mayGo(v, over)) {
		return
	}
	below := []record.ID{e.ID}
	for i := 0; i < len(below) && e.Kind == record.Dir; i++ {
		if below[i] == dir {
			return
		}
		es, err := v.ReadDir(below[i])
		if err != nil {
			h.rt.Fatal(err)
		}
		for _, e := range es {
			if e.Kind == record.Dir {
				below = append(below, e.ID)
			}
		}
	}
	to, replaces := record.Place{Dir: dir, Name: name}, h.tombstones(v, dir, name)
	if exists {
		h.unname(v, l, over)
		to, replaces = record.Place{Dir: over.Dir, Name: over.Stored}, over.Versions
	}
	from := record.Place{Dir: e.Dir, Name: e.Stored}
	if from == to {
		return
	}
	gone := func() {
		l.dirent(h.t, from.Dir, record.Dirent{Name: from.Name, Inode: e.ID, Kind: e.Kind, Removed: true, MovedTo: &to, Stamp: h.stamp(), Replaces: e.Versions})
	}
	first := rapid.Bool().Draw(h.rt, "the old name first")
	if first {
		gone()
	}
	l.dirent(h.t, to.Dir, record.Dirent{Name: to.Name, Inode: e.ID, Kind: e.Kind, MovedFrom: &from, Stamp: h.stamp(), Replaces: replaces})
	if !first {
		gone()
	}
}

// places lists the directories and files that v shows.
func (h *history) places(v *view.View) (dirs, files []record.ID) {
	dirs = []record.ID{record.Root}
	for i := 0; i < len(dirs) && i < 50; i++ {
		es, err := v.ReadDir(dirs[i])
		if err != nil {
			h.rt.Fatal(err)
		}
		for _, e := range es {
			if e.Kind == record.Dir {
				dirs = append(dirs, e.ID)
			} else {
				files = append(files, e.ID)
			}
		}
	}
	return dirs, files
}

// TestOrderDoesNotMatter: the view is a function of the set of records.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := draw(t, rt)
		one := newViewOf(t, h.logs)
		for _, l := range h.logs {
			fold(t, one, l, 0, len(l.entries))
		}
		other := newViewOf(t, h.logs)
		at := make([]int, len(h.logs))
		for {
			open := []int{}
			for i, l := range h.logs {
				if at[i] < len(l.entries) {
					open = append(open, i)
				}
			}
			if len(open) == 0 {
				break
			}
			i := rapid.SampledFrom(open).Draw(rt, "feed")
			to := rapid.IntRange(at[i]+1, len(h.logs[i].entries)).Draw(rt, "to")
			fold(t, other, h.logs[i], at[i], to)
			at[i] = to
		}
		a, b := one.Dump(), other.Dump()
		a = slices.DeleteFunc(a, func(s string) bool { return slices.Contains(b, s) })
		if x, err := one.Digest(); err != nil {
			rt.Fatal(err)
		} else if y, err := other.Digest(); err != nil || x != y {
			b = slices.DeleteFunc(b, func(s string) bool { return slices.Contains(one.Dump(), s) })
			rt.Fatalf("two orders, two views (%v)\n%s\n\n%s", err, strings.Join(a, "\n"), strings.Join(b, "\n"))
		}
	})
}

// TestSubdirs: the counter of directories shown is what a listing counts; only in merged directories, in which names may coincide, it is not kept.
func TestSubdirs(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := draw(t, rt)
		v := foldAll(t, h.logs...)
		dirs, _ := h.places(v)
		merged := slices.ContainsFunc(v.Dump(), func(row string) bool { return strings.HasPrefix(row, "t 6d ") })
		for _, dir := range dirs {
			es, err := v.ReadDir(dir)
			if err != nil {
				rt.Fatal(err)
			}
			want := 0
			for _, e := range es {
				if e.Kind == record.Dir {
					want++
				}
			}
			if c, err := v.Counts(dir, true); err != nil || c.Counted && c.Subdirs != want || !c.Counted && !merged {
				rt.Fatalf("%s: %+v, listed %d directories, %v", dir, c, want, err)
			}
		}
	})
}

// TestNothingIsLost: whatever was written and not deleted by somebody who had seen it is shown somewhere, or kept.
func TestNothingIsLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := draw(t, rt)
		v := foldAll(t, h.logs...)
		_, files := h.places(v)
		kept, err := v.Conflicts()
		if err != nil {
			rt.Fatal(err)
		}
		type version struct {
			id record.ID
			v  record.Version
		}
		replaced := map[record.Version]bool{}
		var live []version
		for _, l := range h.logs {
			for _, e := range l.entries {
				k, err := record.ParseKey(e.Key)
				if err != nil || k.Family != record.Inodes {
					continue
				}
				plain, err := keys.Open(l.feed, e.Key, e.Value)
				if err != nil {
					rt.Fatal(err)
				}
				n, err := record.DecodeInode(plain)
				if err != nil {
					rt.Fatal(err)
				}
				for _, r := range n.Replaces {
					replaced[r] = true
				}
				if n.Kind == record.File && !n.Removed {
					live = append(live, version{k.ID, record.Version{Feed: l.feed, Seq: e.Seq}})
				}
			}
		}
		for _, f := range live {
			if replaced[f.v] {
				continue
			}
			s, err := v.Inode(f.id)
			isKept := slices.ContainsFunc(kept, func(k view.Kept) bool { return k.Version == f.v })
			if err != nil || s.Version != f.v && !isKept || !slices.Contains(files, f.id) {
				rt.Fatalf("version %v of %s is lost: %+v %v, shown %v", f.v, f.id, s, err, fmt.Sprint(files))
			}
		}
	})
}

// TestEveryChangeIsTold: whoever remembers what names meant, as the kernel does, and forgets those that a fold tells of, is never wrong.
func TestEveryChangeIsTold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := draw(t, rt)
		v := newViewOf(t, h.logs)
		meant := map[record.Place]record.ID{}
		known := map[record.ID]bool{record.Root: true} // directories that were shown
		at := make([]int, len(h.logs))
		for {
			open := []int{}
			for i, l := range h.logs {
				if at[i] < len(l.entries) {
					open = append(open, i)
				}
			}
			if len(open) == 0 {
				return
			}
			i := rapid.SampledFrom(open).Draw(rt, "feed")
			to := rapid.IntRange(at[i]+1, min(at[i]+5, len(h.logs[i].entries))).Draw(rt, "to")
			changes, err := v.Fold(t.Context(), h.logs[i].feed, uint64(to+1), h.logs[i].entries[at[i]:to])
			if err != nil {
				rt.Fatal(err)
			}
			at[i] = to
			told := map[record.Place]record.ID{}
			for _, c := range changes {
				if c.Name != "" {
					told[record.Place{Dir: c.Dir, Name: c.Name}] = c.ID
				}
			}
			now := map[record.Place]record.ID{}
			before := maps.Clone(known)
			dirs, _ := h.places(v)
			for _, dir := range dirs {
				known[dir] = true
			}
			for dir := range known {
				es, err := v.ReadDir(dir)
				if err != nil {
					rt.Fatal(err)
				}
				for _, e := range es {
					now[record.Place{Dir: dir, Name: e.Name}] = e.ID
					if _, err := v.Inode(e.ID); errors.Is(err, view.ErrNotExist) != e.Awaited {
						rt.Fatalf("%+v: %v\n%s", e, err, h.dump())
					}
				}
			}
			for p := range now {
				if _, ok := meant[p]; !ok && before[p.Dir] {
					meant[p] = record.ID{}
				}
			}
			for p, was := range meant {
				is, ok := told[p]
				if now[p] != was && !ok || ok && is != now[p] {
					rt.Fatalf("%d/%s meant %d, means %d, told %v %d\n%s", p.Dir[0], p.Name, was[0], now[p][0], ok, is[0], h.dump())
				}
			}
			meant = now
		}
	})
}
