package drive

import "context"

// File is an open handle on a regular file.
type File struct{}

// Attr returns the inode's attributes, also after its last name is gone.
func (f *File) Attr(ctx context.Context) (Attr, error) { return Attr{}, ErrNotSupported }

// SetAttr is Drive.SetAttr on an open, perhaps unlinked, inode.
func (f *File) SetAttr(ctx context.Context, change AttrChange) (Attr, error) {
	return Attr{}, ErrNotSupported
}

// ReadAt reads up to len(p) bytes from off. It returns fewer only at the end of the file, and then no error.
func (f *File) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return 0, ErrNotSupported
}

// WriteAt writes all of p at off; past the end the gap is a hole. killPriv clears suid and sgid.
func (f *File) WriteAt(ctx context.Context, p []byte, off int64, killPriv bool) (int, error) {
	return 0, ErrNotSupported
}

// Append writes p at the end, atomically against other writers of this node.
func (f *File) Append(ctx context.Context, p []byte, killPriv bool) (int, error) {
	return 0, ErrNotSupported
}

// Allocate is fallocate(2) with the mode bits of Linux: 0, KEEP_SIZE 1, PUNCH_HOLE 2, COLLAPSE_RANGE 8, ZERO_RANGE 16, INSERT_RANGE 32.
func (f *File) Allocate(ctx context.Context, mode uint32, off, length int64) error {
	return ErrNotSupported
}

// SeekData returns the offset of the next data (hole false) or hole (hole true) at or behind off; ErrNoData past the end.
func (f *File) SeekData(ctx context.Context, off int64, hole bool) (int64, error) {
	return 0, ErrNotSupported
}

// Sync makes the file durable on this node (fsync, fdatasync).
func (f *File) Sync(ctx context.Context, dataOnly bool) error { return ErrNotSupported }

// Close releases the handle. It is idempotent.
func (f *File) Close() error { return ErrNotSupported }
