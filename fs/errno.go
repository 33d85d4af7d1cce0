package fs

import (
	"context"
	"errors"
	"syscall"

	"hyphafs.org/hyphafs/drive"
)

// errnos is the whole meaning of errors to the kernel. A change on a node that may not write is EROFS, not EACCES or
// EPERM: the file's mode would allow it, a root shell may not either, and every program knows how to say it; a node whose writing
// was stopped by an alarm is the same to programs, and .hypha/status tells persons the difference.
var errnos = []struct {
	err   error
	errno syscall.Errno
}{
	{drive.ErrNotExist, syscall.ENOENT},
	{drive.ErrExist, syscall.EEXIST},
	{drive.ErrNotDir, syscall.ENOTDIR},
	{drive.ErrIsDir, syscall.EISDIR},
	{drive.ErrNotEmpty, syscall.ENOTEMPTY},
	{drive.ErrInvalid, syscall.EINVAL},
	{drive.ErrNameTooLong, syscall.ENAMETOOLONG},
	{drive.ErrNotAuthorised, syscall.EROFS},
	{drive.ErrNoSpace, syscall.ENOSPC},
	{drive.ErrNoXattr, syscall.ENODATA},
	{drive.ErrTooManyLinks, syscall.EMLINK},
	{drive.ErrTooBig, syscall.EFBIG},
	{drive.ErrUnavailable, syscall.EIO},
	{drive.ErrNoData, syscall.ENXIO},
	{drive.ErrNotSupported, syscall.EOPNOTSUPP},
	{drive.ErrStopped, syscall.EROFS},
	{drive.ErrOldCopy, syscall.EROFS},
	{drive.ErrDamaged, syscall.EIO},
	{drive.ErrClosed, syscall.EIO},
	{drive.ErrCrossDevice, syscall.EXDEV},
	{ErrAnswered, syscall.EALREADY},
	{context.Canceled, syscall.EINTR},
}

// errno turns an error into what the caller of the system call gets. What ends as EIO is logged here, once, with the path.
func (t *tree) errno(err error, op string, path func() string) syscall.Errno {
	if err == nil {
		return 0
	}
	errno := errnoOf(err)
	if errno == syscall.EIO {
		t.log.Warn("input or output failed", "op", op, "path", path(), "err", err)
	}
	return errno
}

// errnoOf is the table, then an errno inside err (a full disk under the state directory, say), then EIO.
func errnoOf(err error) syscall.Errno {
	for _, e := range errnos {
		if errors.Is(err, e.err) {
			return e.errno
		}
	}
	var errno syscall.Errno
	if errors.As(err, &errno) && (errno == syscall.ENOSPC || errno == syscall.EDQUOT || errno == syscall.EFBIG) {
		return errno
	}
	return syscall.EIO
}
