package replication

import (
	"context"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// Feed is what a session needs of a feed; *hypercore.Feed is one. Methods may be called from many goroutines at once.
//
// Put may return ErrFull, wrapped or not, for a block for which there is no room, if Config.Limit says from then on that the node is full: the block is dropped and the session goes on.
// NextMissing decides what is fetched in the background: a wrapper that skips blocks keeps them from being fetched. Wanted comes before that.
type Feed interface {
	Key() hypercore.Key
	DiscoveryKey() hypercore.Key
	Writable() bool
	Len() uint64
	Has(seq uint64) bool
	NextMissing(from uint64) (seq uint64, ok bool)
	Bitfield(start, length uint64) []byte
	Block(seq uint64) ([]byte, error)
	Digest(seq uint64) uint64
	Proof(seq, digest uint64, marked *hypercore.Marks, hash bool) (hypercore.Proof, error)
	Put(ctx context.Context, seq uint64, value []byte, p hypercore.Proof) error
	Wanted() []uint64
	Watch() (changed <-chan struct{}, stop func())
}

// Feeds is the set of feeds that a node replicates: those of one Hypha.
type Feeds interface {
	// Source is the key of the first feed, which names the Hypha and is the key of the stream cipher.
	Source() hypercore.Key
	// Feeds lists the authorised feeds in the order in which their channels are opened: source, its content feed, the next writer, its
	// content feed, and so on. It only grows.
	Feeds() []Feed
	// Watch returns a coalesced signal that Feeds grew.
	Watch() (changed <-chan struct{}, stop func())
	// Stored tells that blocks of f arrived and were verified. It is called once for a run of blocks, by the goroutine that reads from
	// the peer, and must not wait long.
	Stored(f Feed)
}
