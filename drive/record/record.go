package record

import (
	"encoding/base64"
	"errors"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// ID names an inode: 96 random bits. The zero ID is the root directory.
type ID [12]byte

// Root is the ID of the root directory of every Hypha.
var Root ID

// String returns 16 characters of unpadded base64url.
func (id ID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// ParseID reads what ID.String wrote.
func ParseID(s string) (ID, error) {
	var id ID
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(id) || len(s) != base64.RawURLEncoding.EncodedLen(len(id)) { // base64 passes over line ends
		return ID{}, errors.New("an inode id is 16 characters of base64url")
	}
	copy(id[:], b)
	return id, nil
}

// Kind is the type of an inode. The numbers are part of the record format.
type Kind uint8

// The kinds of inode.
const (
	File Kind = iota + 1
	Dir
	Symlink
	FIFO
	Socket
	CharDevice
	BlockDevice
)

// Version names one record: the feed that holds it and its block there (seq counts from 0; block 0 is the hyperdb header).
type Version struct {
	Feed hypercore.Key
	Seq  uint64
}

// Stamp is a hybrid logical clock. Ties are broken by the writer's feed key (see Less).
type Stamp struct {
	Wall    uint64 // milliseconds since 1970
	Logical uint32 // orders stamps of one millisecond
}

// Before reports whether s is the smaller stamp; writers may have equal ones.
func (s Stamp) Before(o Stamp) bool {
	return s.Wall < o.Wall || s.Wall == o.Wall && s.Logical < o.Logical
}

// Less is the total order of the merge rules: wall time, then the logical part, then the feed key, then seq.
func Less(a Stamp, av Version, b Stamp, bv Version) bool {
	switch {
	case a.Wall != b.Wall:
		return a.Wall < b.Wall
	case a.Logical != b.Logical:
		return a.Logical < b.Logical
	case av.Feed != bv.Feed:
		return string(av.Feed[:]) < string(bv.Feed[:])
	}
	return av.Seq < bv.Seq
}

// Place is where an entry stands: a name in a directory.
type Place struct {
	Dir  ID
	Name string
}

// Dirent is the record of key d/<dir id>/<name token>.
type Dirent struct {
	Name      string // 1-255 bytes, any but '/' and NUL
	Inode     ID
	Kind      Kind
	Removed   bool   // a tombstone: the name was deleted or moved away
	MovedFrom *Place // set by a rename: where the entry stood before
	MovedTo   *Place // set in the tombstone that a rename leaves
	Stamp     Stamp
	Replaces  []Version
	Unknown   []byte // fields of later versions, kept over a rewrite
}

// Inode is the record of key f/<inode id>.
type Inode struct {
	Kind                       Kind
	Mode                       uint32   // permission bits, suid, sgid, sticky: 07777
	UID, GID                   uint32   // as on the node that owns them, see Owner
	Owner                      [8]byte  // first bytes of the writer feed key of the node whose uid and gid these are
	Atime, Mtime, Ctime, Btime int64    // nanoseconds since 1970
	Size                       uint64   // bytes
	Extents                    []Extent // ascending by Block, not overlapping; what no extent covers is a hole
	Pages                      []Page   // ascending by First: in a feed, the extents are there and Extents is empty
	Target                     string   // of a symlink
	Rdev                       uint32
	Xattrs                     []Xattr // ascending by name
	Removed                    bool    // a tombstone: the last name was deleted
	Stamp                      Stamp
	Replaces                   []Version
	Unknown                    []byte // fields of later versions, kept over a rewrite
}

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// BlockSize is the plaintext size of a block of a file, in bytes. Blocks are aligned in the file; the last may be shorter.
const BlockSize = 64 << 10

// Extent is a run of blocks of a file in one content feed: block Block+i of the file is block Seq+i of Feed.
type Extent struct {
	Block uint64        // number of the first block in the file, in units of BlockSize
	Count uint64        // blocks
	Feed  hypercore.Key // content feed
	Seq   uint64
}

// Writer is the record of key n/<writer feed key in hex>: what nodes call that writer.
type Writer struct {
	Name       string
	ApprovedBy hypercore.Key // zero for the origin
	Time       int64         // nanoseconds since 1970
	Stamp      Stamp
	Replaces   []Version
	Unknown    []byte
}
