package hypercore

import (
	"errors"
	"fmt"
)

// The errors that callers act on.
var (
	ErrNotStored   = errors.New("block is not stored")
	ErrNotWritable = errors.New("feed has no secret key here")
	ErrBadProof    = errors.New("bad proof")
	ErrFork        = errors.New("two signed histories")
	ErrTooLong     = errors.New("block longer than 8 MiB")
	ErrDamaged     = errors.New("damaged feed")
	ErrBroken      = errors.New("an earlier write failed: open the feed again")
	ErrClosed      = errors.New("feed is closed")
)

// ForkError is the evidence of an ErrFork: two heads with good signatures that contradict each other.
type ForkError struct {
	Feed         Key
	Ours, Theirs Head
}

// Error says which feed and which lengths.
func (e *ForkError) Error() string {
	return fmt.Sprintf("feed %s: signed twice, at length %d and at length %d", e.Feed, e.Ours.Length, e.Theirs.Length)
}

// Unwrap makes errors.Is(err, ErrFork) hold.
func (e *ForkError) Unwrap() error { return ErrFork }
