package drive

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
)

// found is what a name means: from the overlay or from the view.
type found struct {
	id      record.ID
	kind    record.Kind
	place   record.Place
	base    []record.Version // what a change of the entry replaces
	stamp   record.Stamp
	entry   *entry    // of the overlay, if it says so
	under   record.ID // what the view shows there, where the record of that stands, and its kind
	underAt record.Place
	shown   record.Kind
}

// lookup finds name in dir. ErrNotExist comes with place, base and under, for who wants to create it. Called with mu held.
func (d *Drive) lookup(dir record.ID, name string) (found, error) {
	return d.find(dir, name, func() (view.EntryState, error) { return d.view.Lookup(dir, name) })
}

// lookupInode is lookup with what the view says of the inode, read in one go; that is zero if the overlay says what the name or the inode is, or if the view has no record of
// it. Called with mu held.
func (d *Drive) lookupInode(dir record.ID, name string) (f found, s view.InodeState, err error) {
	f, err = d.find(dir, name, func() (e view.EntryState, err error) {
		e, s, err = d.view.LookupInode(dir, name)
		return e, err
	})
	if err != nil || d.overlay.inodes[f.id] != nil {
		s = view.InodeState{}
	}
	return f, s, err
}

// find is lookup; viewed asks the view.
func (d *Drive) find(dir record.ID, name string, viewed func() (view.EntryState, error)) (found, error) {
	if e := d.overlay.entry(dir, name); e != nil {
		f := found{id: e.id, kind: e.kind, place: e.place, base: e.base, stamp: e.stamp, entry: e, under: e.under, underAt: e.underAt, shown: e.underKind}
		if e.gone {
			return f, noSuchName(name)
		}
		return f, nil
	}
	f := found{place: record.Place{Dir: dir, Name: name}}
	if in := d.overlay.inodes[dir]; in != nil && !in.published {
		return f, noSuchName(name)
	}
	s, err := viewed()
	if errors.Is(err, view.ErrNotExist) || err == nil && d.overlay.isHidden(s) {
		f.base, err = d.view.Tombstones(dir, name)
		return f, errors.Join(err, noSuchName(name))
	}
	if err != nil {
		return f, err
	}
	at := record.Place{Dir: s.Dir, Name: s.Stored}
	return found{id: s.ID, kind: s.Kind, place: at, base: s.Versions, stamp: s.Stamp, under: s.ID, underAt: at, shown: s.Kind}, nil
}

// Lookup returns the attributes of name in dir.
func (d *Drive) Lookup(_ context.Context, dir record.ID, name string) (Attr, error) {
	if len(name) > record.MaxName {
		return Attr{}, ErrNameTooLong
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	f, s, err := d.lookupInode(dir, name)
	if err != nil {
		return Attr{}, err
	}
	if s.Kind != 0 {
		return d.attrViewed(f.id, &s), nil
	}
	return d.attr(f.id)
}

// ReadDir returns what dir shows, ascending by name: what Lookup finds. A name that a peer gave to an inode of which nothing has arrived yet is left out. The caller owns the slice.
func (d *Drive) ReadDir(_ context.Context, dir record.ID) ([]DirEntry, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	a, err := d.attr(dir)
	if err != nil {
		return nil, err
	}
	if a.Kind != record.Dir {
		return nil, ErrNotDir
	}
	names := d.overlay.entries[dir]
	var out []DirEntry
	if in := d.overlay.inodes[dir]; in == nil || in.published {
		shown, err := d.view.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, s := range shown {
			if names[s.Name] == nil && !d.overlay.isHidden(s) && (!s.Awaited || d.overlay.inodes[s.ID] != nil) {
				out = append(out, DirEntry{s.Name, s.ID, s.Kind, d.renamed})
			}
		}
	}
	for name, e := range names {
		if !e.gone {
			out = append(out, DirEntry{name, e.id, e.kind, d.renamed})
		}
	}
	slices.SortFunc(out, func(a, b DirEntry) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// EntryAttrs is Lookup of entries that ReadDir returned, at one instant: as long as no name changed since, the inodes need not be looked for. The attributes of what is not
// there any more are zero. The caller owns the slice.
func (d *Drive) EntryAttrs(_ context.Context, dir record.ID, entries []DirEntry) ([]Attr, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	attrs := make([]Attr, len(entries))
	ids := make([]record.ID, 0, len(entries)) // of those that only the view knows
	at := make([]int, 0, len(entries))
	for i, e := range entries {
		id := e.ID
		if e.at != d.renamed {
			f, err := d.lookup(dir, e.Name)
			if errors.Is(err, ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			id = f.id
		}
		if d.overlay.inodes[id] == nil {
			ids, at = append(ids, id), append(at, i)
			continue
		}
		a, err := d.attr(id)
		if err != nil {
			return nil, err
		}
		attrs[i] = a
	}
	if len(ids) == 0 {
		return attrs, nil
	}
	states, err := d.view.Inodes(ids)
	if err != nil {
		return nil, err
	}
	for i := range states {
		if states[i].Kind != 0 {
			attrs[at[i]] = d.attrViewed(ids[i], &states[i])
		}
	}
	return attrs, nil
}

// empty reports whether dir shows nothing. Called with mu held.
func (d *Drive) empty(dir record.ID) (bool, error) {
	names := d.overlay.entries[dir]
	hidden := 0
	for _, e := range names {
		if !e.gone {
			return false, nil
		}
		if e.under != (record.ID{}) {
			hidden++
		}
	}
	if in := d.overlay.inodes[dir]; in != nil && !in.published {
		return true, nil
	}
	if hidden == 0 {
		return d.view.Empty(dir)
	}
	shown, err := d.view.ReadDir(dir)
	for _, s := range shown {
		if names[s.Name] == nil {
			return false, err
		}
	}
	return true, err
}

// change is one operation on the namespace while it is made: what it will set, and its journal frame. Nothing of it is seen before
// commit has written the frame: the mu of each inode touched is held from then until commit or end, so that the journal has the states of an inode in their order,
// with those that who writes to it or syncs it puts there.
type change struct {
	d        *Drive
	now      time.Time
	frame    frame
	entries  []*entry  // to set
	drops    []*entry  // to forget
	inodes   []*inode  // of which the frame says something, their mu held
	promised []promise // the bytes that the frame needs
	before   []*inode  // as these inodes were, to be restored if the frame cannot be written
}

func (d *Drive) change() *change { return &change{d: d, now: d.cfg.Now()} }

// hold takes the mu of an inode, whose state goes into the frame.
func (c *change) hold(in *inode) {
	if !slices.Contains(c.inodes, in) {
		in.mu.Lock()
		c.inodes, c.before = append(c.inodes, in), append(c.before, in.snapshot())
	}
}

// touch loads an inode and lets edit change its record. Called with mu held.
func (c *change) touch(id record.ID, edit func(*inode)) (*inode, error) {
	in, err := c.d.load(id)
	if err != nil {
		return nil, err
	}
	c.hold(in)
	in.touch(c.now)
	edit(in)
	c.frame.inode(in)
	return in, nil
}

// touchDir gives a directory new times.
func (c *change) touchDir(id record.ID) error {
	_, err := c.touch(id, func(in *inode) { in.rec.Mtime, in.rec.Ctime = c.now.UnixNano(), c.now.UnixNano() })
	return err
}

// put sets the entry that name in dir is from now on: id, or with gone nothing.
func (c *change) put(dir record.ID, name string, f found, id record.ID, kind record.Kind, gone bool) *entry {
	e := &entry{dir: dir, name: name, id: id, kind: kind, gone: gone, place: f.place, base: f.base, stamp: f.stamp, under: f.under, underAt: f.underAt, underKind: f.shown, first: c.now, last: c.now}
	if f.entry != nil {
		e.first, e.changes, e.inFlight = f.entry.first, f.entry.changes+1, f.entry.inFlight
	}
	if gone && len(e.base) == 0 && e.under == (record.ID{}) && !e.inFlight { // nobody else ever saw it
		if f.entry != nil {
			c.drops = append(c.drops, f.entry)
			c.frame.entryDone(f.entry)
		}
		return e
	}
	c.entries = append(c.entries, e)
	return e
}

// commit writes the frame and makes everything seen. Called with mu held.
func (c *change) commit() error {
	for _, e := range c.entries {
		c.frame.entry(e)
	}
	if err := c.d.log(&c.frame); err != nil {
		return err
	}
	c.release()
	for _, p := range c.promised {
		c.d.promised[p.in.id] = p
	}
	if len(c.drops)+len(c.entries) > 0 {
		c.d.renamed++
	}
	for _, e := range c.drops {
		c.d.overlay.drop(e)
	}
	for _, e := range c.entries {
		c.d.overlay.set(e)
	}
	return nil
}

// end takes back what was touched unless commit wrote it. Called with mu held.
func (c *change) end() {
	for i, in := range c.inodes {
		in.restore(c.before[i])
	}
	c.release()
}

func (c *change) release() {
	for _, in := range c.inodes {
		in.mu.Unlock()
	}
	c.inodes, c.before = nil, nil
}

// log writes a frame to the journal. Called with mu or an inode's mu held; with that of each inode whose state is in the frame, since it was put there, if anybody else may
// write or sync the inode.
func (d *Drive) log(f *frame) error {
	if d.journal == nil {
		return ErrNotSupported
	}
	if len(f.b) == 0 {
		return nil
	}
	d.pace.frames.Add(1)
	return noSpace(d.journal.Append(f.b))
}

// Make creates an entry and its inode.
func (d *Drive) Make(ctx context.Context, dir record.ID, name string, what NewInode) (Attr, error) {
	if err := d.mayCreate(dir, name); err != nil {
		return Attr{}, err
	}
	if what.Kind == 0 || what.Kind > record.BlockDevice || len(what.Target) > record.MaxTarget {
		return Attr{}, ErrInvalid
	}
	d.pace.wait(ctx)
	if err := d.withRoom(ctx, func() error { return d.room(recordNeed) }); err != nil {
		return Attr{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.isLiveDir(dir); err != nil {
		return Attr{}, err
	}
	f, err := d.lookup(dir, name)
	if err == nil {
		return Attr{}, fmt.Errorf("%q: %w", name, ErrExist)
	}
	if !errors.Is(err, ErrNotExist) {
		return Attr{}, err
	}
	c := d.change()
	defer c.end()
	in := &inode{id: d.newID(), known: true}
	t := c.now.UnixNano()
	in.rec = record.Inode{Kind: what.Kind, Mode: what.Mode & 0o7777, UID: what.UID, GID: what.GID, Owner: d.owner(), Atime: t, Mtime: t, Ctime: t, Btime: t, Target: what.Target, Rdev: what.Rdev}
	if what.Kind == record.Symlink {
		in.rec.Size = uint64(len(what.Target))
	}
	in.touch(c.now)
	c.frame.inode(in)
	c.put(dir, name, f, in.id, what.Kind, false)
	if err := c.touchDir(dir); err != nil {
		return Attr{}, err
	}
	if err := c.commitNew(in); err != nil {
		return Attr{}, err
	}
	return d.attr(in.id)
}

// commitNew is commit for a change that makes in.
func (c *change) commitNew(in *inode) error {
	c.d.overlay.inodes[in.id] = in // before its entry, which counts as its first name
	err := c.commit()
	if err != nil {
		delete(c.d.overlay.inodes, in.id)
	}
	return err
}

func (d *Drive) mayCreate(dir record.ID, name string) error {
	if err := d.mayChange(); err != nil {
		return err
	}
	if len(name) > record.MaxName {
		return ErrNameTooLong
	}
	if !record.ValidName(dir, name) {
		return fmt.Errorf("%q: %w", name, ErrInvalid)
	}
	return nil
}

// isLiveDir is nil if things can be made in dir. Called with mu held.
func (d *Drive) isLiveDir(dir record.ID) error {
	rec, err := d.recordOf(dir)
	if err != nil {
		return err
	}
	if rec.Kind != record.Dir {
		return ErrNotDir
	}
	if in := d.overlay.inodes[dir]; in != nil && in.gone {
		return fmt.Errorf("removed directory: %w", ErrNotExist)
	}
	return nil
}

// newID returns the id whose first eight bytes, a number, are one more than the last one's; the first is random. What is made one after the other stands together in the
// view then, where random ids have each file change, and each listing read, pages of their own. It has to be those bytes: package fs takes the inode number from them. Called
// with mu held.
func (d *Drive) newID() record.ID {
	id := &d.lastID
	if *id == (record.ID{}) {
		if _, err := io.ReadFull(d.cfg.Rand, id[:]); err != nil {
			panic(err) // crypto/rand does not fail; a test's source must not either
		}
		return *id
	}
	binary.BigEndian.PutUint64(id[:], binary.BigEndian.Uint64(id[:])+1)
	return *id
}

// owner says that uid and gid of an inode are this node's.
func (d *Drive) owner() (o [8]byte) {
	copy(o[:], d.self[:])
	return o
}

// Link gives inode id, which is no directory, another name.
func (d *Drive) Link(ctx context.Context, id, dir record.ID, name string) (Attr, error) {
	if err := d.mayCreate(dir, name); err != nil {
		return Attr{}, err
	}
	d.pace.wait(ctx)
	if err := d.withRoom(ctx, func() error { return d.room(recordNeed) }); err != nil {
		return Attr{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.isLiveDir(dir); err != nil {
		return Attr{}, err
	}
	a, err := d.attr(id)
	if err != nil {
		return Attr{}, err
	}
	if a.Kind == record.Dir {
		return Attr{}, ErrIsDir
	}
	if a.Nlink == 0 {
		return Attr{}, ErrNotExist
	}
	f, err := d.lookup(dir, name)
	if err == nil {
		return Attr{}, fmt.Errorf("%q: %w", name, ErrExist)
	}
	if !errors.Is(err, ErrNotExist) {
		return Attr{}, err
	}
	c := d.change()
	defer c.end()
	if _, err := c.touch(id, func(in *inode) { in.rec.Ctime = c.now.UnixNano() }); err != nil {
		return Attr{}, err
	}
	c.put(dir, name, f, id, a.Kind, false)
	if err := c.touchDir(dir); err != nil {
		return Attr{}, err
	}
	if err := c.commit(); err != nil {
		return Attr{}, err
	}
	return d.attr(id)
}

// Remove takes a name away; directory says whether it has to be one. Open files keep working.
func (d *Drive) Remove(ctx context.Context, dir record.ID, name string, directory bool) error {
	if err := d.mayChange(); err != nil {
		return err
	}
	d.pace.wait(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	f, s, err := d.lookupInode(dir, name)
	if err != nil {
		return err
	}
	if err := d.removable(f, directory); err != nil {
		return err
	}
	if s.Kind != 0 {
		if _, err := d.take(f.id, s); err != nil {
			return err
		}
	}
	c := d.change()
	defer c.end()
	if err := c.unname(f); err != nil {
		return err
	}
	c.put(dir, name, f, f.id, f.kind, true)
	if err := c.touchDir(dir); err != nil {
		return err
	}
	if err := c.commit(); err != nil {
		return err
	}
	d.bury(f.id)
	return nil
}

func (d *Drive) removable(f found, directory bool) error {
	if directory && f.kind != record.Dir {
		return ErrNotDir
	}
	if !directory && f.kind == record.Dir {
		return ErrIsDir
	}
	if directory {
		if empty, err := d.empty(f.id); err != nil {
			return err
		} else if !empty {
			return ErrNotEmpty
		}
	}
	return nil
}

// unname notes that inode f.id loses a name, and that it is gone if that was the last one.
func (c *change) unname(f found) error {
	if _, err := c.d.load(f.id); err != nil { // with it comes how many names it has
		return err
	}
	n, err := c.d.links(f.id)
	if err != nil {
		return err
	}
	in, err := c.touch(f.id, func(in *inode) {
		in.rec.Ctime = c.now.UnixNano()
		in.gone = n <= 1
	})
	if err == nil {
		in.known = true // who removes it has looked it up
	}
	return err
}

// bury lets go of an inode without a name that nobody holds. Called with mu held.
func (d *Drive) bury(id record.ID) {
	if in := d.overlay.inodes[id]; in != nil && in.gone && in.opens == 0 && !in.known && !in.published && !in.inFlight {
		d.forget(in)
	}
}

// Readlink returns the target of a symlink.
func (d *Drive) Readlink(_ context.Context, id record.ID) (string, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	rec, err := d.recordOf(id)
	if err != nil {
		return "", err
	}
	if rec.Kind != record.Symlink {
		return "", ErrInvalid
	}
	return rec.Target, nil
}

// scratchNames are the patterns of names that stay on this node.
type scratchNames []string

func (s scratchNames) match(name string) bool {
	return slices.ContainsFunc(s, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	})
}

// maxLevels bounds the way up through folders: more than anybody makes.
const maxLevels = 1 << 20

// staysHere reports whether an entry called name in dir is never published: its name is scratch, or that of a directory above it that
// nobody else knows. Called with mu held.
func (d *Drive) staysHere(dir record.ID, name string) bool {
	for range maxLevels {
		if d.scratch.match(name) {
			return true
		}
		in := d.overlay.inodes[dir]
		if in == nil || in.published || dir == record.Root {
			return false
		}
		e := d.entryNaming(dir)
		if e == nil {
			return false
		}
		dir, name = e.dir, e.name
	}
	return false
}

// entryNaming finds the entry that names a directory nobody else knows.
func (d *Drive) entryNaming(id record.ID) *entry {
	if e := d.overlay.parents[id]; e != nil && !e.gone && d.overlay.entry(e.dir, e.name) == e {
		return e
	}
	return nil
}
