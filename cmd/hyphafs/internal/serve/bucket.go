package serve

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/drive/archive"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
)

// bucket keeps feeds in an object store, with a folder as a cache (package archive).
type bucket struct {
	archive *archive.Store
	max     uint64 // bytes of the cache
	log     *slog.Logger
	kept    func(source, feed hypercore.Key, from, to uint64) // what is to be done when blocks are in the bucket

	mu      sync.Mutex                      // guards what follows; held over nothing
	sources map[hypercore.Key]hypercore.Key // of which Hypha a feed is
}

// openBucket opens a store over the bucket with its cache in dir. kept is called for blocks that are in the bucket now, those of other instances among them.
func openBucket(ctx context.Context, over archive.Bucket, dir string, cache uint64, log *slog.Logger, kept func(source, feed hypercore.Key, from, to uint64)) (*bucket, error) {
	b := &bucket{max: cache, log: log, kept: kept, sources: map[hypercore.Key]hypercore.Key{}}
	var err error
	b.archive, err = archive.Open(ctx, archive.Config{Bucket: over, Dir: dir, CacheBytes: int64(cache), Log: log, OnKept: b.onKept, OnFork: b.onFork})
	return b, err
}

// Open implements Store.
func (b *bucket) Open(ctx context.Context, source, feed hypercore.Key) (Feed, error) {
	b.mu.Lock()
	b.sources[feed] = source
	b.mu.Unlock()
	f, err := b.archive.Feed(ctx, feed)
	if err != nil {
		return nil, err // not a nil *Feed that is no nil Feed
	}
	return f, nil
}

func (b *bucket) onKept(f *archive.Feed, from, to uint64) {
	b.mu.Lock()
	source, ok := b.sources[f.Key()]
	b.mu.Unlock()
	if ok {
		b.kept(source, f.Key(), from, to)
	}
}

func (b *bucket) onFork(f *archive.Feed, fork *hypercore.ForkError) {
	b.log.Error("a writer signed two histories, and instances have one each; the bucket keeps the first", "feed", f.Key(), "err", fork)
}

// Full implements Store.
func (b *bucket) Full() (replication.Limit, bool) {
	return replication.Limit{Max: b.max, Used: b.max}, b.archive.Full()
}

// OnDemand implements Store: there may be thousands.
func (b *bucket) OnDemand() bool { return true }

// Run implements Store.
func (b *bucket) Run(ctx context.Context) error { return b.archive.Run(ctx) }

// Close brings what the bucket lacks there, while there is time.
func (b *bucket) Close(ctx context.Context) error {
	soon := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var done context.CancelFunc
		soon, done = context.WithDeadline(ctx, deadline.Add(-time.Second))
		defer done()
	}
	if err := b.archive.Flush(soon); err != nil {
		b.log.Warn("blocks stay in the cache alone until the next start", "blocks", b.archive.Status().Unkept, "err", err)
	}
	return b.archive.Close(ctx)
}

// checkTime bounds how long a node that starts waits for its bucket.
const checkTime = 5 * time.Second

// Check implements Store. A bucket that says no ends the start; one that does not answer is waited for while the node runs.
func (b *bucket) Check(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, checkTime)
	defer done()
	err := b.archive.Check(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, archive.ErrUnusable):
		return fault.New(fault.Failed, "see to the bucket, its policy and the credentials", "%w", err)
	}
	return nil // the archive logs it
}
