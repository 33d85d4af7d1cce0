package drive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
)

// load brings an inode into memory. Called with mu held for writing.
func (d *Drive) load(id record.ID) (*inode, error) {
	if in := d.overlay.inodes[id]; in != nil {
		return in, nil
	}
	s, err := d.viewed(id)
	if err != nil {
		return nil, err
	}
	return d.take(id, s)
}

// take brings the inode id, of which the view says s, into memory. Called with mu held for writing.
func (d *Drive) take(id record.ID, s view.InodeState) (*inode, error) {
	if err := d.unpage(id, &s.Inode); err != nil {
		return nil, err
	}
	in := &inode{id: id, published: s.Version != (record.Version{}) || id == record.Root, rec: s.Inode, base: s.Replaces}
	if s.Version != (record.Version{}) {
		in.counts.Store(&counts{s.Counts, d.folds})
	}
	d.overlay.inodes[id] = in
	return in, nil
}

// viewed is the view's state of an inode. A root that nobody changed yet has one all the same.
func (d *Drive) viewed(id record.ID) (view.InodeState, error) {
	s, err := d.view.Inode(id)
	if errors.Is(err, view.ErrNotExist) && id == record.Root {
		s.Inode = record.Inode{Kind: record.Dir, Mode: 0o755}
		s.Counts, err = d.view.Counts(id, true)
		return s, err
	}
	if errors.Is(err, view.ErrNotExist) {
		return s, fmt.Errorf("inode %s: %w", id, ErrNotExist)
	}
	return s, err
}

// links counts the names of an inode. Called with mu held.
func (d *Drive) links(id record.ID) (int, error) {
	if id == record.Root {
		return 1, nil
	}
	n := d.overlay.links[id]
	if !d.mayBeShown(id) {
		return n, nil
	}
	shown, err := d.counts(id)
	return n + shown.Nlink, err
}

// counts is what the view shows of an inode, and when it said so: it is asked again only after a fold.
type counts struct {
	view.Counts
	folds uint64
}

// counts returns what the view shows of an inode. Called with mu held.
func (d *Drive) counts(id record.ID) (view.Counts, error) {
	in := d.overlay.inodes[id]
	if in == nil {
		return d.view.Counts(id, true)
	}
	if c := in.counts.Load(); c != nil && c.folds == d.folds {
		return c.Counts, nil
	}
	c, err := d.view.Counts(id, in.rec.Kind == record.Dir) // the kind never changes
	if err == nil {
		in.counts.Store(&counts{c, d.folds})
	}
	return c, err
}

// mayBeShown reports whether the view may know an inode, a name of it or a name in it. Called with mu held.
func (d *Drive) mayBeShown(id record.ID) bool {
	in := d.overlay.inodes[id]
	return in == nil || in.published || in.shown
}

// dirLinks returns the link count of a directory that has a name: itself, its name and the directories in it, or 1 where these are not counted, as
// other file systems say it. Called with mu held.
func (d *Drive) dirLinks(dir record.ID) (int, error) {
	if !d.mayBeShown(dir) {
		return 2 + d.overlay.subdirs[dir], nil
	}
	shown, err := d.counts(dir)
	return d.dirLinksOf(dir, shown), err
}

// dirLinksOf is dirLinks of a directory of which the view shows that. Called with mu held.
func (d *Drive) dirLinksOf(dir record.ID, shown view.Counts) int {
	if !shown.Counted {
		return 1
	}
	return 2 + d.overlay.subdirs[dir] + shown.Subdirs
}

// recordOf returns an inode's record as it is now. Called with mu held.
func (d *Drive) recordOf(id record.ID) (record.Inode, error) {
	if in := d.overlay.inodes[id]; in != nil {
		in.mu.RLock()
		defer in.mu.RUnlock()
		return in.rec, nil
	}
	s, err := d.viewed(id)
	return s.Inode, err
}

// attr returns an inode's attributes. Called with mu held.
func (d *Drive) attr(id record.ID) (Attr, error) {
	if in := d.overlay.inodes[id]; in != nil {
		n, err := d.links(id)
		if err != nil {
			return Attr{}, err
		}
		if in.rec.Kind == record.Dir && n > 0 { // the kind never changes
			if n, err = d.dirLinks(id); err != nil {
				return Attr{}, err
			}
		}
		in.mu.RLock()
		defer in.mu.RUnlock()
		return d.attrOf(id, &in.rec, in.present, n), nil
	}
	s, err := d.viewed(id)
	if err != nil {
		return Attr{}, err
	}
	return d.attrViewed(id, &s), nil
}

// attrViewed is attr of an inode that the overlay does not hold: s is what the view says. Called with mu held.
func (d *Drive) attrViewed(id record.ID, s *view.InodeState) Attr {
	n := s.Nlink + d.overlay.links[id]
	if id == record.Root {
		n = 1
	}
	if s.Kind == record.Dir && n > 0 {
		n = d.dirLinksOf(id, s.Counts)
	}
	return d.attrOf(id, &s.Inode, nil, n)
}

func (d *Drive) attrOf(id record.ID, rec *record.Inode, present blockset, links int) Attr {
	a := Attr{ID: id, Kind: rec.Kind, Mode: rec.Mode, UID: rec.UID, GID: rec.GID, Here: rec.Owner == d.owner() && !d.self.IsZero(), Size: rec.Size,
		Rdev: rec.Rdev, Nlink: uint32(max(links, 0)),
		Atime: time.Unix(0, rec.Atime), Mtime: time.Unix(0, rec.Mtime), Ctime: time.Unix(0, rec.Ctime), Btime: time.Unix(0, rec.Btime)}
	if rec.Kind == record.File {
		a.Blocks = min(allocated(rec, present)*(blockSize/512), (rec.Size+511)/512)
	}
	return a
}

// allocated counts the blocks of a file that are no holes: those present, and those of its extents.
func allocated(rec *record.Inode, present blockset) uint64 {
	blocks := present.count()
	if len(rec.Extents) == 0 { // as it stands in the view
		for _, p := range rec.Pages {
			blocks += p.Blocks
		}
	}
	for _, e := range rec.Extents { // both ascend
		blocks += e.Count
		for ; len(present) > 0 && present[0].end <= e.Block; present = present[1:] {
		}
		for _, r := range present {
			if r.first >= e.Block+e.Count {
				break
			}
			blocks -= min(r.end, e.Block+e.Count) - max(r.first, e.Block)
		}
	}
	return blocks
}

// Attr returns the attributes of an inode.
func (d *Drive) Attr(_ context.Context, id record.ID) (Attr, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.attr(id)
}

// SetAttr changes attributes, all given ones or none.
func (d *Drive) SetAttr(ctx context.Context, id record.ID, change AttrChange) (Attr, error) {
	if err := d.mayChange(); err != nil {
		return Attr{}, err
	}
	if change.Size != nil {
		if err := d.truncate(ctx, id, *change.Size); err != nil {
			return Attr{}, err
		}
	} else if err := d.withRoom(ctx, func() error { return d.room(recordNeed) }); err != nil {
		return Attr{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.change()
	defer c.end()
	if _, err := c.touch(id, func(in *inode) { change.apply(&in.rec, c.now, d.owner()) }); err != nil {
		return Attr{}, err
	}
	if err := c.commit(); err != nil {
		return Attr{}, err
	}
	return d.attr(id)
}

// apply changes all but the size.
func (a *AttrChange) apply(rec *record.Inode, now time.Time, owner [8]byte) {
	if a.KillPriv {
		killPriv(rec)
	}
	if a.Mode != nil {
		rec.Mode = *a.Mode & 0o7777
	}
	if a.UID != nil || a.GID != nil {
		if rec.Owner != owner { // until now it belonged to who mounts; what is not said stays unsaid
			rec.UID, rec.GID, rec.Owner = 0, 0, owner
		}
		if a.UID != nil {
			rec.UID = *a.UID
		}
		if a.GID != nil {
			rec.GID = *a.GID
		}
	}
	if a.Atime != nil {
		rec.Atime = a.Atime.UnixNano()
	}
	if a.Mtime != nil {
		rec.Mtime = a.Mtime.UnixNano()
	}
	rec.Ctime = now.UnixNano()
}

// killPriv clears suid, and sgid where the group may execute, as a write does.
func killPriv(rec *record.Inode) {
	rec.Mode &^= 0o4000
	if rec.Mode&0o010 != 0 {
		rec.Mode &^= 0o2000
	}
}

// snapshot copies what a change may touch; restore brings it back. Both are called with in.mu held.
func (in *inode) snapshot() *inode {
	s := &inode{rec: in.rec, base: in.base, dirty: in.dirty, gone: in.gone, stale: in.stale, changes: in.changes, first: in.first, last: in.last,
		present: in.present, pages: in.pages, unpublished: in.unpublished}
	s.journalled.Store(in.journalled.Load())
	return s
}

func (in *inode) restore(s *inode) {
	in.rec, in.base, in.dirty, in.gone, in.stale, in.changes, in.first, in.last = s.rec, s.base, s.dirty, s.gone, s.stale, s.changes, s.first, s.last
	in.present, in.pages, in.unpublished = s.present, s.pages, s.unpublished
	in.journalled.Store(s.journalled.Load())
}

// release lets go of an inode that the view knows as well, if nobody uses it. Called with mu held for writing.
func (d *Drive) release(in *inode) {
	in.mu.Lock()
	keep := in.dirty || in.opens > 0 || in.gone && in.known || !in.published && !in.gone
	in.mu.Unlock()
	if !keep {
		d.forget(in)
	}
}

// forget drops an inode from memory, its bytes and its journal items. Called with mu held for writing.
func (d *Drive) forget(in *inode) {
	delete(d.overlay.inodes, in.id)
	delete(d.promised, in.id)
	if in.stale {
		d.notice(Change{ID: in.id})
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.journalled.Load() {
		var f frame
		f.inodeDone(in)
		if err := d.log(&f); err != nil {
			d.cfg.Log.Warn("journal", "err", err) // the item is dropped again when the journal is next replayed and published
		}
	}
	if err := d.closeBacking(in); err != nil {
		d.cfg.Log.Warn("free the bytes of a published file", "err", err)
	}
}

// Forget says that the kernel no longer knows id.
func (d *Drive) Forget(id record.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if in := d.overlay.inodes[id]; in != nil {
		in.known = false
		d.bury(id)
		if d.overlay.inodes[id] == in {
			d.release(in)
		}
	}
}

// SyncDir makes all changes of names so far durable.
func (d *Drive) SyncDir(context.Context, record.ID) error { return d.syncJournal() }

// Xattr returns the value of an attribute. The caller owns it.
func (d *Drive) Xattr(_ context.Context, id record.ID, name string) ([]byte, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	rec, err := d.recordOf(id)
	if err != nil {
		return nil, err
	}
	if i, ok := findXattr(rec.Xattrs, name); ok {
		return append([]byte{}, rec.Xattrs[i].Value...), nil
	}
	return nil, ErrNoXattr
}

// Xattrs returns the names of the attributes, ascending.
func (d *Drive) Xattrs(_ context.Context, id record.ID) ([]string, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	rec, err := d.recordOf(id)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(rec.Xattrs))
	for i, x := range rec.Xattrs {
		names[i] = x.Name
	}
	return names, nil
}

// SetXattr sets an attribute; flags are those of setxattr(2): 1 it must be new, 2 it must be there.
func (d *Drive) SetXattr(ctx context.Context, id record.ID, name string, value []byte, flags uint32) error {
	if name == "" || len(name) > record.MaxName {
		return ErrInvalid
	}
	if err := d.withRoom(ctx, func() error { return d.room(recordNeed + 2*int64(len(value))) }); err != nil {
		return err
	}
	return d.editXattrs(id, func(xs []record.Xattr) ([]record.Xattr, error) {
		i, ok := findXattr(xs, name)
		switch {
		case ok && flags&1 != 0:
			return nil, ErrExist
		case !ok && flags&2 != 0:
			return nil, ErrNoXattr
		}
		x := record.Xattr{Name: name, Value: append([]byte{}, value...)}
		xs = slices.Clone(xs)
		if ok {
			xs[i] = x
		} else {
			xs = slices.Insert(xs, i, x)
		}
		total := 0
		for _, x := range xs {
			total += len(x.Name) + len(x.Value)
		}
		if total > record.MaxXattr || len(xs) > record.MaxXattrs {
			return nil, ErrNoSpace
		}
		return xs, nil
	})
}

// RemoveXattr takes an attribute away.
func (d *Drive) RemoveXattr(_ context.Context, id record.ID, name string) error {
	return d.editXattrs(id, func(xs []record.Xattr) ([]record.Xattr, error) {
		i, ok := findXattr(xs, name)
		if !ok {
			return nil, ErrNoXattr
		}
		return slices.Delete(slices.Clone(xs), i, i+1), nil
	})
}

func (d *Drive) editXattrs(id record.ID, edit func([]record.Xattr) ([]record.Xattr, error)) error {
	if err := d.mayChange(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	rec, err := d.recordOf(id)
	if err != nil {
		return err
	}
	xs, err := edit(rec.Xattrs)
	if err != nil {
		return err
	}
	c := d.change()
	defer c.end()
	if _, err := c.touch(id, func(in *inode) { in.rec.Xattrs, in.rec.Ctime = xs, c.now.UnixNano() }); err != nil {
		return err
	}
	return c.commit()
}

func findXattr(xs []record.Xattr, name string) (int, bool) {
	return slices.BinarySearchFunc(xs, name, func(x record.Xattr, name string) int { return strings.Compare(x.Name, name) })
}

// Statfs tells of the disk under the state directory and of the inodes here.
func (d *Drive) Statfs(context.Context) (Statfs, error) {
	var s Statfs
	if d.cfg.Work != nil {
		var err error
		if s, err = d.cfg.Work.Statfs(); err != nil {
			return s, err
		}
		kept := reserve(s)
		s.Free, s.Available = s.Free-min(kept, s.Free), s.Available-min(kept, s.Available)
	}
	files, _, err := d.view.Totals()
	d.mu.RLock()
	defer d.mu.RUnlock()
	s.Files = files + uint64(len(d.overlay.inodes)) + s.FilesFree
	return s, err
}
