package serve

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
)

// maxCandidates bounds the Hyphas that show themselves to an empty node at the same time.
const maxCandidates = 8

// adoption is the taking of the first Hypha that shows itself.
type adoption struct {
	take func(context.Context, hypercore.Key) error // keeps the Hypha from now on

	mu         sync.Mutex // guards what follows; held while take runs
	open       bool       // none was taken yet
	candidates int
}

// candidate is a peer's Hypha before it has shown itself. It is a ws.Node.
type candidate struct {
	adoption *adoption
	key      hypercore.Key
}

// errNoPlace ends the session of a candidate that is not needed.
var errNoPlace = errors.New("other Hyphas are showing themselves already")

// isOpen reports whether a Hypha may still be taken.
func (a *adoption) isOpen() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open
}

// enter and leave count the candidates.
func (a *adoption) enter() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.open || a.candidates >= maxCandidates {
		return false
	}
	a.candidates++
	return true
}

func (a *adoption) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.candidates--
}

// settle takes the Hypha of key, if no other was faster.
func (a *adoption) settle(ctx context.Context, key hypercore.Key) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.open {
		return nil
	}
	if err := a.take(ctx, key); err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	a.open = false
	return nil
}

// Serve asks the peer for one block that the key signed, adopts the Hypha if it comes, and ends the session.
func (c candidate) Serve(ctx context.Context, conn replication.Conn, opts replication.Options) error {
	if !c.adoption.enter() {
		return errors.Join(errNoPlace, conn.Close())
	}
	defer c.adoption.leave()
	feed, err := hypercore.Open(hypercore.NewMemory(), c.key, hypercore.Options{})
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	settle := sync.OnceValue(func() error { return c.adoption.settle(ctx, c.key) })
	shown := func() { // who comes again when the session ended meets the Hypha
		_ = settle() // told below
		cancel()
	}
	node, err := replication.New(replication.Config{Feeds: sample{feed, shown}})
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	err = node.Serve(inner, conn, opts)
	if feed.Have() > 0 {
		err = settle()
	}
	return errors.Join(err, feed.Close())
}

// sample is the source feed of a candidate: its first block is enough.
type sample struct {
	*hypercore.Feed
	shown func() // is called when that is here, before the session ends
}

// NextMissing keeps further blocks from being fetched.
func (sample) NextMissing(uint64) (uint64, bool) { return 0, false }

func (s sample) Source() hypercore.Key     { return s.Key() }
func (s sample) Feeds() []replication.Feed { return []replication.Feed{s} }
func (s sample) Stored(replication.Feed)   { s.shown() }
