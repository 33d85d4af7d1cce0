package archive

import (
	"context"
	"errors"
)

// Bucket is what the archive needs of an object store. Objects are written whole and read whole; a reader sees one or the other of two
// versions, never a mixture, and what was put is seen by every later get (S3 has promised both since 2020). Methods may be called from many goroutines at
// once and return soon after ctx ends. An error that is none of the four below means: not known whether it was carried out; try again.
type Bucket interface {
	// Get returns the object called name and the tag of its version. ErrNoObject; ErrUnchanged if its tag is still known, which may be empty;
	// ErrTooLarge if it has more than limit bytes.
	Get(ctx context.Context, name string, known Tag, limit int64) (body []byte, tag Tag, err error)
	// Put writes the object called name if its tag is old, or, for an empty old, if there is none. ErrChanged otherwise: also if the object is there
	// because an earlier try, of which no answer came, was carried out.
	Put(ctx context.Context, name string, body []byte, old Tag) (Tag, error)
	// Delete removes the object called name, or does nothing.
	Delete(ctx context.Context, name string) error
	// List returns the names that begin with prefix, at most limit.
	List(ctx context.Context, prefix string, limit int) ([]string, error)
	// Check tries out that all that works, and that conditions are heeded: where they are not, instances would write over each other's manifests. ErrUnusable.
	Check(ctx context.Context) error
}

// Tag names one version of an object (the ETag of S3). The empty one names none.
type Tag string

// The answers of a Bucket that the archive acts on.
var (
	ErrNoObject  = errors.New("no such object")
	ErrChanged   = errors.New("object was changed by somebody else")
	ErrUnchanged = errors.New("object has not changed")
	ErrTooLarge  = errors.New("object is too large")
)

// ErrUnusable is returned by a Bucket that answers and does not do what it is for: it is not there, it refuses, it heeds no conditions.
var ErrUnusable = errors.New("the bucket cannot be used")

// answered reports whether err is an answer of a bucket that is there.
func answered(err error) bool {
	return err == nil || errors.Is(err, ErrNoObject) || errors.Is(err, ErrChanged) || errors.Is(err, ErrUnchanged) || errors.Is(err, ErrTooLarge)
}
