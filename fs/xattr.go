package fs

import (
	"context"
	"strings"
	"syscall"

	"hyphafs.org/hyphafs/drive"
)

// unknown says whether the file system has no such attributes at all. ACLs: nobody would enforce them, so promising them is worse than saying that
// there are none. Labels of SELinux: its policy gives a FUSE mount one label and reads none; and ls(1) asks no further when it is told so once.
func unknown(name string) bool {
	return strings.HasPrefix(name, "system.") || name == "security.selinux"
}

// storable says whether we keep attributes of this name. Not file capabilities: a write has to end them, and they have no meaning on another machine.
func storable(name string) bool { return !unknown(name) && name != "security.capability" }

// Getxattr answers getxattr(2). A nil dest asks for the size.
func (n *node) Getxattr(ctx context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	if unknown(name) {
		return 0, syscall.EOPNOTSUPP
	}
	if !storable(name) {
		return 0, syscall.ENODATA
	}
	value, err := n.tree.drive.Xattr(ctx, n.id, name)
	if err != nil {
		return 0, n.errno(err, "getxattr")
	}
	return give(value, dest)
}

// give copies value to dest as getxattr and listxattr do.
func give(value, dest []byte) (uint32, syscall.Errno) {
	if len(dest) > 0 && len(value) > len(dest) {
		return uint32(len(value)), syscall.ERANGE
	}
	copy(dest, value)
	return uint32(len(value)), 0
}

// Setxattr answers setxattr(2).
func (n *node) Setxattr(ctx context.Context, name string, value []byte, flags uint32) syscall.Errno {
	if !n.tree.drive.Writable() {
		return syscall.EROFS
	}
	if !storable(name) {
		return syscall.EOPNOTSUPP
	}
	return n.errno(n.tree.drive.SetXattr(whole(ctx), n.id, name, value, flags), "setxattr")
}

// Removexattr answers removexattr(2).
func (n *node) Removexattr(ctx context.Context, name string) syscall.Errno {
	if !n.tree.drive.Writable() {
		return syscall.EROFS
	}
	if !storable(name) {
		return n.errno(drive.ErrNoXattr, "removexattr")
	}
	return n.errno(n.tree.drive.RemoveXattr(whole(ctx), n.id, name), "removexattr")
}

// Listxattr answers listxattr(2).
func (n *node) Listxattr(ctx context.Context, dest []byte) (uint32, syscall.Errno) {
	names, err := n.tree.drive.Xattrs(ctx, n.id)
	if err != nil {
		return 0, n.errno(err, "listxattr")
	}
	var list []byte
	for _, name := range names {
		list = append(append(list, name...), 0)
	}
	return give(list, dest)
}
