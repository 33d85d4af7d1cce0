package drive

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hyphafs.org/hyphafs/drive/record"
)

// modelNode is a file or directory of a file system that is nothing but memory.
type modelNode struct {
	names map[string]*modelNode // of a directory; nil for a file
	data  []byte
	links int
}

func (m *modelNode) tree(b *bytes.Buffer, at string) {
	var names []string
	for name := range m.names {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if n := m.names[name]; n.names != nil {
			fmt.Fprintf(b, "%s/%s/ %d\n", at, name, 2+n.subdirs())
			n.tree(b, at+"/"+name)
		} else {
			fmt.Fprintf(b, "%s/%s %d %d %x\n", at, name, n.links, len(n.data), hashOf(n.data))
		}
	}
}

// subdirs counts the directories in m.
func (m *modelNode) subdirs() (n int) {
	for _, c := range m.names {
		if c.names != nil {
			n++
		}
	}
	return n
}

func hashOf(b []byte) (h uint64) {
	for _, c := range b {
		h = h*1099511628211 + uint64(c) + 1
	}
	return h
}

// machine drives a node and the model side by side.
type machine struct {
	t     *rapid.T
	w     *world
	other *world
	root  *modelNode
	held  []*File // open for writing
}

// hold opens a file for writing until later, whatever becomes of it.
func (m *machine) hold() {
	dir, n := m.at()
	name, ctx := m.name(), m.w.t.Context()
	if f := n.names[name]; f == nil || f.names != nil {
		return
	}
	a, err := m.w.Lookup(ctx, dir, name)
	m.same("lookup", err, nil)
	h, err := m.w.Open(ctx, a.ID, true)
	m.same("open", err, nil)
	m.held = append(m.held, h)
}

// letGo closes what is open, as the end of a process does.
func (m *machine) letGo() {
	for _, h := range m.held {
		m.same("close", h.Close(), nil)
	}
	m.held = nil
}

// at draws a directory, in the drive and in the model.
func (m *machine) at() (record.ID, *modelNode) {
	id, n := record.Root, m.root
	for range rapid.IntRange(0, 2).Draw(m.t, "depth") {
		var dirs []string
		for name, c := range n.names {
			if c.names != nil {
				dirs = append(dirs, name)
			}
		}
		if len(dirs) == 0 {
			break
		}
		slices.Sort(dirs)
		name := rapid.SampledFrom(dirs).Draw(m.t, "into")
		a, err := m.w.Lookup(m.w.t.Context(), id, name)
		if err != nil {
			m.t.Fatalf("lookup %s: %v", name, err)
		}
		id, n = a.ID, n.names[name]
	}
	return id, n
}

func (m *machine) name() string {
	return rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(m.t, "name")
}

// same fails unless the error is as the model expects.
func (m *machine) same(what string, err error, want error) {
	if want == nil && err != nil || want != nil && !errors.Is(err, want) {
		m.t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

func (m *machine) mkdir() {
	dir, n := m.at()
	name := m.name()
	_, err := m.w.Make(m.w.t.Context(), dir, name, NewInode{Kind: record.Dir, Mode: 0o755})
	if n.names[name] != nil {
		m.same("mkdir", err, ErrExist)
		return
	}
	m.same("mkdir", err, nil)
	n.names[name] = &modelNode{names: map[string]*modelNode{}}
}

// write makes a file, or opens it, and writes at an offset or at the end, or cuts it.
func (m *machine) write() {
	dir, n := m.at()
	name, ctx := m.name(), m.w.t.Context()
	f := n.names[name]
	if f != nil && f.names != nil {
		return
	}
	if f == nil {
		_, err := m.w.Make(ctx, dir, name, NewInode{Kind: record.File, Mode: 0o644})
		m.same("make", err, nil)
		f = &modelNode{links: 1}
		n.names[name] = f
	}
	a, err := m.w.Lookup(ctx, dir, name)
	m.same("lookup", err, nil)
	h, err := m.w.Open(ctx, a.ID, true)
	m.same("open", err, nil)
	size := rapid.SampledFrom([]int{0, 1, 100, 65535, 65536, 65537, 150_000}).Draw(m.t, "at")
	data := bytes.Repeat([]byte{byte(rapid.IntRange(1, 255).Draw(m.t, "byte"))}, rapid.SampledFrom([]int{1, 3, 70_000}).Draw(m.t, "count"))
	switch rapid.IntRange(0, 2).Draw(m.t, "how") {
	case 0:
		_, err = h.WriteAt(ctx, data, int64(size), false)
		f.data = append(f.data, make([]byte, max(0, size+len(data)-len(f.data)))...)
		copy(f.data[size:], data)
	case 1:
		_, err = h.Append(ctx, data, false)
		f.data = append(f.data, data...)
	case 2:
		s := uint64(size)
		_, err = h.SetAttr(ctx, AttrChange{Size: &s})
		f.data = append(f.data, make([]byte, max(0, size-len(f.data)))...)[:size]
	}
	m.same("write", errors.Join(err, h.Close()), nil)
}

func (m *machine) remove() {
	dir, n := m.at()
	name := m.name()
	f := n.names[name]
	directory := f != nil && f.names != nil
	err := m.w.Remove(m.w.t.Context(), dir, name, directory)
	switch {
	case f == nil:
		m.same("remove", err, ErrNotExist)
		return
	case len(f.names) > 0:
		m.same("remove", err, ErrNotEmpty)
		return
	}
	m.same("remove", err, nil)
	delete(n.names, name)
	f.links--
}

func (m *machine) link() {
	dir, n := m.at()
	toDir, to := m.at()
	name, toName, ctx := m.name(), m.name(), m.w.t.Context()
	f := n.names[name]
	if f == nil || f.names != nil {
		return
	}
	a, err := m.w.Lookup(ctx, dir, name)
	m.same("lookup", err, nil)
	_, err = m.w.Link(ctx, a.ID, toDir, toName)
	if to.names[toName] != nil {
		m.same("link", err, ErrExist)
		return
	}
	m.same("link", err, nil)
	to.names[toName] = f
	f.links++
}

// holds reports whether n is or contains what.
func (n *modelNode) holds(what *modelNode) bool {
	if n == what {
		return true
	}
	for _, c := range n.names {
		if c.holds(what) {
			return true
		}
	}
	return false
}

func (m *machine) rename() {
	dir, n := m.at()
	toDir, to := m.at()
	name, toName := m.name(), m.name()
	flags := rapid.SampledFrom([]RenameFlags{0, 0, RenameNoReplace, RenameExchange}).Draw(m.t, "flags")
	f, g := n.names[name], to.names[toName]
	if f != nil && f.holds(to) || g != nil && g.holds(n) {
		return // the kernel keeps directories out of themselves
	}
	err := m.w.Rename(m.w.t.Context(), dir, name, toDir, toName, flags)
	switch {
	case f == nil:
		m.same("rename", err, ErrNotExist)
	case g != nil && flags == RenameNoReplace:
		m.same("rename", err, ErrExist)
	case flags == RenameExchange && g == nil:
		m.same("rename", err, ErrNotExist)
	case f == g:
		m.same("rename", err, nil)
	case flags == RenameExchange:
		m.same("exchange", err, nil)
		n.names[name], to.names[toName] = g, f
	case g != nil && g.names == nil && f.names != nil:
		m.same("rename", err, ErrNotDir)
	case g != nil && g.names != nil && f.names == nil:
		m.same("rename", err, ErrIsDir)
	case g != nil && len(g.names) > 0:
		m.same("rename", err, ErrNotEmpty)
	default:
		m.same("rename", err, nil)
		delete(n.names, name)
		to.names[toName] = f
		if g != nil {
			g.links--
		}
	}
}

// walkDrive is modelNode.tree for a drive.
func (m *machine) walkDrive(w *world, b *bytes.Buffer, dir record.ID, at string) {
	es, err := w.ReadDir(w.t.Context(), dir)
	m.same("readdir", err, nil)
	for _, e := range es {
		a, err := w.Lookup(w.t.Context(), dir, e.Name)
		m.same("lookup", err, nil)
		if e.Kind == record.Dir {
			fmt.Fprintf(b, "%s/%s/ %d\n", at, e.Name, a.Nlink)
			m.walkDrive(w, b, e.ID, at+"/"+e.Name)
			continue
		}
		text, err := w.read(e.ID)
		m.same("read", err, nil)
		fmt.Fprintf(b, "%s/%s %d %d %x\n", at, e.Name, a.Nlink, len(text), hashOf([]byte(text)))
	}
}

func (m *machine) check(w *world) {
	var got, want bytes.Buffer
	m.walkDrive(w, &got, record.Root, "")
	m.root.tree(&want, "")
	if a, err := w.Attr(w.t.Context(), record.Root); err != nil || int(a.Nlink) != 2+m.root.subdirs() {
		m.t.Fatalf("node %d: the root has %d links, want %d, %v", w.n, a.Nlink, 2+m.root.subdirs(), err)
	}
	if got.String() != want.String() {
		m.t.Fatalf("node %d shows\n%s\nwant\n%s", w.n, got.String(), want.String())
	}
}

// TestAgainstModel: whatever a person does, over publishing, restarts and kills, the drive shows what a file system in memory shows, and so does the
// other node once it has everything.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := twoNodes(t)
		m := &machine{t: rt, w: a, other: b, root: &modelNode{names: map[string]*modelNode{}}}
		a.batch = rapid.SampledFrom([]int{1, 3, batchRecords}).Draw(rt, "batch")
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			switch rapid.IntRange(0, 11).Draw(rt, "op") {
			case 0:
				m.mkdir()
			case 1, 2, 3:
				m.write()
			case 4:
				m.remove()
			case 5:
				m.link()
			case 6, 7:
				m.rename()
			case 8:
				a.publishNow()
			case 9:
				m.hold()
			case 10:
				a.later(2 * time.Second)
			case 11:
				m.letGo()
				if rapid.Bool().Draw(rt, "kill") {
					a.crash(a.work.boot)
				} else {
					a.stop()
					a.start()
				}
			}
			m.check(a)
		}
		m.letGo()
		a.publishNow()
		m.check(a)
		exchange(t, a, b)
		m.check(b)
		if cs, err := a.Conflicts(t.Context()); err != nil || len(cs) > 0 {
			rt.Fatalf("conflicts %+v %v", cs, err)
		}
		a.stop()
		b.stop()
		if t.Failed() { // what stop checks
			rt.Fatal("the stores do not check")
		}
	})
}

// TestAgainstModelWhilePublishing is TestAgainstModel while everything is being published all the time.
func TestAgainstModelWhilePublishing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := twoNodes(t)
		m := &machine{t: rt, w: a, other: b, root: &modelNode{names: map[string]*modelNode{}}}
		a.batch = rapid.SampledFrom([]int{1, 3, batchRecords}).Draw(rt, "batch")
		var group sync.WaitGroup
		var stop atomic.Bool
		group.Go(func() {
			for !stop.Load() {
				if err := a.Publish(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
		defer group.Wait()
		defer stop.Store(true)
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "op") {
			case 0:
				m.mkdir()
			case 1, 2, 3:
				m.write()
			case 4, 5:
				m.remove()
			case 6:
				m.link()
			default:
				m.rename()
			}
			m.check(a)
		}
		stop.Store(true)
		group.Wait()
		a.publishNow()
		m.check(a)
		exchange(t, a, b)
		m.check(b)
		if cs, err := a.Conflicts(t.Context()); err != nil || len(cs) > 0 {
			rt.Fatalf("conflicts %+v %v", cs, err)
		}
	})
}
