// Package replicationtest has what tests of replication need: sets of feeds in memory, nodes, and one suite that every transport passes.
package replicationtest

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
)

// Secret derives a key pair from a small number.
func Secret(n uint64) ed25519.PrivateKey {
	var seed [ed25519.SeedSize]byte
	binary.BigEndian.PutUint64(seed[:], n+1)
	return ed25519.NewKeyFromSeed(seed[:])
}

// Key is the public half of Secret(n).
func Key(n uint64) hypercore.Key {
	return hypercore.Key(Secret(n).Public().(ed25519.PublicKey))
}

// Set is a replication.Feeds in memory. The feed that was added first is the source.
type Set struct {
	mu       sync.Mutex
	feeds    []replication.Feed
	watchers map[chan struct{}]struct{}
	stored   int
}

// Source returns the key of the first feed.
func (s *Set) Source() hypercore.Key { return s.Feeds()[0].Key() }

// Feeds lists the feeds in the order in which they were added.
func (s *Set) Feeds() []replication.Feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]replication.Feed(nil), s.feeds...)
}

// Watch returns a signal that a feed was added.
func (s *Set) Watch() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers == nil {
		s.watchers = map[chan struct{}]struct{}{}
	}
	s.watchers[ch] = struct{}{}
	return ch, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, ch)
	}
}

// Stored counts its calls.
func (s *Set) Stored(replication.Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored++
}

// Calls returns how often Stored was called.
func (s *Set) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored
}

// Add adds a feed.
func (s *Set) Add(f replication.Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feeds = append(s.feeds, f)
	for ch := range s.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// Writer opens feed n to be written, in memory, with blocks appended.
func Writer(t testing.TB, n uint64, blocks ...[]byte) *hypercore.Feed {
	t.Helper()
	f := Open(t, hypercore.NewMemory(), Key(n), Secret(n))
	if len(blocks) > 0 {
		Append(t, f, blocks...)
	}
	return f
}

// Reader opens feed n to be read, in memory.
func Reader(t testing.TB, n uint64) *hypercore.Feed {
	t.Helper()
	return Open(t, hypercore.NewMemory(), Key(n), nil)
}

// Open opens a feed and closes it when the test ends.
func Open(t testing.TB, st hypercore.Storage, key hypercore.Key, secret ed25519.PrivateKey) *hypercore.Feed {
	t.Helper()
	f, err := hypercore.Open(st, key, hypercore.Options{Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// Append appends blocks in one batch.
func Append(t testing.TB, f *hypercore.Feed, blocks ...[]byte) {
	t.Helper()
	if _, err := f.Append(context.Background(), blocks); err != nil {
		t.Fatal(err)
	}
}

// Blocks makes count blocks of size bytes that differ.
func Blocks(count, size int) [][]byte {
	out := make([][]byte, count)
	for i := range out {
		out[i] = make([]byte, max(size, 8))
		binary.BigEndian.PutUint64(out[i], uint64(i)+1)
	}
	return out
}

// Node makes a node over a new Set of the feeds.
func Node(t testing.TB, cfg replication.Config, feeds ...replication.Feed) (*replication.Node, *Set) {
	t.Helper()
	set := &Set{}
	for _, f := range feeds {
		set.Add(f)
	}
	cfg.Feeds = set
	n, err := replication.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n, set
}

// Connector makes a connection: the dialling end and the accepting end.
type Connector func(t testing.TB) (dialler, accepter replication.Conn)

// Link is a running connection of two nodes.
type Link struct {
	// A and B end with what the sessions returned, the dialling one first. They are closed after.
	A, B chan error
	cut  context.CancelFunc
	done sync.WaitGroup
}

// Connect lets a dial b. The link is cut when the test ends.
func Connect(t testing.TB, connect Connector, a, b *replication.Node) *Link {
	t.Helper()
	ca, cb := connect(t)
	ctx, cancel := context.WithCancel(context.Background())
	l := &Link{A: make(chan error, 1), B: make(chan error, 1), cut: cancel}
	l.done.Go(func() {
		l.A <- a.Serve(ctx, ca, replication.Options{Dialled: true, URL: "test://b", Kind: "test"})
		close(l.A)
	})
	l.done.Go(func() { l.B <- b.Serve(ctx, cb, replication.Options{URL: "test://a", Kind: "test"}); close(l.B) })
	t.Cleanup(l.Cut)
	return l
}

// Cut ends both sessions and waits for that.
func (l *Link) Cut() {
	l.cut()
	l.done.Wait()
}

// Wait waits until f holds the blocks below length, all of them.
func Wait(t testing.TB, f *hypercore.Feed, length uint64) {
	t.Helper()
	changed, stop := f.Watch()
	defer stop()
	for f.Len() < length || f.Have() < length {
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("test ended")
		case <-deadline(t):
			t.Fatalf("feed has %d of %d blocks, wanted %d", f.Have(), f.Len(), length)
		}
	}
}

// Pipe is a Connector in memory, with a buffer for each direction.
func Pipe(testing.TB) (dialler, accepter replication.Conn) {
	ab, ba := newBuffer(), newBuffer()
	return &end{ba, ab}, &end{ab, ba}
}

// end is one end of a Pipe.
type end struct{ in, out *buffer }

func (e *end) Read(p []byte) (int, error)  { return e.in.read(p) }
func (e *end) Write(p []byte) (int, error) { return e.out.write(p) }
func (e *end) Close() error {
	e.in.close()
	e.out.close()
	return nil
}

const bufferSize = 256 << 10

// buffer is one direction of a Pipe: at most bufferSize bytes that were written and not read.
type buffer struct {
	mu      sync.Mutex
	changed *sync.Cond
	b       []byte
	closed  bool
}

func newBuffer() *buffer {
	b := &buffer{}
	b.changed = sync.NewCond(&b.mu)
	return b
}

var errClosed = errors.New("pipe is closed")

func (b *buffer) read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.b) == 0 && !b.closed {
		b.changed.Wait()
	}
	if len(b.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.b)
	b.b = b.b[:copy(b.b, b.b[n:])]
	b.changed.Broadcast()
	return n, nil
}

func (b *buffer) write(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(p) > 0 {
		for len(b.b) >= bufferSize && !b.closed {
			b.changed.Wait()
		}
		if b.closed {
			return n, errClosed
		}
		k := min(len(p), bufferSize-len(b.b))
		b.b = append(b.b, p[:k]...)
		p, n = p[k:], n+k
		b.changed.Broadcast()
	}
	return n, nil
}

func (b *buffer) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.changed.Broadcast()
}

// WaitHave waits until f holds block seq.
func WaitHave(t testing.TB, f *hypercore.Feed, seq uint64) {
	t.Helper()
	changed, stop := f.Watch()
	defer stop()
	for !f.Has(seq) {
		select {
		case <-changed:
		case <-deadline(t):
			t.Fatalf("feed has %d of %d blocks, not %d", f.Have(), f.Len(), seq)
		}
	}
}
