package fstest

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/fs"
)

// walk finds the inode at p, "" being the root.
func (d *Drive) walk(p string) (*inode, error) {
	n := d.inodes[record.Root]
	for name := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		if name == "" {
			continue
		}
		var err error
		if n, err = d.child(n, name); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// PeerWrite is what happens when a peer's records arrive that make the file at p, new or not, contain data. It returns the
// changes to tell the mount.
func (d *Drive) PeerWrite(p string, data []byte) ([]drive.Change, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, name := path.Split(p)
	parent, err := d.walk(dir)
	if err != nil {
		return nil, err
	}
	var changes []drive.Change
	n, err := d.child(parent, name)
	if err != nil {
		n = d.make(drive.NewInode{Kind: record.File, Mode: 0644})
		n.Here = false
		d.attach(parent, name, n)
		d.touch(parent)
		changes = append(changes, drive.Change{Dir: parent.ID, Name: name, ID: n.ID})
	}
	n.content = content{}
	n.content.write(data, 0)
	n.Size = uint64(len(data))
	n.Mtime = d.now()
	n.Ctime = n.Mtime
	return append(changes, drive.Change{ID: n.ID}), nil
}

// PeerStall makes the bytes of the file at p from from on unavailable: a read of them waits until its caller gives up, or for PeerResume.
func (d *Drive) PeerStall(p string, from int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.walk(p)
	if err != nil {
		return err
	}
	n.stall = &stall{from: from, come: make(chan struct{})}
	return nil
}

// PeerResume ends what PeerStall began: who waits gets what the file holds by now.
func (d *Drive) PeerResume(p string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.walk(p)
	if err != nil {
		return err
	}
	close(n.stall.come)
	n.stall = nil
	return nil
}

// Waiting is how many reads wait for bytes of the file at p.
func (d *Drive) Waiting(p string) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.walk(p)
	if err != nil || n.stall == nil {
		return 0, err
	}
	return n.stall.waiting, nil
}

// PeerRemove is what happens when a peer's records arrive that remove the name p.
func (d *Drive) PeerRemove(p string) ([]drive.Change, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, name := path.Split(p)
	parent, err := d.walk(dir)
	if err != nil {
		return nil, err
	}
	n, err := d.child(parent, name)
	if err != nil {
		return nil, err
	}
	d.remove(parent, name, n)
	d.touch(parent)
	return []drive.Change{{Dir: parent.ID, Name: name, Was: n.ID}}, nil
}

// PeerReplace is what happens when a peer's records arrive that make the name p mean another file with other content.
func (d *Drive) PeerReplace(p string, data []byte) ([]drive.Change, error) {
	gone, err := d.PeerRemove(p)
	if err != nil {
		return nil, err
	}
	made, err := d.PeerWrite(p, data)
	if err != nil {
		return nil, err
	}
	made[0].Was = gone[0].Was
	return made, nil
}

// AddConflict keeps another head of the file c.Path names, with data as its content.
func (d *Drive) AddConflict(c drive.Conflict, data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.walk(c.Path)
	if err != nil {
		return err
	}
	c.ID, c.Size = n.ID, uint64(len(data))
	d.conflicts = append(d.conflicts, kept{c, bytes.Clone(data)})
	return nil
}

// Conflicts is fs.Namespace's.
func (d *Drive) Conflicts(context.Context) ([]drive.Conflict, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []drive.Conflict
	for _, k := range d.conflicts {
		list = append(list, k.Conflict)
	}
	return list, nil
}

// end takes a kept head out of the list.
func (d *Drive) end(c drive.Conflict) (kept, error) {
	for i, k := range d.conflicts {
		if k.ID == c.ID && k.Version == c.Version {
			d.conflicts = append(d.conflicts[:i:i], d.conflicts[i+1:]...)
			return k, nil
		}
	}
	return kept{}, fmt.Errorf("conflict of %q: %w", c.Path, drive.ErrNotExist)
}

// KeepConflict is fs.Namespace's.
func (d *Drive) KeepConflict(_ context.Context, c drive.Conflict) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.change(c.ID)
	if err != nil {
		return err
	}
	k, err := d.end(c)
	if err != nil {
		return err
	}
	n.content = content{}
	n.content.write(k.data, 0)
	n.Size = uint64(len(k.data))
	n.Mtime = d.now()
	n.Ctime = n.Mtime
	return nil
}

// DropConflict is fs.Namespace's.
func (d *Drive) DropConflict(_ context.Context, c drive.Conflict) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.writable {
		return drive.ErrNotAuthorised
	}
	_, err := d.end(c)
	return err
}

// OpenConflict is fs.Drive's.
func (d *Drive) OpenConflict(_ context.Context, c drive.Conflict) (fs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range d.conflicts {
		if k.ID == c.ID && k.Version == c.Version {
			n := d.make(drive.NewInode{Kind: record.File, Mode: 0400})
			n.content.write(k.data, 0)
			n.Size = uint64(len(k.data))
			n.open++
			return &file{d: d, n: n}, nil
		}
	}
	return nil, drive.ErrNotExist
}
