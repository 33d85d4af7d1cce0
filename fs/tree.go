package fs

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"log/slog"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/record"
)

// tree is what all nodes of one mount share. Nothing in it but what queue and known count changes after Mount.
type tree struct {
	drive    Drive
	pending  Pending
	control  Control
	options  Options
	queue    *invalidations
	known    known
	log      *slog.Logger
	now      func() time.Time
	since    time.Time // of the mount
	uid, gid uint32    // of who mounts: owns .hypha, and what came from other nodes
}

// controlName is the directory in the root that hyphafs makes.
const controlName = ".hypha"

// Inode numbers. The kernel knows a node by the number we show, so that a change can be told to it without a table of the
// nodes it knows. Files have 63 bits of their random id; control files have the top bit set, and 63 bits of a hash of their path.
const (
	rootIno    = 1
	controlBit = 1 << 63
	ownBits    = controlBit - 1
)

// inoOf is the inode number of id. Numbers 0 and 1 belong to the kernel and the root.
func inoOf(id record.ID) uint64 {
	if id == record.Root {
		return rootIno
	}
	ino := binary.BigEndian.Uint64(id[:8]) & ownBits
	if ino <= rootIno {
		ino += 2
	}
	return ino
}

// stable tells go-fuse who id is: the bits of id that are not in the number are its generation.
func stable(id record.ID, kind record.Kind) gofs.StableAttr {
	return gofs.StableAttr{
		Mode: typeOf(kind),
		Ino:  inoOf(id),
		Gen:  uint64(binary.BigEndian.Uint32(id[8:])) | uint64(id[0]>>7)<<32,
	}
}

// controlStable is stable for the control file or directory at path, which starts with .hypha.
func controlStable(path string, mode uint32) gofs.StableAttr {
	h := fnv.New64a()
	h.Write([]byte(path))
	ino := h.Sum64() | controlBit
	if ino == ^uint64(0) {
		ino--
	}
	return gofs.StableAttr{Mode: mode & syscall.S_IFMT, Ino: ino}
}

var types = [...]uint32{
	record.File:        syscall.S_IFREG,
	record.Dir:         syscall.S_IFDIR,
	record.Symlink:     syscall.S_IFLNK,
	record.FIFO:        syscall.S_IFIFO,
	record.Socket:      syscall.S_IFSOCK,
	record.CharDevice:  syscall.S_IFCHR,
	record.BlockDevice: syscall.S_IFBLK,
}

// typeOf returns the S_IFMT bits of kind.
func typeOf(kind record.Kind) uint32 {
	if int(kind) >= len(types) {
		return 0
	}
	return types[kind]
}

// kindOf returns the kind for S_IFMT bits; mknod(2) takes none as a regular file.
func kindOf(mode uint32) (record.Kind, bool) {
	if mode&syscall.S_IFMT == 0 {
		return record.File, true
	}
	for kind, bits := range types {
		if bits == mode&syscall.S_IFMT {
			return record.Kind(kind), true
		}
	}
	return 0, false
}

// preferredIO is st_blksize: stdio writes in this unit, and a write is one request to us. It is a block of a file, too.
const preferredIO = record.BlockSize

// owner is who a file belongs to here: the ids stored on this node, else who mounts.
func (t *tree) owner(a drive.Attr) fuse.Owner {
	if a.Here {
		return fuse.Owner{Uid: a.UID, Gid: a.GID}
	}
	return fuse.Owner{Uid: t.uid, Gid: t.gid}
}

// fill writes a to what the kernel gets.
func (t *tree) fill(a drive.Attr, out *fuse.Attr) {
	*out = fuse.Attr{
		Ino:     inoOf(a.ID),
		Size:    a.Size,
		Blocks:  a.Blocks,
		Mode:    typeOf(a.Kind) | a.Mode&07777,
		Nlink:   a.Nlink,
		Owner:   t.owner(a),
		Rdev:    a.Rdev,
		Blksize: preferredIO,
	}
	out.SetTimes(&a.Atime, &a.Mtime, &a.Ctime)
}

// entry fills out for a name that means a, and returns its node below parent.
func (t *tree) entry(ctx context.Context, parent *node, a drive.Attr, out *fuse.EntryOut) *gofs.Inode {
	t.fill(a, &out.Attr)
	out.SetEntryTimeout(cacheTime)
	out.SetAttrTimeout(cacheTime)
	if a.ID != record.Root {
		t.queue.prune(t.known.named(out.Attr.Ino))
	}
	return parent.NewInode(ctx, &node{tree: t, id: a.ID}, stable(a.ID, a.Kind))
}

// killsPriv says whether fallocate by the caller of ctx takes suid and sgid away. A WRITE and a SETATTR have a flag for it that
// is set without CAP_FSETID; for a FALLOCATE we take that to be every user but root.
func killsPriv(ctx context.Context) bool {
	caller, ok := fuse.FromContext(ctx)
	return ok && caller.Uid != 0
}

// whole is ctx without its end. Changes are local and quick, and must not stop half-way because a signal came: every
// signal, Go's own preemption included, cancels the context of a request. Writes, truncations and fallocates keep theirs: the drive heeds it only while it
// waits for the rest of a block that changes in part, before it changes anything of that.
func whole(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }
