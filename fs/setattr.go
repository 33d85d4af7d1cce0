package fs

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hyphafs.org/hyphafs/drive"
)

// Setattr answers chmod(2), chown(2), truncate(2), utimensat(2) and what the kernel does by itself at O_TRUNC. Who may
// change what, and sgid of a caller outside the group, the kernel has settled (default_permissions).
func (n *node) Setattr(ctx context.Context, f gofs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	change := n.tree.change(in)
	var a drive.Attr
	set := func() (err error) {
		if h, ok := f.(*handle); ok {
			a, err = h.file.SetAttr(ctx, change)
		} else {
			a, err = n.tree.drive.SetAttr(ctx, n.id, change)
		}
		return err
	}
	err := error(nil)
	if change.Size != nil {
		n.begin(0)
		defer n.end()
		err = n.mayChange(set)
	} else {
		err = set()
	}
	if err != nil {
		return n.errno(err, "setattr")
	}
	n.tree.fill(a, &out.Attr)
	out.SetTimeout(cacheTime)
	return 0
}

// change reads a SETATTR. UTIME_OMIT is a field that is not there, UTIME_NOW a bit: then our clock counts, which also makes ctime.
func (t *tree) change(in *fuse.SetAttrIn) drive.AttrChange {
	var c drive.AttrChange
	if mode, ok := in.GetMode(); ok {
		c.Mode = &mode
	}
	if uid, ok := in.GetUID(); ok {
		c.UID = &uid
	}
	if gid, ok := in.GetGID(); ok {
		c.GID = &gid
	}
	if size, ok := in.GetSize(); ok {
		c.Size = &size
	}
	now := t.now()
	if at, ok := in.GetATime(); ok {
		if in.Valid&fuse.FATTR_ATIME_NOW != 0 {
			at = now
		}
		c.Atime = &at
	}
	if mt, ok := in.GetMTime(); ok {
		if in.Valid&fuse.FATTR_MTIME_NOW != 0 {
			mt = now
		}
		c.Mtime = &mt
	}
	c.KillPriv = in.Valid&fuse.FATTR_KILL_SUIDGID != 0
	return c
}
