package drive

import (
	"crypto/ed25519"
	"io"
	"log/slog"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
)

// Config of Open. What has a default may be left zero.
type Config struct {
	// Feeds returns the storage of a feed; name is its discovery key in hex.
	Feeds func(name string) hypercore.Storage
	// View keeps the fold. The drive owns it from Open on, also when Open fails.
	View view.KV
	// Spare makes an empty store that need not last, for a second view while one checks; default in memory, of which a million files take more than a gigabyte.
	Spare func() (view.KV, error)
	// Work is the space for what is not published yet; nil on a node that never writes files.
	Work Workspace
	Keys *record.Keys // content keys; must outlive the drive
	// Local seals what stays on this node.
	Local  [32]byte
	Source hypercore.Key // the origin's feed: the database
	// Writer is the secret key of this node's own feed; the source's on the origin, nil on a node without one.
	Writer ed25519.PrivateKey
	// Name is what this node is called; the origin puts it into the database.
	Name string
	// Changed is told what peers changed, by the goroutine of Run, no lock held.
	Changed func([]Change)
	// Authorised is told once, when this node may write from now on.
	Authorised func()
	// Doubt, if not empty, says why the store may be an older copy of itself: nothing is written (ErrOldCopy) until peers told the end of this node's own feeds (End).
	Doubt string
	// Confirmed is told by the goroutine of Run when they did.
	Confirmed func()

	Now         func() time.Time // default time.Now
	Rand        io.Reader        // default crypto/rand
	Log         *slog.Logger     // default: discard
	Quiet       time.Duration    // publish this long after the last change; default 1 s
	Overdue     time.Duration    // and at the latest this long after the first; default 10 s
	BlockCache  int              // bytes of plain blocks kept; default 32 MiB
	ReadTimeout time.Duration    // wait for a block that is not here; default 30 s
	// Scratch lists patterns (path.Match) of names that stay on this node; default DefaultScratch.
	Scratch []string
}

// DefaultScratch are the names that programs give to files that are nobody else's business. A desktop's trash (.Trash-<uid>) is none of them: moving a file there is one
// rename, and desktops that get ErrCrossDevice offer to delete for good instead of copying.
var DefaultScratch = []string{".*.sw?", ".#*", ".~lock.*#", ".goutputstream-*"}
