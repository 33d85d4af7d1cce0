package powerloss

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/boltview"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
	"hyphafs.org/hyphafs/integration/faultfs"
)

var (
	keys   = &record.Keys{Names: [32]byte{1}, Epochs: map[uint32]record.EpochKeys{0: {Meta: [32]byte{2}, Blocks: [32]byte{3}}}}
	writer = ed25519.NewKeyFromSeed(append(make([]byte, 31), 1))
	source = hypercore.Key(writer.Public().(ed25519.PublicKey))
	ticks  atomic.Int64 // milliseconds of a clock that only looking at it moves
)

// work is a Workspace that says in which run of the system it is.
type work struct {
	drive.Workspace
	boot string
	pace
}

func (w work) Boot() string { return w.boot }

func (w work) Backing(id record.ID) (hypercore.File, error) { return w.file(w.Workspace.Backing(id)) }

func (w work) Journal(name string) (hypercore.File, error) { return w.file(w.Workspace.Journal(name)) }

func (w work) SyncNames() error {
	defer w.wait()
	return w.Workspace.SyncNames()
}

// feed is the Storage of a feed.
type feed struct {
	hypercore.Storage
	pace
}

func (f feed) Open(name string) (hypercore.File, error) { return f.file(f.Storage.Open(name)) }

// pace is how long an fsync takes at most. On the mount of a faultfs whoever writes to the file waits meanwhile, on other file systems not: so it returns late.
type pace time.Duration

func (p pace) wait() {
	if p > 0 {
		time.Sleep(rand.N(time.Duration(p)))
	}
}

func (p pace) file(f hypercore.File, err error) (hypercore.File, error) { return pacedFile{f, p}, err }

type pacedFile struct {
	hypercore.File
	pace
}

func (f pacedFile) Sync() error {
	defer f.wait()
	return f.File.Sync()
}

// openDrive opens the drive in the folder dir.
func openDrive(ctx context.Context, dir, boot string, ids *rand.ChaCha8, p pace) (*drive.Drive, error) {
	w, err := drive.WorkDir(filepath.Join(dir, "work"))
	if err != nil {
		return nil, err
	}
	kv, err := boltview.Open(filepath.Join(dir, "view.db"))
	if errors.Is(err, view.ErrDamaged) { // as package node does
		if err := os.Remove(filepath.Join(dir, "view.db")); err != nil {
			return nil, err
		}
		kv, err = boltview.Open(filepath.Join(dir, "view.db"))
	}
	if err != nil {
		return nil, err
	}
	cfg := drive.Config{
		Feeds: func(name string) hypercore.Storage { return feed{hypercore.Dir(filepath.Join(dir, "feeds", name)), p} },
		View:  kv, Work: work{w, boot, p}, Keys: keys, Local: [32]byte{4}, Source: source, Writer: writer, Name: "Node",
		Now:   func() time.Time { return time.UnixMilli(1_700_000_000_000 + ticks.Add(1)) },
		Quiet: 20 * time.Millisecond, Overdue: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
	}
	if ids != nil {
		cfg.Rand = ids
	}
	return drive.Open(ctx, cfg)
}

// life is one run of the drive, from an opening to the loss of power.
type life struct {
	t   *testing.T
	fs  *faultfs.FS
	d   *drive.Drive
	m   *model
	rng *rand.Rand
	bg  bool // the publisher runs beside, and another program that makes everything durable now and then
	was int  // operations recorded before this life

	faults  []string // paths below which an fsync may fail now and then; none: the disk is good
	trouble int      // calls that failed, in a row

	open map[*node]*drive.File // handles that stay open over a few steps
}

// live lets a drive work on the disk at the end of before until n operations are done, and returns what happened to it.
func live(t *testing.T, m *model, before *faultfs.Log, boot string, rng *rand.Rand, n int) []faultfs.Op {
	t.Helper()
	dir := t.TempDir()
	fs, err := faultfs.Start(dir, before.Crash(len(before.Ops), faultfs.Kept, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := fs.Stop(); err != nil {
			t.Error(err)
		}
	}()
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rng.Uint32())
	}
	l := &life{t: t, fs: fs, m: m, rng: rng, bg: rng.IntN(2) == 0, was: len(before.Ops), open: map[*node]*drive.File{}}
	var p pace
	if l.bg && rng.IntN(2) == 0 {
		p = pace(10 * time.Millisecond)
	}
	if l.d, err = openDrive(t.Context(), dir, boot, rand.NewChaCha8(seed), p); err != nil {
		t.Fatal(err)
	}
	l.recovered()
	if rng.IntN(3) == 0 {
		l.faults = pick(rng, [][]string{{"work/files/"}, {"work/journal"}, {"work/"}, {"feeds/"}, {"view.db"}, {"work/", "feeds/", "view.db"}})
		l.m.excuse()
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	if l.bg {
		running.Go(func() {
			if err := l.d.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		running.Go(func() { l.beside(ctx) })
	}
	for k := 0; k < n && l.trouble < 10; k++ {
		if l.faults != nil && rng.IntN(6) == 0 {
			l.fail()
		}
		l.step()
	}
	stop()
	running.Wait()
	log, err := fs.Log()
	if err != nil {
		t.Fatal(err)
	}
	if rng.IntN(2) == 0 { // the way a person ends it; or it is dropped where it is
		begun := l.at()
		if l.well(l.d.Close(context.WithoutCancel(ctx))) {
			l.m.op(begun, l.at())
			l.m.durable(l.at(), l.all()...)
		}
		if log, err = fs.Log(); err != nil {
			t.Fatal(err)
		}
	}
	return log.Ops
}

// beside is what another program does. What it makes durable, the model does not know.
func (l *life) beside(ctx context.Context) {
	for ctx.Err() == nil {
		if err := l.d.SyncDir(ctx, record.Root); err != nil && l.faults == nil {
			l.t.Error(err)
		}
		time.Sleep(5 * time.Millisecond) // else nothing would ever be left to lose
	}
}

// at is how much was recorded so far, lives before this one included.
func (l *life) at() int {
	n, err := l.fs.Len()
	if err != nil {
		l.t.Fatal(err)
	}
	return l.was + n
}

// recovered takes what the drive shows now, which verify approved, as the state of the model. Opening made it durable.
func (l *life) recovered() {
	s, err := look(l.t.Context(), l.d, l.m)
	if err != nil {
		l.t.Fatal(err)
	}
	nodes := map[record.ID]*node{}
	for id, n := range l.m.nodes {
		if n.kind == record.Dir {
			n.names = map[string]*node{}
		}
		nodes[id] = n
	}
	for _, e := range s.entries {
		n := nodes[e.id]
		n.mode, n.xattr = e.mode, e.xattr
		nodes[e.dir].names[e.name] = n
	}
	for id, data := range s.files {
		if n := nodes[id]; !bytes.Equal(n.now(), data) {
			l.m.write(n, data)
		}
	}
	l.m.op(l.was, l.at())
	l.m.durable(l.at(), l.all()...)
}

func (l *life) all() []*node {
	var files []*node
	for _, n := range l.m.nodes {
		if n.kind == record.File {
			files = append(files, n)
		}
	}
	return files
}

// place is a name in a directory.
type place struct {
	dir  *node
	name string
}

func (p place) node() *node { return p.dir.names[p.name] }

// live lists the places that are shown, in a fixed order, and the directories.
func (l *life) shown() (places []place, dirs []*node) {
	var walk func(dir *node)
	walk = func(dir *node) {
		dirs = append(dirs, dir)
		var names []string
		for name := range dir.names {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			places = append(places, place{dir, name})
			if n := dir.names[name]; n.kind == record.Dir {
				walk(n)
			}
		}
	}
	walk(l.m.root)
	return places, dirs
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// fail lets an fsync, or a rename, fail some calls from now on, done or not.
func (l *life) fail() {
	kinds := pick(l.rng, [][]faultfs.Kind{{faultfs.Sync}, {faultfs.Sync}, {faultfs.Sync, faultfs.SyncDir}, {faultfs.SyncDir}, {faultfs.Rename}})
	err := l.fs.Inject(faultfs.Rule{Kinds: kinds, Path: pick(l.rng, l.faults), Skip: l.rng.IntN(4), Count: 1, Errno: pick(l.rng, []syscall.Errno{syscall.EIO, syscall.ENOSPC}), Stored: l.rng.IntN(4) == 0})
	if err != nil {
		l.t.Fatal(err)
	}
}

// well reports whether a call of the drive went well, as it must on a good disk.
func (l *life) well(err error) bool {
	l.t.Helper()
	if err == nil {
		l.trouble = 0
		return true
	}
	if l.trouble++; l.faults == nil {
		l.t.Fatalf("operation %d: %v\nthe names are to be\n%s", len(l.m.snapshots), err, l.m.snapshot())
	}
	return false
}

// change runs one call of the drive and notes it; model changes the model if it went well. If it failed, nothing changed but the bytes of the files given,
// perhaps.
func (l *life) change(call func() error, model func(), files ...*node) bool {
	l.t.Helper()
	begun := l.at()
	well := l.well(call())
	if well {
		model()
	}
	for _, n := range files {
		if well {
			break
		}
		model()
		data, err := read(l.t.Context(), l.d, n.id)
		if err != nil {
			l.t.Fatal(err)
		}
		l.m.write(n, data)
	}
	if well || len(files) > 0 {
		l.m.op(begun, l.at())
	}
	return well
}

// step does one thing at random.
func (l *life) step() {
	l.t.Helper()
	ctx := l.t.Context()
	places, dirs := l.shown()
	free := place{pick(l.rng, dirs), pick(l.rng, []string{"a", "b", "c", "d", "e"})}
	var files []place
	for _, p := range places {
		if p.node().kind == record.File {
			files = append(files, p)
		}
	}
	switch k := l.rng.IntN(100); {
	case k < 14 || len(files) == 0:
		if free.node() == nil {
			l.fill(l.make(free), l.rng.IntN(3) == 0)
		}
	case k < 34:
		l.edit(pick(l.rng, files).node())
	case k < 46:
		l.replace(pick(l.rng, files))
	case k < 56:
		l.rename(pick(l.rng, places), free)
	case k < 60:
		if a, b := pick(l.rng, files), pick(l.rng, files); a != b && a.node() != b.node() {
			l.change(func() error { return l.d.Rename(ctx, a.dir.id, a.name, b.dir.id, b.name, drive.RenameExchange) }, func() {
				l.over(a.node())
				l.over(b.node())
				a.dir.names[a.name], b.dir.names[b.name] = b.node(), a.node()
			})
		}
	case k < 66:
		if f := pick(l.rng, files).node(); free.node() == nil {
			l.change(func() error { _, err := l.d.Link(ctx, f.id, free.dir.id, free.name); return err }, func() { free.dir.names[free.name] = f })
		}
	case k < 74:
		if p := pick(l.rng, places); len(p.node().names) == 0 {
			l.change(func() error { return l.d.Remove(ctx, p.dir.id, p.name, p.node().kind == record.Dir) }, func() { delete(p.dir.names, p.name) })
		}
	case k < 78:
		if free.node() == nil && len(dirs) < 6 {
			l.create(free, drive.NewInode{Kind: record.Dir, Mode: 0o755})
		}
	case k < 80:
		if free.node() == nil {
			l.create(free, drive.NewInode{Kind: record.Symlink, Mode: 0o777, Target: fmt.Sprint("to ", k)})
		}
	case k < 84:
		n, mode := pick(l.rng, places).node(), uint32(0o600+l.rng.IntN(64))
		l.change(func() error { _, err := l.d.SetAttr(ctx, n.id, drive.AttrChange{Mode: &mode}); return err }, func() { n.mode = mode })
	case k < 87:
		n, value := pick(l.rng, places).node(), fmt.Sprint("value ", l.rng.IntN(1000))
		l.change(func() error { return l.d.SetXattr(ctx, n.id, "user.x", []byte(value), 0) }, func() { n.xattr = value })
	case k < 93:
		if l.well(l.d.SyncDir(ctx, pick(l.rng, dirs).id)) {
			l.m.durable(l.at())
		}
	case k < 95:
		begun := l.at()
		if l.well(l.d.Authorize(ctx, hypercore.Key{byte(1 + l.rng.IntN(3))}, "Other")) {
			l.m.op(begun, l.at())
		}
	default:
		if l.well(l.d.Publish(ctx)) {
			l.m.durable(l.at(), l.all()...)
		}
	}
}

// create returns the new node, or nil if that failed.
func (l *life) create(at place, what drive.NewInode) *node {
	n := &node{kind: what.Kind, mode: what.Mode, target: what.Target}
	if n.kind == record.Dir {
		n.names = map[string]*node{}
	}
	well := l.change(func() error {
		a, err := l.d.Make(l.t.Context(), at.dir.id, at.name, what)
		n.id = a.ID
		return err
	}, func() {
		at.dir.names[at.name], l.m.nodes[n.id] = n, n
		if n.kind == record.File {
			l.m.write(n, nil)
		}
	})
	if !well {
		return nil
	}
	return n
}

func (l *life) make(at place) *node {
	return l.create(at, drive.NewInode{Kind: record.File, Mode: 0o644})
}

// handle opens a file to write, or goes on with a handle that stayed open.
func (l *life) handle(n *node) *drive.File {
	if f := l.open[n]; f != nil {
		return f
	}
	f, err := l.d.Open(l.t.Context(), n.id, true)
	if err != nil {
		l.t.Fatal(err)
	}
	return f
}

// close lets a handle go, or keeps it for later.
func (l *life) close(f *drive.File, n *node) {
	if l.rng.IntN(3) == 0 {
		l.open[n] = f
		return
	}
	delete(l.open, n)
	if err := f.Close(); err != nil {
		l.t.Fatal(err)
	}
}

func (l *life) sync(f *drive.File, n *node) {
	if l.well(f.Sync(l.t.Context(), false)) {
		l.m.durable(l.at(), n)
	}
}

// fill writes a new file, if there is one.
func (l *life) fill(n *node, sync bool) {
	if n == nil {
		return
	}
	f := l.handle(n)
	defer l.close(f, n)
	for range 1 + l.rng.IntN(2) {
		l.writeAt(f, n, len(n.now()))
	}
	if sync {
		l.sync(f, n)
	}
}

func (l *life) writeAt(f *drive.File, n *node, off int) {
	p := bytes.Repeat([]byte{byte(1 + l.rng.IntN(255))}, pick(l.rng, []int{1, 20, 3000, 4096, 65536, 70000}))
	l.change(func() error { _, err := f.WriteAt(l.t.Context(), p, int64(off), true); return err }, func() {
		data := append([]byte{}, n.now()...)
		data = append(data, make([]byte, max(0, off+len(p)-len(data)))...)
		copy(data[off:], p)
		l.m.write(n, data)
	}, n)
}

// edit changes a file in place.
func (l *life) edit(n *node) {
	ctx := l.t.Context()
	f := l.handle(n)
	defer l.close(f, n)
	for range 1 + l.rng.IntN(3) {
		size := len(n.now())
		switch l.rng.IntN(8) {
		case 0:
			to := uint64(pick(l.rng, []int{0, size / 2, 65536, size + 10}))
			l.change(func() error { _, err := f.SetAttr(ctx, drive.AttrChange{Size: &to}); return err }, func() {
				data := append([]byte{}, n.now()[:min(int(to), size)]...)
				l.m.write(n, append(data, make([]byte, int(to)-len(data))...))
			}, n)
		case 1:
			off, length := pick(l.rng, []int{0, 10, 65536}), pick(l.rng, []int{5, 65536})
			l.change(func() error { return f.Allocate(ctx, 3, int64(off), int64(length)) }, func() {
				data := append([]byte{}, n.now()...)
				if off < size {
					clear(data[off:min(off+length, size)])
				}
				l.m.write(n, data)
			}, n)
		case 2:
			p := bytes.Repeat([]byte("+"), pick(l.rng, []int{1, 100, 66000}))
			l.change(func() error { _, err := f.Append(ctx, p, true); return err }, func() { l.m.write(n, append(append([]byte{}, n.now()...), p...)) }, n)
		default:
			l.writeAt(f, n, min(pick(l.rng, []int{0, 5, 8192, 65530, 65536, 69632, size}), size+10))
		}
		if len(n.now()) > 300_000 {
			zero := uint64(0)
			l.change(func() error { _, err := f.SetAttr(ctx, drive.AttrChange{Size: &zero}); return err }, func() { l.m.write(n, nil) }, n)
		}
		if l.rng.IntN(3) == 0 {
			l.sync(f, n)
		}
	}
}

// replace saves a file as programs do: another one beside it, renamed over it, and fsynced by some.
func (l *life) replace(p place) {
	temp := place{p.dir, "temp"}
	n := temp.node()
	if n == nil {
		n = l.make(temp)
	} else if n.kind != record.File || p.name == "temp" {
		return
	}
	if l.fill(n, l.rng.IntN(4) == 0); n != nil {
		l.rename(temp, p)
	}
}

// rename moves from to to, over what is there.
func (l *life) rename(from, to place) {
	a, b := from.node(), to.node()
	if a == b || a.kind == record.Dir && (a == to.dir || l.below(a, to.dir)) || b != nil && ((a.kind == record.Dir) != (b.kind == record.Dir) || len(b.names) > 0) {
		return
	}
	l.change(func() error { return l.d.Rename(l.t.Context(), from.dir.id, from.name, to.dir.id, to.name, 0) }, func() {
		delete(from.dir.names, from.name)
		to.dir.names[to.name] = a
		if b != nil && a.kind == record.File {
			l.over(a)
		}
	})
}

// over notes that n, a file, took the place of another one.
func (l *life) over(n *node) {
	l.m.over = append(l.m.over, over{len(l.m.snapshots), len(n.versions) - 1, n.id})
}

// below reports whether dir is in the tree of a.
func (l *life) below(a, dir *node) bool {
	for _, n := range a.names {
		if n == dir || n.kind == record.Dir && l.below(n, dir) {
			return true
		}
	}
	return false
}

// shownEntry is one name that a drive shows.
type shownEntry struct {
	dir   record.ID
	name  string
	id    record.ID
	mode  uint32
	xattr string
}

// look reads everything that d shows.
func look(ctx context.Context, d *drive.Drive, m *model) (*seen, error) {
	s := &seen{files: map[record.ID][]byte{}}
	var lines []string
	var walk func(dir record.ID) error
	walk = func(dir record.ID) error {
		entries, err := d.ReadDir(ctx, dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			a, err := d.Lookup(ctx, dir, e.Name)
			if err != nil || a.ID != e.ID {
				return fmt.Errorf("%s/%s: %v, %w", dir, e.Name, a.ID, err)
			}
			if n := m.nodes[e.ID]; n == nil || n.kind != e.Kind {
				return fmt.Errorf("%s/%s is %s, of kind %d, which was never made", dir, e.Name, e.ID, e.Kind)
			}
			xattr, err := d.Xattr(ctx, e.ID, "user.x")
			if err != nil && !errors.Is(err, drive.ErrNoXattr) {
				return err
			}
			target := ""
			err = nil
			switch e.Kind {
			case record.Dir:
				err = walk(e.ID)
			case record.Symlink:
				target, err = d.Readlink(ctx, e.ID)
			case record.File:
				s.files[e.ID], err = read(ctx, d, e.ID)
			}
			if err != nil {
				return err
			}
			s.entries = append(s.entries, shownEntry{dir, e.Name, e.ID, a.Mode, string(xattr)})
			lines = append(lines, line(dir, e.Name, e.ID, e.Kind, a.Mode, target, string(xattr)))
		}
		return nil
	}
	err := walk(record.Root)
	s.names = join(lines)
	return s, err
}

func read(ctx context.Context, d *drive.Drive, id record.ID) ([]byte, error) {
	f, err := d.Open(ctx, id, false)
	if err != nil {
		return nil, err
	}
	a, err := f.Attr(ctx)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b := make([]byte, a.Size)
	n, err := f.ReadAt(ctx, b, 0)
	if err == nil && n != len(b) {
		err = fmt.Errorf("inode %s: read %d of %d bytes", id, n, len(b))
	}
	return b, errors.Join(err, f.Close())
}

// scratchDir makes a folder on a file system in memory, if there is one: what is durable there does not matter.
func scratchDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "powerloss-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
