package fs

import (
	"context"
	"path"
	"slices"
	"strings"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hyphafs.org/hyphafs/drive"
)

// item is one name in a control directory. What it does is a function of its path alone: the kernel may hold a node long
// after what it stood for is gone.
type item struct {
	name string
	mode uint32 // with S_IFMT
	node func(at spot) gofs.InodeEmbedder
}

// controlBase is what all nodes below .hypha are: a path, and attributes that are asked for anew each time (timeout 0).
type controlBase struct {
	gofs.Inode
	spot
}

// spot is where a control node stands.
type spot struct {
	tree *tree
	path string // starts with .hypha
	mode uint32 // with S_IFMT
}

func (c *controlBase) errno(err error, op string) syscall.Errno {
	return c.tree.errno(err, op, func() string { return c.path })
}

// fill writes attributes to out. A control file is as old as the mount: with the time of the question, tar and editors would
// say that it changes under their hands.
func (c *controlBase) fill(size int, out *fuse.Attr) {
	*out = fuse.Attr{
		Ino:     controlStable(c.path, c.mode).Ino,
		Size:    uint64(size),
		Mode:    c.mode,
		Nlink:   1,
		Owner:   fuse.Owner{Uid: c.tree.uid, Gid: c.tree.gid},
		Blksize: preferredIO,
	}
	if c.mode&syscall.S_IFMT == syscall.S_IFDIR {
		out.Nlink = 2
	}
	out.SetTimes(&c.tree.since, &c.tree.since, &c.tree.since)
}

// Modes of control files. An approve file may be opened for writing by its owner, and then only a touch or the word counts.
const (
	dirMode    = syscall.S_IFDIR | 0555
	textMode   = syscall.S_IFREG | 0444
	secretMode = syscall.S_IFREG | 0400
	intentMode = syscall.S_IFREG | 0600
)

// controlDir is a directory below .hypha. Nothing can be made or removed in it.
type controlDir struct {
	controlBase
	list func(ctx context.Context) ([]item, error)
}

var (
	_ gofs.NodeGetattrer      = (*controlDir)(nil)
	_ gofs.NodeSetattrer      = (*controlDir)(nil)
	_ gofs.NodeLookuper       = (*controlDir)(nil)
	_ gofs.NodeOpendirHandler = (*controlDir)(nil)
	_ gofs.NodeCreater        = (*controlDir)(nil)
	_ gofs.NodeMkdirer        = (*controlDir)(nil)
	_ gofs.NodeMknoder        = (*controlDir)(nil)
	_ gofs.NodeSymlinker      = (*controlDir)(nil)
	_ gofs.NodeLinker         = (*controlDir)(nil)
	_ gofs.NodeUnlinker       = (*controlDir)(nil)
	_ gofs.NodeRmdirer        = (*controlDir)(nil)
	_ gofs.NodeRenamer        = (*controlDir)(nil)
)

// dirItem is an item that is a directory with the given list.
func dirItem(name string, list func(ctx context.Context) ([]item, error)) item {
	return item{name, dirMode, func(at spot) gofs.InodeEmbedder {
		return &controlDir{controlBase: controlBase{spot: at}, list: list}
	}}
}

// controlRoot returns the node of .hypha and fills out.
func (t *tree) controlRoot(ctx context.Context, root *node, out *fuse.EntryOut) *gofs.Inode {
	return t.controlNode(ctx, &root.Inode, controlName, dirItem(controlName, t.controlItems), out)
}

// controlNode returns the node of it at full below parent and fills out with its attributes. Timeouts are 0: every use asks again.
func (t *tree) controlNode(ctx context.Context, parent *gofs.Inode, full string, it item, out *fuse.EntryOut) *gofs.Inode {
	fresh := it.node(spot{tree: t, path: full, mode: it.mode})
	child := parent.NewInode(ctx, fresh, controlStable(full, it.mode))
	if g, ok := child.Operations().(gofs.NodeGetattrer); ok {
		var attr fuse.AttrOut
		if g.Getattr(ctx, nil, &attr) == 0 {
			out.Attr = attr.Attr
		}
	}
	return child
}

// controlItems are the names in .hypha itself.
func (t *tree) controlItems(context.Context) ([]item, error) {
	var items []item
	if t.control != nil {
		items = append(items,
			textItem("link", secretMode, func(context.Context) ([]byte, error) { return t.control.Link(), nil }),
			dirItem("nodes", t.nodeItems),
			textItem("status", textMode, func(context.Context) ([]byte, error) { return t.control.Status(), nil }),
			textItem("status.json", textMode, func(context.Context) ([]byte, error) { return t.control.StatusJSON(), nil }),
		)
	}
	if t.pending != nil {
		items = append(items, dirItem("pending", t.requestItems))
	}
	return append(items, dirItem("conflicts", t.conflictItems)), nil
}

// nodeItems are the writers, one text file each.
func (t *tree) nodeItems(context.Context) ([]item, error) {
	var items []item
	for name := range t.control.Nodes() {
		if !fileName(name) {
			continue
		}
		items = append(items, textItem(name, textMode, func(context.Context) ([]byte, error) {
			text, ok := t.control.Nodes()[name]
			if !ok {
				return nil, drive.ErrNotExist
			}
			return text, nil
		}))
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	return items, nil
}

// fileName says whether name, which may come from elsewhere, can stand in a directory.
func fileName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.ContainsAny(name, "/\x00")
}

// Getattr answers stat(2).
func (d *controlDir) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	d.fill(0, &out.Attr)
	return 0
}

// Setattr refuses: the directories are ours.
func (d *controlDir) Setattr(context.Context, gofs.FileHandle, *fuse.SetAttrIn, *fuse.AttrOut) syscall.Errno {
	return syscall.EPERM
}

// Lookup finds an item by name.
func (d *controlDir) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	items, err := d.list(ctx)
	if err != nil {
		return nil, d.errno(err, "lookup")
	}
	for _, it := range items {
		if it.name == name {
			return d.tree.controlNode(ctx, &d.Inode, path.Join(d.path, name), it, out), 0
		}
	}
	out.SetEntryTimeout(1) // go-fuse puts in the hour of names in the drive where it finds nothing
	return nil, syscall.ENOENT
}

// OpendirHandle opens the directory for reading.
func (d *controlDir) OpendirHandle(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	items, err := d.list(ctx)
	if err != nil {
		return nil, 0, d.errno(err, "opendir")
	}
	h := &itemsHandle{}
	for _, it := range items {
		ino := controlStable(path.Join(d.path, it.name), it.mode).Ino
		h.entries = append(h.entries, fuse.DirEntry{Name: it.name, Mode: it.mode & syscall.S_IFMT, Ino: ino, Off: uint64(len(h.entries) + 1)})
	}
	return h, 0, 0
}

// itemsHandle is an open control directory: a snapshot, as dirHandle.
type itemsHandle struct {
	entries []fuse.DirEntry
	next    int
}

// Readdirent returns the next entry, nil behind the last.
func (h *itemsHandle) Readdirent(context.Context) (*fuse.DirEntry, syscall.Errno) {
	if h.next >= len(h.entries) {
		return nil, 0
	}
	h.next++
	return &h.entries[h.next-1], 0
}

// Seekdir answers seekdir(3).
func (h *itemsHandle) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	h.next = int(min(off, uint64(len(h.entries))))
	return 0
}

// Create refuses.
func (d *controlDir) Create(context.Context, string, uint32, uint32, *fuse.EntryOut) (*gofs.Inode, gofs.FileHandle, uint32, syscall.Errno) {
	return nil, nil, 0, syscall.EPERM
}

// Mkdir refuses.
func (d *controlDir) Mkdir(context.Context, string, uint32, *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

// Mknod refuses.
func (d *controlDir) Mknod(context.Context, string, uint32, uint32, *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

// Symlink refuses.
func (d *controlDir) Symlink(context.Context, string, string, *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

// Link refuses.
func (d *controlDir) Link(context.Context, gofs.InodeEmbedder, string, *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

// Unlink refuses.
func (d *controlDir) Unlink(context.Context, string) syscall.Errno { return syscall.EPERM }

// Rmdir refuses.
func (d *controlDir) Rmdir(context.Context, string) syscall.Errno { return syscall.EPERM }

// Rename refuses.
func (d *controlDir) Rename(context.Context, string, gofs.InodeEmbedder, string, uint32) syscall.Errno {
	return syscall.EPERM
}
