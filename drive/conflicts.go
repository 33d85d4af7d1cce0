package drive

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
)

// Conflicts lists the kept heads of files, by path and time, of which something is not shown, times aside. Directories have none.
func (d *Drive) Conflicts(context.Context) ([]Conflict, error) { return d.conflicts() }

func (d *Drive) conflicts() ([]Conflict, error) {
	kept, err := d.view.Conflicts()
	if err != nil {
		return nil, err
	}
	var out []Conflict
	for _, k := range kept {
		if k.Inode.Kind == record.Dir || k.Merged {
			continue
		}
		at, err := d.pathOf(k.ID)
		if err != nil {
			return nil, err
		}
		if at == "" {
			continue // the file was deleted since
		}
		out = append(out, Conflict{Path: at, ID: k.ID, Version: k.Version, Node: d.nodeDir(k.Version.Feed), Time: time.UnixMilli(int64(k.Inode.Stamp.Wall)), Size: k.Inode.Size})
	}
	slices.SortFunc(out, func(a, b Conflict) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return a.Time.Compare(b.Time)
	})
	return out, nil
}

// pathOf is a path at which the view shows id, relative to the root; "" if there is none.
func (d *Drive) pathOf(id record.ID) (string, error) {
	at := ""
	for range 4096 {
		if id == record.Root {
			return at, nil
		}
		links, err := d.view.Links(id)
		if err != nil || len(links) == 0 {
			return "", err
		}
		first := slices.MinFunc(links, func(a, b view.Link) int { return strings.Compare(a.Name, b.Name) })
		at, id = path.Join(first.Name, at), first.Dir
	}
	return "", nil
}

// nodeDir is the directory name of a writer.
func (d *Drive) nodeDir(feed hypercore.Key) string {
	if w, ok, err := d.view.Writer(feed); ok && err == nil {
		return record.NodeDir(w.Name, feed)
	}
	return record.Fingerprint(feed)[:8]
}

// keptHead finds what c names. ErrNotExist if it was kept or dropped meanwhile.
func (d *Drive) keptHead(c Conflict) (view.Kept, error) {
	kept, err := d.view.Conflicts()
	if err != nil {
		return view.Kept{}, err
	}
	for _, k := range kept {
		if k.ID == c.ID && k.Version == c.Version {
			return k, d.unpage(k.ID, &k.Inode)
		}
	}
	return view.Kept{}, fmt.Errorf("conflict in %s: %w", c.Path, ErrNotExist)
}

// KeepConflict makes the file what it would be if the kept head decided, content, mode, owner and attributes; what the file is now is replaced by that.
func (d *Drive) KeepConflict(_ context.Context, c Conflict) error {
	return d.resolve(c, func(in *inode, k view.Kept, f *frame) {
		rec := k.Inode
		f.cut(in.id, run{0, 1 << 62})
		in.present, in.pages, in.unpublished = nil, nil, nil
		in.rec.Size, in.rec.Extents, in.rec.Pages, in.rec.Target, in.rec.Mtime = rec.Size, rec.Extents, rec.Pages, rec.Target, rec.Mtime
		in.rec.Mode, in.rec.UID, in.rec.GID, in.rec.Owner, in.rec.Xattrs, in.rec.Unknown = rec.Mode, rec.UID, rec.GID, rec.Owner, rec.Xattrs, rec.Unknown
	})
}

// DropConflict ends a kept head: the file stays as it is.
func (d *Drive) DropConflict(_ context.Context, c Conflict) error {
	return d.resolve(c, func(*inode, view.Kept, *frame) {})
}

// resolve edits the file and lets the change replace the kept head.
func (d *Drive) resolve(c Conflict, edit func(*inode, view.Kept, *frame)) error {
	if err := d.mayChange(); err != nil {
		return err
	}
	k, err := d.keptHead(c)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ch := d.change()
	defer ch.end()
	in, err := ch.touch(c.ID, func(in *inode) {
		edit(in, k, &ch.frame)
		in.base = append(slices.Clone(in.base), k.Version)
		in.rec.Ctime = ch.now.UnixNano()
	})
	if err != nil {
		return err
	}
	if err := ch.commit(); err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.holds() {
		if err := d.closeBacking(in); err != nil {
			d.cfg.Log.Warn("free the bytes of a file", "err", err)
		}
	}
	d.notice(Change{ID: c.ID})
	return nil
}

// OpenConflict returns a read-only handle on a kept head.
func (d *Drive) OpenConflict(_ context.Context, c Conflict) (*File, error) {
	k, err := d.keptHead(c)
	if err != nil {
		return nil, err
	}
	in := &inode{id: c.ID, published: true, rec: k.Inode, opens: 1 << 30} // of its own: it is in no table and never let go
	return &File{d: d, in: in}, nil
}
