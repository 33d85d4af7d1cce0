package drive

import (
	"errors"
	"fmt"
)

// The errors FUSE acts on; everything else is an I/O error. They come wrapped with operation and name: use errors.Is.
var (
	ErrNotExist      = errors.New("no such entry")
	ErrExist         = errors.New("entry exists")
	ErrNotDir        = errors.New("not a directory")
	ErrIsDir         = errors.New("is a directory")
	ErrNotEmpty      = errors.New("directory not empty")
	ErrInvalid       = errors.New("invalid argument")
	ErrNameTooLong   = errors.New("name longer than 255 bytes")
	ErrNotAuthorised = errors.New("this node may not write yet")
	ErrNoSpace       = errors.New("no space left")
	ErrNoXattr       = errors.New("no such attribute")
	ErrTooManyLinks  = errors.New("too many links")
	ErrTooBig        = errors.New("file too large")
	ErrUnavailable   = errors.New("no peer has the content")
	ErrNoData        = errors.New("no data or hole from here on") // SEEK_DATA, SEEK_HOLE past the end
	ErrNotSupported  = errors.New("not supported")
	ErrStopped       = errors.New("writing stopped by an alarm")               // a fork or a rollback was seen
	ErrOldCopy       = errors.New("this store may be an older copy of itself") // see Config.Doubt
	ErrDamaged       = errors.New("damaged store")
	ErrCrossDevice   = errors.New("cannot be moved there, only copied")
	ErrClosed        = errors.New("drive is closed")
)

// noSuchName is ErrNotExist of a name. Every file that is made is looked for first, so the text is made only for who reads it.
type noSuchName string

func (n noSuchName) Error() string { return fmt.Sprintf("%q: %v", string(n), ErrNotExist) }

// Unwrap is ErrNotExist.
func (n noSuchName) Unwrap() error { return ErrNotExist }
