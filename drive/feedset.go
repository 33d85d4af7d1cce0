package drive

import (
	"context"
	"crypto/ed25519"
	"errors"
	"sync"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/hyperdb"
)

// FeedSet is the feeds of a Hypha: those of the authorised writers are replicated. A drive has one; a node that only keeps feeds for others makes its own.
type FeedSet struct {
	source  hypercore.Key
	open    func(key hypercore.Key, secret ed25519.PrivateKey) (*hypercore.Feed, error)
	secrets map[hypercore.Key]ed25519.PrivateKey // set before use

	opening sync.Mutex // one feed is opened at a time; taken before mu

	mu       sync.Mutex // guards what follows
	feeds    map[hypercore.Key]*hypercore.Feed
	writers  []hyperdb.Writer
	watchers map[chan struct{}]struct{}
}

// NewFeedSet makes the set of the Hypha of source. open opens a feed, at its first Get.
func NewFeedSet(source hypercore.Key, open func(key hypercore.Key) (*hypercore.Feed, error)) *FeedSet {
	return newFeedSet(source, func(key hypercore.Key, _ ed25519.PrivateKey) (*hypercore.Feed, error) { return open(key) })
}

func newFeedSet(source hypercore.Key, open func(hypercore.Key, ed25519.PrivateKey) (*hypercore.Feed, error)) *FeedSet {
	return &FeedSet{source: source, open: open, feeds: map[hypercore.Key]*hypercore.Feed{}}
}

// Source is the key of the origin's feed.
func (s *FeedSet) Source() hypercore.Key { return s.source }

// List returns the feeds of the authorised writers: source, its content feed, the next writer, its content feed, and so on. It only grows,
// but a content feed that becomes known late stands where it belongs. The caller owns the slice.
func (s *FeedSet) List() []*hypercore.Feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*hypercore.Feed
	for _, w := range s.writers {
		for _, k := range []hypercore.Key{w.Key, w.Content} {
			if f := s.feeds[k]; f != nil {
				out = append(out, f)
			}
		}
	}
	return out
}

// Watch returns a coalesced signal that List grew; stop ends it.
func (s *FeedSet) Watch() (changed <-chan struct{}, stop func()) {
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
func (s *FeedSet) Get(key hypercore.Key) (*hypercore.Feed, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.mu.Lock()
	f := s.feeds[key]
	s.mu.Unlock()
	if f != nil {
		return f, nil
	}
	f, err := s.open(key, s.secrets[key])
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feeds[key] = f
	return f, nil
}

// Add takes up what the database says of a writer. The writer's feed is listed if it was opened.
func (s *FeedSet) Add(w hyperdb.Writer) {
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
func (s *FeedSet) All() []*hypercore.Feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*hypercore.Feed, 0, len(s.feeds))
	for _, f := range s.feeds {
		out = append(out, f)
	}
	return out
}

// Sync makes downloads durable.
func (s *FeedSet) Sync(ctx context.Context) (err error) {
	for _, f := range s.All() {
		err = errors.Join(err, f.Sync(ctx))
	}
	return err
}

// Close closes every feed.
func (s *FeedSet) Close() (err error) {
	for _, f := range s.All() {
		err = errors.Join(err, f.Close())
	}
	return err
}
