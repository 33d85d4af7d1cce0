// Package fstest has an in-memory drive for tests of package fs and of what stands on it. It is honest: it keeps the rules
// that fs.Drive states, byte for byte and time for time, with sparse files, unlinked files that are still open, and inodes that
// end only when the kernel forgot them. It checks its callers: a handle used after Close, or a name that could never be one, is an error
// it counts (see Drive.Misuse). It keeps nothing, has no peers, and knows no feeds; a test plays the peer with the Peer methods.
package fstest

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/fs"
)

// Drive is a drive in memory. Safe for concurrent use.
type Drive struct {
	now func() time.Time

	mu        sync.Mutex // guards all below, and all inodes
	writable  bool
	inodes    map[record.ID]*inode
	conflicts []kept
	misuse    []string
	synced    int
}

var _ fs.Drive = (*Drive)(nil)

type inode struct {
	drive.Attr
	content  content
	target   string
	xattrs   map[string][]byte
	children map[string]record.ID
	open     int    // handles
	stall    *stall // nil: all bytes are here
	known    bool
}

// stall says which bytes of a file are with a peer alone: those from from on, until come is closed.
type stall struct {
	from    int64
	come    chan struct{}
	waiting int // reads
}

type kept struct {
	drive.Conflict
	data []byte
}

// New returns an empty drive that may be written. Times come from now.
func New(now func() time.Time) *Drive {
	d := &Drive{now: now, writable: true, inodes: map[record.ID]*inode{}}
	t := now()
	d.inodes[record.Root] = &inode{
		Attr:     drive.Attr{ID: record.Root, Kind: record.Dir, Mode: 0755, Nlink: 2, Atime: t, Mtime: t, Ctime: t, Btime: t},
		children: map[string]record.ID{}, xattrs: map[string][]byte{},
	}
	return d
}

// SetWritable says whether this node may write.
func (d *Drive) SetWritable(writable bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writable = writable
}

// Misuse returns what callers did that they must not do.
func (d *Drive) Misuse() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.misuse)
}

// Inodes is how many inodes there are, those without names included.
func (d *Drive) Inodes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.inodes)
}

// Synced is how often something was made durable.
func (d *Drive) Synced() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.synced
}

// Writable is fs.Namespace's.
func (d *Drive) Writable() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writable
}

// get returns an inode. d.mu is held, here and in all that is not exported.
func (d *Drive) get(id record.ID) (*inode, error) {
	n, ok := d.inodes[id]
	if !ok {
		return nil, fmt.Errorf("inode %s: %w", id, drive.ErrNotExist)
	}
	return n, nil
}

func (d *Drive) dir(id record.ID) (*inode, error) {
	n, err := d.get(id)
	if err == nil && n.Kind != record.Dir {
		err = fmt.Errorf("inode %s: %w", id, drive.ErrNotDir)
	}
	return n, err
}

// change opens an inode for a change.
func (d *Drive) change(id record.ID) (*inode, error) {
	if !d.writable {
		return nil, drive.ErrNotAuthorised
	}
	return d.get(id)
}

func (d *Drive) child(dir *inode, name string) (*inode, error) {
	id, ok := dir.children[name]
	if !ok {
		return nil, fmt.Errorf("%q: %w", name, drive.ErrNotExist)
	}
	return d.get(id)
}

// attr is what stat shows of n. Who is told of an inode knows it, until Forget.
func (n *inode) attr() drive.Attr {
	n.known = true
	a := n.Attr
	a.Blocks = n.content.blocks()
	if n.Kind == record.Symlink {
		a.Size = uint64(len(n.target))
	}
	return a
}

// Lookup is fs.Namespace's.
func (d *Drive) Lookup(_ context.Context, dir record.ID, name string) (drive.Attr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	parent, err := d.dir(dir)
	if err != nil {
		return drive.Attr{}, err
	}
	if len(name) > 255 {
		return drive.Attr{}, drive.ErrNameTooLong
	}
	n, err := d.child(parent, name)
	if err != nil {
		return drive.Attr{}, err
	}
	return n.attr(), nil
}

// Attr is fs.Namespace's.
func (d *Drive) Attr(_ context.Context, id record.ID) (drive.Attr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.get(id)
	if err != nil {
		return drive.Attr{}, err
	}
	return n.attr(), nil
}

// SetAttr is fs.Namespace's.
func (d *Drive) SetAttr(_ context.Context, id record.ID, c drive.AttrChange) (drive.Attr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.change(id)
	if err != nil {
		return drive.Attr{}, err
	}
	return d.set(n, c)
}

func (d *Drive) set(n *inode, c drive.AttrChange) (drive.Attr, error) {
	now := d.now()
	if c.Size != nil {
		if n.Kind != record.File {
			return drive.Attr{}, drive.ErrInvalid
		}
		n.content.truncate(int64(*c.Size))
		n.Size, n.Mtime = *c.Size, now
	}
	if c.Mode != nil {
		n.Mode = *c.Mode & 07777
	}
	if c.UID != nil || c.GID != nil {
		n.Here = true
	}
	if c.UID != nil {
		n.UID = *c.UID
	}
	if c.GID != nil {
		n.GID = *c.GID
	}
	if c.Atime != nil {
		n.Atime = *c.Atime
	}
	if c.Mtime != nil {
		n.Mtime = *c.Mtime
	}
	if c.KillPriv {
		n.killPriv()
	}
	n.Ctime = now
	return n.attr(), nil
}

// killPriv is should_remove_suid of Linux.
func (n *inode) killPriv() {
	const suid, sgid, groupExec = 04000, 02000, 00010
	n.Mode &^= suid
	if n.Mode&groupExec != 0 {
		n.Mode &^= sgid
	}
}

// ReadDir is fs.Namespace's.
func (d *Drive) ReadDir(_ context.Context, id record.ID) ([]drive.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, err := d.dir(id)
	if err != nil {
		return nil, err
	}
	var list []drive.DirEntry
	for _, name := range slices.Sorted(maps.Keys(dir.children)) {
		n, err := d.child(dir, name)
		if err != nil {
			return nil, err
		}
		list = append(list, drive.DirEntry{Name: name, ID: n.ID, Kind: n.Kind})
	}
	return list, nil
}

// EntryAttrs is fs.Namespace's.
func (d *Drive) EntryAttrs(ctx context.Context, dir record.ID, entries []drive.DirEntry) ([]drive.Attr, error) {
	attrs := make([]drive.Attr, len(entries))
	for i, e := range entries {
		if a, err := d.Lookup(ctx, dir, e.Name); err == nil {
			attrs[i] = a
		}
	}
	return attrs, nil
}

// Readlink is fs.Namespace's.
func (d *Drive) Readlink(_ context.Context, id record.ID) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.get(id)
	if err != nil {
		return "", err
	}
	if n.Kind != record.Symlink {
		return "", drive.ErrInvalid
	}
	return n.target, nil
}

// Xattr is fs.Namespace's.
func (d *Drive) Xattr(_ context.Context, id record.ID, name string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.get(id)
	if err != nil {
		return nil, err
	}
	value, ok := n.xattrs[name]
	if !ok {
		return nil, drive.ErrNoXattr
	}
	return slices.Clone(value), nil
}

// Xattrs is fs.Namespace's.
func (d *Drive) Xattrs(_ context.Context, id record.ID) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.get(id)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(n.xattrs)), nil
}

// SetXattr is fs.Namespace's.
func (d *Drive) SetXattr(_ context.Context, id record.ID, name string, value []byte, flags uint32) error {
	const create, replace = 1, 2
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.change(id)
	if err != nil {
		return err
	}
	_, there := n.xattrs[name]
	switch {
	case flags&create != 0 && there:
		return drive.ErrExist
	case flags&replace != 0 && !there:
		return drive.ErrNoXattr
	}
	n.xattrs[name] = slices.Clone(value)
	n.Ctime = d.now()
	return nil
}

// RemoveXattr is fs.Namespace's.
func (d *Drive) RemoveXattr(_ context.Context, id record.ID, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.change(id)
	if err != nil {
		return err
	}
	if _, ok := n.xattrs[name]; !ok {
		return drive.ErrNoXattr
	}
	delete(n.xattrs, name)
	n.Ctime = d.now()
	return nil
}

// Forget is fs.Namespace's.
func (d *Drive) Forget(id record.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n, ok := d.inodes[id]; ok {
		n.known = false
		d.reap(n)
	}
}

// reap ends an inode that nobody can reach any more.
func (d *Drive) reap(n *inode) {
	if n.Nlink == 0 && n.open == 0 && !n.known {
		delete(d.inodes, n.ID)
	}
}

// SyncDir is fs.Namespace's.
func (d *Drive) SyncDir(_ context.Context, dir record.ID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.synced++
	_, err := d.dir(dir)
	return err
}

// Statfs is fs.Namespace's.
func (d *Drive) Statfs(context.Context) (drive.Statfs, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var used uint64
	for _, n := range d.inodes {
		used += n.content.blocks() * 512
	}
	return drive.Statfs{
		Total: capacity, Free: capacity - used, Available: capacity - used,
		Files: 1 << 20, FilesFree: 1<<20 - uint64(len(d.inodes)),
	}, nil
}

// capacity is how large the disk under the drive is said to be, in bytes.
const capacity = 1 << 40

func (d *Drive) newID() record.ID {
	var id record.ID
	rand.Read(id[:])
	return id
}

func (d *Drive) checkName(name string) error {
	switch {
	case name == "", name == ".", name == "..", strings.ContainsAny(name, "/\x00"):
		d.misuse = append(d.misuse, fmt.Sprintf("name %q", name))
		return drive.ErrInvalid
	case len(name) > 255:
		return drive.ErrNameTooLong
	}
	return nil
}
