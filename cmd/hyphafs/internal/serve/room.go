package serve

import (
	"context"
	"fmt"
	"sync"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
)

// room is how many bytes of blocks a Hypha may have.
type room struct {
	max uint64 // 0: no bound

	mu   sync.Mutex // guards what follows; held over nothing
	used uint64
	full bool // a block was refused
}

// take takes n bytes if they are there. The first refusal is for good: a Hypha that stores the small blocks and not the large ones would look whole and not be.
func (r *room) take(n uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.max > 0 && (r.full || r.used+n > r.max) {
		r.full = true
		return false
	}
	r.used += n
	return true
}

// give gives n bytes back.
func (r *room) give(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= n
}

// set says how many bytes are taken.
func (r *room) set(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used = n
}

// limit says how much there may be and is, and whether that is all.
func (r *room) limit() (replication.Limit, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return replication.Limit{Max: r.max, Used: r.used}, r.full
}

// kept is a feed as its peers see it: what they send is stored as long as there is room.
type kept struct {
	Feed
	room *room
}

// Unkept makes a replication.Keeper of it: on disk, what is stored is kept.
func (k kept) Unkept(start, length uint64) []byte {
	if keeper, ok := k.Feed.(replication.Keeper); ok {
		return keeper.Unkept(start, length)
	}
	return nil
}

// Put stores a block, or returns replication.ErrFull.
func (k kept) Put(ctx context.Context, seq uint64, value []byte, p hypercore.Proof) error {
	n := uint64(len(value))
	if k.Has(seq) {
		n = 0
	}
	if !k.room.take(n) {
		return fmt.Errorf("block %d of %d bytes: %w", seq, n, replication.ErrFull)
	}
	err := k.Feed.Put(ctx, seq, value, p)
	if err != nil {
		k.room.give(n)
	}
	return err
}
