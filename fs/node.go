package fs

import (
	"context"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/record"
)

// node is an inode of the drive, of any kind. It keeps its id, and of a file what the kernel has of its bytes: the drive knows the rest.
type node struct {
	gofs.Inode
	tree   *tree
	id     record.ID
	stores stores
	cached *cached // guarded by pages.mu; nil until it is opened
}

var (
	_ gofs.NodeOnForgetter    = (*node)(nil)
	_ gofs.NodeStatfser       = (*node)(nil)
	_ gofs.NodeGetattrer      = (*node)(nil)
	_ gofs.NodeStatxer        = (*node)(nil)
	_ gofs.NodeSetattrer      = (*node)(nil)
	_ gofs.NodeGetxattrer     = (*node)(nil)
	_ gofs.NodeSetxattrer     = (*node)(nil)
	_ gofs.NodeListxattrer    = (*node)(nil)
	_ gofs.NodeRemovexattrer  = (*node)(nil)
	_ gofs.NodeReadlinker     = (*node)(nil)
	_ gofs.NodeOpener         = (*node)(nil)
	_ gofs.NodeCreater        = (*node)(nil)
	_ gofs.NodeLookuper       = (*node)(nil)
	_ gofs.NodeOpendirHandler = (*node)(nil)
	_ gofs.NodeMkdirer        = (*node)(nil)
	_ gofs.NodeMknoder        = (*node)(nil)
	_ gofs.NodeSymlinker      = (*node)(nil)
	_ gofs.NodeLinker         = (*node)(nil)
	_ gofs.NodeUnlinker       = (*node)(nil)
	_ gofs.NodeRmdirer        = (*node)(nil)
	_ gofs.NodeRenamer        = (*node)(nil)
)

// path is for the log only: it may be out of date.
func (n *node) path() string { return n.Path(n.Root()) }

func (n *node) errno(err error, op string) syscall.Errno { return n.tree.errno(err, op, n.path) }

// OnForget tells the drive that the kernel gave the inode up.
func (n *node) OnForget() {
	n.tree.queue.pages.forget(n)
	n.tree.drive.Forget(n.id)
}

// begin and end enclose the answer to a request for which the kernel may hold pages of the file, through a handle with that fresh or none.
func (n *node) begin(fresh uint64) { n.tree.queue.pages.begin(n, fresh) }

func (n *node) end() {
	if n.tree.queue.pages.end(n) {
		n.tree.queue.drop(inoOf(n.id))
	}
}

// Statfs answers statfs(2): the disk under the state directory, as df is about what still fits.
func (n *node) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	st, err := n.tree.drive.Statfs(ctx)
	if err != nil {
		return n.errno(err, "statfs")
	}
	const unit = 4096
	out.Bsize, out.Frsize, out.NameLen = unit, unit, 255
	out.Blocks, out.Bfree, out.Bavail = st.Total/unit, st.Free/unit, st.Available/unit
	out.Files, out.Ffree = st.Files, st.FilesFree
	return 0
}

// attr asks the drive, or the open file if the drive no longer finds the inode.
func (n *node) attr(ctx context.Context, f gofs.FileHandle) (drive.Attr, error) {
	a, err := n.tree.drive.Attr(ctx, n.id)
	if err != nil {
		if h, ok := f.(*handle); ok {
			return h.file.Attr(ctx)
		}
	}
	return a, err
}

// Getattr answers stat(2) and fstat(2).
func (n *node) Getattr(ctx context.Context, f gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	a, err := n.attr(ctx, f)
	if err != nil {
		return n.errno(err, "getattr")
	}
	n.tree.fill(a, &out.Attr)
	out.SetTimeout(cacheTime)
	return 0
}

// Statx answers statx(2) when the time of birth is asked for.
func (n *node) Statx(ctx context.Context, f gofs.FileHandle, flags, mask uint32, out *fuse.StatxOut) syscall.Errno {
	a, err := n.attr(ctx, f)
	if err != nil {
		return n.errno(err, "statx")
	}
	var plain fuse.Attr
	n.tree.fill(a, &plain)
	out.AttrValid = uint64(cacheTime / time.Second)
	out.Statx = fuse.Statx{
		Mask:      statxBasic | statxBtime,
		Blksize:   plain.Blksize,
		Nlink:     plain.Nlink,
		Uid:       plain.Uid,
		Gid:       plain.Gid,
		Mode:      uint16(plain.Mode),
		Ino:       plain.Ino,
		Size:      plain.Size,
		Blocks:    plain.Blocks,
		Atime:     sxTime(a.Atime),
		Btime:     sxTime(a.Btime),
		Ctime:     sxTime(a.Ctime),
		Mtime:     sxTime(a.Mtime),
		RdevMajor: major(a.Rdev),
		RdevMinor: minor(a.Rdev),
	}
	return 0
}

// The mask bits of statx(2).
const (
	statxBasic = 0x7ff
	statxBtime = 0x800
)

func sxTime(t time.Time) fuse.SxTime {
	return fuse.SxTime{Sec: uint64(t.Unix()), Nsec: uint32(t.Nanosecond())}
}

// major and minor undo new_encode_dev of Linux (include/linux/kdev_t.h), the form of rdev in FUSE.
func major(dev uint32) uint32 { return dev & 0xfff00 >> 8 }
func minor(dev uint32) uint32 { return dev&0xff | dev>>12&0xfff00 }

// Readlink answers readlink(2). The kernel keeps the answer: the target of a symlink never changes.
func (n *node) Readlink(ctx context.Context) ([]byte, syscall.Errno) {
	target, err := n.tree.drive.Readlink(ctx, n.id)
	if err != nil {
		return nil, n.errno(err, "readlink")
	}
	return []byte(target), 0
}
