package drive

import (
	"time"

	"hyphafs.org/hyphafs/drive/record"
)

// Attr is what stat tells of an inode. A value; the caller owns it.
type Attr struct {
	ID     record.ID
	Kind   record.Kind
	Mode   uint32 // 07777
	UID    uint32
	GID    uint32
	Here   bool   // UID and GID were set on this node; if not, the file belongs to who mounts
	Size   uint64 // bytes
	Blocks uint64 // of 512 bytes, holes not counted
	Nlink  uint32 // of a directory 2 and one for each directory in it; 0 without a name
	Rdev   uint32
	Atime  time.Time
	Mtime  time.Time
	Ctime  time.Time
	Btime  time.Time
}

// AttrChange is a setattr: a nil field stays as it is. Ctime is set to the drive's clock by every change.
type AttrChange struct {
	Mode  *uint32
	UID   *uint32
	GID   *uint32
	Size  *uint64
	Atime *time.Time
	Mtime *time.Time
	// KillPriv clears suid, and sgid where group execute is set, as a write or chown by an ordinary user does.
	KillPriv bool
}

// NewInode says what Drive.Make creates. The umask is applied already. Mode, UID and GID are stored as they are:
// the setgid rule of the parent directory is the caller's.
type NewInode struct {
	Kind   record.Kind
	Mode   uint32
	UID    uint32
	GID    uint32
	Rdev   uint32
	Target string // of a symlink, at most 4095 bytes
}

// DirEntry is one name in a directory, "." and ".." not among them.
type DirEntry struct {
	Name string
	ID   record.ID
	Kind record.Kind
	at   uint64 // Drive.renamed, when it was read
}

// RenameFlags are those of renameat2(2).
type RenameFlags uint32

// The flags of renameat2 that a drive knows.
const (
	RenameNoReplace RenameFlags = 1 << iota
	RenameExchange
	RenameWhiteout
)

// Statfs is the size of the drive as df shows it, in bytes and inodes.
type Statfs struct {
	Total, Free, Available uint64 // bytes of the disk under the state directory
	Files, FilesFree       uint64
}

// Change tells what a peer's records changed, so that the kernel's caches can be told. Exactly one shape:
//   - Name empty: content or attributes of inode ID changed.
//   - Name set: the name in directory Dir now means inode ID (zero: it is gone; Was is what it meant before, if known).
type Change struct {
	ID   record.ID
	Dir  record.ID
	Name string
	Was  record.ID
}
