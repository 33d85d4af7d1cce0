package drive

import (
	"context"
	"crypto/ed25519"
	"errors"
	"sync"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/hyperdb"
)

// FeedSet is the feeds of a drive.
type FeedSet = Set[*hypercore.Feed]

// Kept is what a Set needs of a feed.
type Kept interface {
	Sync(ctx context.Context) error
	Close() error
}

// Set is the feeds of a Hypha, wherever F keeps them: those of the authorised writers are replicated. A drive has one; a node that only keeps feeds for others makes its own.
type Set[F Kept] struct {
	source  hypercore.Key
	open    func(key hypercore.Key, secret ed25519.PrivateKey) (F, error)
	secrets map[hypercore.Key]ed25519.PrivateKey // set before use

	opening sync.Mutex // one feed is opened at a time; taken before mu

	mu       sync.Mutex // guards what follows
	feeds    map[hypercore.Key]F
	writers  []hyperdb.Writer
	watchers map[chan struct{}]struct{}
}

// NewFeedSet makes the set of the Hypha of source. open opens a feed, at its first Get.
func NewFeedSet[F Kept](source hypercore.Key, open func(key hypercore.Key) (F, error)) *Set[F] {
	return newFeedSet(source, func(key hypercore.Key, _ ed25519.PrivateKey) (F, error) { return open(key) })
}

func newFeedSet[F Kept](source hypercore.Key, open func(hypercore.Key, ed25519.PrivateKey) (F, error)) *Set[F] {
	return &Set[F]{source: source, open: open, feeds: map[hypercore.Key]F{}}
}

// Source is the key of the origin's feed.
func (s *Set[F]) Source() hypercore.Key { return s.source }

// List returns the feeds of the authorised writers: source, its content feed, the next writer, its content feed, and so on. It only grows,
// but a content feed that becomes known late stands where it belongs. The caller owns the slice.
func (s *Set[F]) List() []F {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []F
	for _, w := range s.writers {
		for _, k := range []hypercore.Key{w.Key, w.Content} {
			if f, ok := s.feeds[k]; ok {
				out = append(out, f)
			}
		}
	}
	return out
}

// Watch returns a coalesced signal that List grew; stop ends it.
func (s *Set[F]) Watch() (changed <-chan struct{}, stop func()) {
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

// Get returns the feed with key, opening it at the first call.
func (s *Set[F]) Get(key hypercore.Key) (F, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.mu.Lock()
	f, ok := s.feeds[key]
	s.mu.Unlock()
	if ok {
		return f, nil
	}
	f, err := s.open(key, s.secrets[key])
	if err != nil {
		return f, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feeds[key] = f
	return f, nil
}

// Add takes up what the database says of a writer. The writer's feed is listed if it was opened.
func (s *Set[F]) Add(w hyperdb.Writer) {
	if !w.Content.IsZero() {
		if _, err := s.Get(w.Content); err != nil {
			w.Content = hypercore.Key{} // its blocks stay missing, which reading them reports
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := false
	for i := range s.writers {
		if s.writers[i].Key == w.Key {
			s.writers[i], found = w, true
		}
	}
	if !found {
		s.writers = append(s.writers, w)
	}
	for ch := range s.watchers {
		select {
		case ch <- struct{}{}:
		default: // it has not looked since the last one
		}
	}
}

// All returns every open feed, in no order.
func (s *Set[F]) All() []F {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]F, 0, len(s.feeds))
	for _, f := range s.feeds {
		out = append(out, f)
	}
	return out
}

// Sync makes downloads durable.
func (s *Set[F]) Sync(ctx context.Context) (err error) {
	for _, f := range s.All() {
		err = errors.Join(err, f.Sync(ctx))
	}
	return err
}

// Close closes every feed.
func (s *Set[F]) Close() (err error) {
	for _, f := range s.All() {
		err = errors.Join(err, f.Close())
	}
	return err
}
