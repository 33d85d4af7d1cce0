package fstest

import (
	"context"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/record"
)

// touch notes a change of names in dir.
func (d *Drive) touch(dirs ...*inode) {
	now := d.now()
	for _, dir := range dirs {
		dir.Mtime, dir.Ctime = now, now
	}
}

// place opens dir for a new name.
func (d *Drive) place(id record.ID, name string) (*inode, error) {
	if !d.writable {
		return nil, drive.ErrNotAuthorised
	}
	dir, err := d.dir(id)
	if err != nil {
		return nil, err
	}
	if dir.Nlink == 0 {
		return nil, drive.ErrNotExist
	}
	return dir, d.checkName(name)
}

// Make is fs.Namespace's.
func (d *Drive) Make(_ context.Context, dir record.ID, name string, what drive.NewInode) (drive.Attr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	parent, err := d.place(dir, name)
	if err != nil {
		return drive.Attr{}, err
	}
	if _, taken := parent.children[name]; taken {
		return drive.Attr{}, drive.ErrExist
	}
	if len(what.Target) > 4095 {
		return drive.Attr{}, drive.ErrNameTooLong
	}
	n := d.make(what)
	d.attach(parent, name, n)
	d.touch(parent)
	return n.attr(), nil
}

func (d *Drive) make(what drive.NewInode) *inode {
	now := d.now()
	n := &inode{
		Attr: drive.Attr{
			ID: d.newID(), Kind: what.Kind, Mode: what.Mode, UID: what.UID, GID: what.GID, Here: true, Rdev: what.Rdev,
			Atime: now, Mtime: now, Ctime: now, Btime: now,
		},
		target: what.Target, xattrs: map[string][]byte{},
	}
	if what.Kind == record.Dir {
		n.Nlink = 1
		n.children = map[string]record.ID{}
	}
	d.inodes[n.ID] = n
	return n
}

// attach and detach keep the link counts: a directory has its name, its "." and the ".." of each directory in it.
func (d *Drive) attach(parent *inode, name string, n *inode) {
	parent.children[name] = n.ID
	n.Nlink++
	if n.Kind == record.Dir {
		parent.Nlink++
	}
}

func (d *Drive) detach(parent *inode, name string, n *inode) {
	delete(parent.children, name)
	n.Nlink--
	if n.Kind == record.Dir {
		parent.Nlink--
	}
}

// Link is fs.Namespace's.
func (d *Drive) Link(_ context.Context, id, dir record.ID, name string) (drive.Attr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	parent, err := d.place(dir, name)
	if err != nil {
		return drive.Attr{}, err
	}
	n, err := d.get(id)
	switch {
	case err != nil:
		return drive.Attr{}, err
	case n.Kind == record.Dir:
		return drive.Attr{}, drive.ErrIsDir
	case n.Nlink == 0:
		return drive.Attr{}, drive.ErrNotExist
	}
	if _, taken := parent.children[name]; taken {
		return drive.Attr{}, drive.ErrExist
	}
	d.attach(parent, name, n)
	n.Ctime = d.now()
	d.touch(parent)
	return n.attr(), nil
}

// Remove is fs.Namespace's.
func (d *Drive) Remove(_ context.Context, dir record.ID, name string, directory bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.writable {
		return drive.ErrNotAuthorised
	}
	parent, err := d.dir(dir)
	if err != nil {
		return err
	}
	n, err := d.child(parent, name)
	if err != nil {
		return err
	}
	if err := mayRemove(n, directory); err != nil {
		return err
	}
	d.remove(parent, name, n)
	d.touch(parent)
	return nil
}

func mayRemove(n *inode, directory bool) error {
	switch {
	case n.Kind == record.Dir && !directory:
		return drive.ErrIsDir
	case n.Kind != record.Dir && directory:
		return drive.ErrNotDir
	case len(n.children) > 0:
		return drive.ErrNotEmpty
	}
	return nil
}

// remove takes a name away and what hangs on it.
func (d *Drive) remove(parent *inode, name string, n *inode) {
	d.detach(parent, name, n)
	if n.Kind == record.Dir {
		n.Nlink = 0
	}
	n.Ctime = d.now()
	d.reap(n)
}

// Rename is fs.Namespace's.
func (d *Drive) Rename(_ context.Context, fromDir record.ID, fromName string, toDir record.ID, toName string, flags drive.RenameFlags) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	to, err := d.place(toDir, toName)
	if err != nil {
		return err
	}
	from, err := d.dir(fromDir)
	if err != nil {
		return err
	}
	n, err := d.child(from, fromName)
	if err != nil {
		return err
	}
	if n.Kind == record.Dir && d.inside(toDir, n.ID) {
		return drive.ErrInvalid
	}
	old, err := d.child(to, toName)
	there := err == nil
	switch {
	case flags&drive.RenameExchange != 0:
		if flags != drive.RenameExchange {
			return drive.ErrInvalid
		}
		if !there {
			return drive.ErrNotExist
		}
		return d.exchange(from, fromName, n, to, toName, old)
	case there && flags&drive.RenameNoReplace != 0:
		return drive.ErrExist
	case there && old == n:
		return nil
	case there:
		if err := mayRemove(old, n.Kind == record.Dir); err != nil {
			return err
		}
		d.remove(to, toName, old)
	}
	d.detach(from, fromName, n)
	d.attach(to, toName, n)
	if flags&drive.RenameWhiteout != 0 {
		d.attach(from, fromName, d.make(drive.NewInode{Kind: record.CharDevice}))
	}
	n.Ctime = d.now()
	d.touch(from, to)
	return nil
}

func (d *Drive) exchange(from *inode, fromName string, n *inode, to *inode, toName string, old *inode) error {
	if old.Kind == record.Dir && d.inside(from.ID, old.ID) {
		return drive.ErrInvalid
	}
	d.detach(from, fromName, n)
	d.detach(to, toName, old)
	d.attach(to, toName, n)
	d.attach(from, fromName, old)
	n.Ctime, old.Ctime = d.now(), d.now()
	d.touch(from, to)
	return nil
}

// inside says whether directory id is top or below it.
func (d *Drive) inside(id, top record.ID) bool {
	if id == top {
		return true
	}
	n, ok := d.inodes[top]
	if !ok {
		return false
	}
	for _, child := range n.children {
		if d.inodes[child].Kind == record.Dir && d.inside(id, child) {
			return true
		}
	}
	return false
}
