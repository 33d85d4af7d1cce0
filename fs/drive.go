package fs

import (
	"context"
	"errors"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/record"
)

// Namespace is what the mount needs of a drive besides open files. Every method may be called from many goroutines at
// once; errors are drive's sentinels, wrapped. Methods that change anything fail with drive.ErrNotAuthorised before they
// touch anything while Writable is false.
type Namespace interface {
	// Writable reports whether this node may write. It can turn true at any time.
	Writable() bool
	Lookup(ctx context.Context, dir record.ID, name string) (drive.Attr, error)
	// Attr also answers for an inode without a name, until it is forgotten; its Nlink is 0 then.
	Attr(ctx context.Context, id record.ID) (drive.Attr, error)
	SetAttr(ctx context.Context, id record.ID, change drive.AttrChange) (drive.Attr, error)
	// ReadDir returns a snapshot, ascending by name. The caller owns it.
	ReadDir(ctx context.Context, dir record.ID) ([]drive.DirEntry, error)
	// EntryAttrs is Lookup of entries that ReadDir returned; the attributes of what is gone are zero. The caller owns the slice.
	EntryAttrs(ctx context.Context, dir record.ID, entries []drive.DirEntry) ([]drive.Attr, error)
	// Make creates an entry; drive.ErrExist if the name is taken.
	Make(ctx context.Context, dir record.ID, name string, what drive.NewInode) (drive.Attr, error)
	Link(ctx context.Context, id, dir record.ID, name string) (drive.Attr, error)
	// Remove is unlink and rmdir: directory says which. Open files keep working.
	Remove(ctx context.Context, dir record.ID, name string, directory bool) error
	Rename(ctx context.Context, dir record.ID, name string, toDir record.ID, toName string, flags drive.RenameFlags) error
	Readlink(ctx context.Context, id record.ID) (string, error)
	Xattr(ctx context.Context, id record.ID, name string) ([]byte, error)
	Xattrs(ctx context.Context, id record.ID) ([]string, error)
	// SetXattr takes the flags of setxattr(2): 1 create, 2 replace.
	SetXattr(ctx context.Context, id record.ID, name string, value []byte, flags uint32) error
	RemoveXattr(ctx context.Context, id record.ID, name string) error
	// Forget says that the kernel no longer knows id. An inode without names and without open handles ends with it.
	Forget(id record.ID)
	// SyncDir makes all changes of names so far durable (fsync of a directory).
	SyncDir(ctx context.Context, dir record.ID) error
	Statfs(ctx context.Context) (drive.Statfs, error)
	// Conflicts lists the kept heads; Keep makes one the file's content, Drop ends it.
	Conflicts(ctx context.Context) ([]drive.Conflict, error)
	KeepConflict(ctx context.Context, c drive.Conflict) error
	DropConflict(ctx context.Context, c drive.Conflict) error
}

// Drive is a Namespace that opens files.
type Drive interface {
	Namespace
	// Open returns a handle on a regular file. The inode lives until the last handle is closed and Forget was called, also
	// when its last name is gone.
	Open(ctx context.Context, id record.ID, write bool) (File, error)
	OpenConflict(ctx context.Context, c drive.Conflict) (File, error)
}

// File is an open handle on a regular file; *drive.File is one, and its comments hold. Safe for concurrent use.
type File interface {
	Attr(ctx context.Context) (drive.Attr, error)
	SetAttr(ctx context.Context, change drive.AttrChange) (drive.Attr, error)
	// Read returns bytes in p, and done is nil, or one byte at least in memory that is the drive's again when done is called.
	Read(ctx context.Context, p []byte, off int64) (b []byte, done func(), err error)
	WriteAt(ctx context.Context, p []byte, off int64, killPriv bool) (int, error)
	Append(ctx context.Context, p []byte, killPriv bool) (at int64, err error)
	Privileged() bool
	Allocate(ctx context.Context, mode uint32, off, length int64) error
	SeekData(ctx context.Context, off int64, hole bool) (int64, error)
	Sync(ctx context.Context, dataOnly bool) error
	// Whole returns the bytes of a small file to whoever has it open alone, if they are at hand; nil otherwise. The caller owns them.
	Whole() ([]byte, error)
	Close() error
}

var _ File = (*drive.File)(nil)

// Opener is how *drive.Drive opens files: with its own concrete type.
type Opener interface {
	Namespace
	Open(ctx context.Context, id record.ID, write bool) (*drive.File, error)
	OpenConflict(ctx context.Context, c drive.Conflict) (*drive.File, error)
}

// Adapt makes a Drive of a *drive.Drive.
func Adapt(d Opener) Drive { return opener{d, d} }

type opener struct {
	Namespace
	files Opener
}

func (o opener) Open(ctx context.Context, id record.ID, write bool) (File, error) {
	f, err := o.files.Open(ctx, id, write)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (o opener) OpenConflict(ctx context.Context, c drive.Conflict) (File, error) {
	f, err := o.files.OpenConflict(ctx, c)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Request is one open request for authorisation as the pending directory shows it.
type Request struct {
	Dir   string // name of its directory: slug, dash, fingerprint
	Words string // six words and a newline
	JSON  []byte // request.json
}

// ErrAnswered says that a request was approved or denied before. The caller gets EALREADY.
var ErrAnswered = errors.New("request is answered already")

// Pending is what the pending directory needs. Errors: ErrAnswered (EALREADY), drive.ErrNotExist (ENOENT),
// drive.ErrNotAuthorised (EROFS).
type Pending interface {
	Requests() []Request
	// Approve returns when the authorisation is durable in the local feed.
	Approve(ctx context.Context, dir string) error
	Deny(ctx context.Context, dir string) error
}

// Control gives the texts of the other control files. Called at each open; the caller owns the bytes.
type Control interface {
	Status() []byte     // as `hyphafs status` prints it
	StatusJSON() []byte // as `hyphafs status --json` prints it
	Link() []byte       // the hyphalink and a newline
	// Nodes maps the directory name of each writer (slug, dash, fingerprint) to its text.
	Nodes() map[string][]byte
}
