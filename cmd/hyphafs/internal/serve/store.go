package serve

import (
	"context"
	"path/filepath"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/hyperdb"
	"hyphafs.org/hyphafs/replication"
)

// Feed is a feed that is kept: a *hypercore.Feed on disk, an *archive.Feed in a bucket.
type Feed interface {
	replication.Feed
	hyperdb.Log
	drive.Kept
	Have() uint64
	StoredBytes() (uint64, error)
}

// Store is where feeds are kept.
type Store interface {
	// Open opens a feed of the Hypha of source.
	Open(ctx context.Context, source, feed hypercore.Key) (Feed, error)
	// Full tells whether nothing more can be taken, of any Hypha, and how large the store is.
	Full() (limit replication.Limit, full bool)
	// OnDemand says whether Hyphas are opened when somebody asks for them, and closed when nobody does any more, instead of all at the start.
	OnDemand() bool
	// Check fails if the store can be seen not to work.
	Check(ctx context.Context) error
	// Run does what the store does in the background, until ctx ends.
	Run(ctx context.Context) error
	// Close ends the store, when Run has ended and the feeds are closed.
	Close(ctx context.Context) error
}

// disk keeps feeds in a folder: one below it for each Hypha, one below that for each feed.
type disk string

// Open implements Store.
func (d disk) Open(_ context.Context, source, feed hypercore.Key) (Feed, error) {
	dir := filepath.Join(string(d), hypercore.DiscoveryKey(source).String(), hypercore.DiscoveryKey(feed).String())
	f, err := hypercore.Open(hypercore.Dir(dir), feed, hypercore.Options{Cache: 512})
	if err != nil {
		return nil, err // not a nil *Feed that is no nil Feed
	}
	return f, nil
}

// Full implements Store: a disk says so when it is written to.
func (d disk) Full() (replication.Limit, bool) { return replication.Limit{}, false }

// OnDemand implements Store.
func (d disk) OnDemand() bool { return false }

// Check implements Store: opening a feed shows.
func (d disk) Check(context.Context) error { return nil }

// Run implements Store.
func (d disk) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// Close implements Store.
func (d disk) Close(context.Context) error { return nil }
