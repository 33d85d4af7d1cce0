package drive

import (
	"time"

	"hyphafs.org/hyphafs/drive/record"
)

// Conflict is a kept head of a file: a version with a change that lost against another one of the same part of the file (merge rule 1), and that nobody replaced.
type Conflict struct {
	Path    string // of the file in the drive, relative to the root
	ID      record.ID
	Version record.Version
	Node    string    // directory name of the node that wrote it: slug, dash, fingerprint; the fingerprint alone if it has no name
	Time    time.Time // of its stamp
	Size    uint64    // bytes
	Removed bool      // the kept head is a deletion
}
