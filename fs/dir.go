package fs

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/record"
)

// reserved says whether name in n is the control directory.
func (n *node) reserved(name string) bool { return name == controlName && n.id == record.Root }

// Lookup finds a name. Names that are not there are remembered by the kernel, too.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	if n.reserved(name) {
		return n.tree.controlRoot(ctx, n, out), 0
	}
	a, err := n.tree.drive.Lookup(ctx, n.id, name)
	if err != nil {
		return nil, n.errno(err, "lookup")
	}
	return n.tree.entry(ctx, n, a, out), 0
}

// make creates name in n and applies what the parent's setgid bit says; the kernel applied the umask, and took sgid from the mode
// of a file whose maker is not in the group (vfs_prepare_mode of Linux).
func (n *node) make(ctx context.Context, name string, what drive.NewInode, op string) (drive.Attr, syscall.Errno) {
	if n.reserved(name) {
		return drive.Attr{}, syscall.EEXIST
	}
	if !n.tree.drive.Writable() {
		return drive.Attr{}, syscall.EROFS
	}
	parent, err := n.tree.drive.Attr(ctx, n.id)
	if err != nil {
		return drive.Attr{}, n.errno(err, op)
	}
	if parent.Nlink == 0 {
		return drive.Attr{}, syscall.ENOENT
	}
	what.UID, what.GID = n.tree.uid, n.tree.gid
	if caller, ok := fuse.FromContext(ctx); ok {
		what.UID, what.GID = caller.Uid, caller.Gid
	}
	if parent.Mode&syscall.S_ISGID != 0 {
		what.GID = n.tree.owner(parent).Gid
		if what.Kind == record.Dir {
			what.Mode |= syscall.S_ISGID
		}
	}
	a, err := n.tree.drive.Make(whole(ctx), n.id, name, what)
	return a, n.errno(err, op)
}

// Mkdir answers mkdir(2).
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	a, errno := n.make(ctx, name, drive.NewInode{Kind: record.Dir, Mode: mode & 07777}, "mkdir")
	if errno != 0 {
		return nil, errno
	}
	return n.tree.entry(ctx, n, a, out), 0
}

// Mknod answers mknod(2). Devices are kept as metadata; whether they can be opened is decided by nodev.
func (n *node) Mknod(ctx context.Context, name string, mode, dev uint32, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	kind, ok := kindOf(mode)
	if !ok || kind == record.Dir || kind == record.Symlink {
		return nil, syscall.EINVAL
	}
	if kind != record.CharDevice && kind != record.BlockDevice {
		dev = 0
	}
	a, errno := n.make(ctx, name, drive.NewInode{Kind: kind, Mode: mode & 07777, Rdev: dev}, "mknod")
	if errno != 0 {
		return nil, errno
	}
	return n.tree.entry(ctx, n, a, out), 0
}

// Symlink answers symlink(2).
func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	a, errno := n.make(ctx, name, drive.NewInode{Kind: record.Symlink, Mode: 0777, Target: target}, "symlink")
	if errno != 0 {
		return nil, errno
	}
	return n.tree.entry(ctx, n, a, out), 0
}

// Create answers open(2) with O_CREAT of a name that is not there.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*gofs.Inode, gofs.FileHandle, uint32, syscall.Errno) {
	a, errno := n.make(ctx, name, drive.NewInode{Kind: record.File, Mode: mode & 07777}, "create")
	if errno != 0 {
		return nil, nil, 0, errno
	}
	f, err := n.tree.drive.Open(whole(ctx), a.ID, flags&syscall.O_ACCMODE != syscall.O_RDONLY)
	if err != nil {
		return nil, nil, 0, n.errno(err, "open")
	}
	child := n.tree.entry(ctx, n, a, out)
	made := child.Operations().(*node)
	made.stores.once.Store(true) // what is written through it stays with the kernel
	made.tree.queue.pages.opening(made)
	openFlags, fresh := made.tree.queue.pages.openFlags(made, true)
	return child, &handle{node: made, file: f, fresh: fresh}, openFlags, 0
}

// Link answers link(2).
func (n *node) Link(ctx context.Context, target gofs.InodeEmbedder, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	of, ok := target.(*node)
	if !ok {
		return nil, syscall.EPERM
	}
	if n.reserved(name) {
		return nil, syscall.EEXIST
	}
	a, err := n.tree.drive.Link(whole(ctx), of.id, n.id, name)
	if err != nil {
		return nil, n.errno(err, "link")
	}
	return n.tree.entry(ctx, n, a, out), 0
}

// Unlink answers unlink(2).
func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	if n.reserved(name) {
		return syscall.EISDIR
	}
	return n.errno(n.tree.drive.Remove(whole(ctx), n.id, name, false), "unlink")
}

// Rmdir answers rmdir(2).
func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	if n.reserved(name) {
		return syscall.EPERM
	}
	return n.errno(n.tree.drive.Remove(whole(ctx), n.id, name, true), "rmdir")
}

// Rename answers renameat2(2). Flags we do not know are EINVAL, as the manual says.
func (n *node) Rename(ctx context.Context, name string, newParent gofs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := newParent.(*node)
	if !ok || n.reserved(name) || to.reserved(newName) {
		return syscall.EPERM
	}
	if flags&^uint32(drive.RenameNoReplace|drive.RenameExchange|drive.RenameWhiteout) != 0 {
		return syscall.EINVAL
	}
	return n.errno(n.tree.drive.Rename(whole(ctx), n.id, name, to.id, newName, drive.RenameFlags(flags)), "rename")
}

// OpendirHandle opens the directory for reading. The kernel keeps the list until a name in it changes.
func (n *node) OpendirHandle(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	return &dirHandle{node: n}, fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE, 0
}
