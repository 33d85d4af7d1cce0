package node

import (
	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
)

// feeds shows a drive's feeds to replication.
type feeds struct{ drive *drive.Drive }

// Source is the origin's feed.
func (f feeds) Source() hypercore.Key { return f.drive.FeedSet().Source() }

// Feeds lists the feeds of the authorised writers.
func (f feeds) Feeds() []replication.Feed {
	var out []replication.Feed
	for _, feed := range f.drive.FeedSet().List() {
		out = append(out, feed)
	}
	return out
}

// Watch tells when there are more.
func (f feeds) Watch() (<-chan struct{}, func()) { return f.drive.FeedSet().Watch() }

// Stored wakes the drive.
func (f feeds) Stored(replication.Feed) { f.drive.Stored() }
