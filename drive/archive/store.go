package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// Config of Open.
type Config struct {
	Bucket Bucket
	// Dir is the folder of the cache. It belongs to one Store at a time, which is the caller's matter.
	Dir string
	// CacheBytes is how much disk the cache may take; 0 means 10 GiB. What the bucket does not have yet is never evicted: when there is more of it,
	// feeds ask for no further blocks.
	CacheBytes int64
	// Delay is how long a block waits for company before it goes to the bucket; 0 means 1 s.
	Delay time.Duration
	// Timeout bounds one request; 0 means 10 s.
	Timeout time.Duration
	// PollMin and PollMax bound how often an open feed looks for what other instances stored; 0 means 2 s and 15 s.
	PollMin, PollMax time.Duration
	// OnKept is told of blocks of f that are in the bucket now and were not, as far as was known: ours that were stored, and those of other
	// instances. No lock is held. It must not wait long, and may not close f.
	OnKept func(f *Feed, from, to uint64)
	// OnFork is told when the bucket and this node have contradicting histories of a feed. No lock is held.
	OnFork func(f *Feed, fork *hypercore.ForkError)
	Log    *slog.Logger
}

// Store keeps feeds in a bucket. All methods may be called from many goroutines at once.
type Store struct {
	cfg      Config
	lifetime context.Context // of reads, whose callers have no context
	end      context.CancelFunc
	kick     chan struct{} // cap 1: Run has to look
	gets     chan struct{} // cap: packs being read at once, each a few MiB of memory
	health   health

	checking sync.Mutex // one check at a time; taken before mu and after committing, held over requests
	checked  bool       // guarded by checking: the bucket can be used

	mu      sync.Mutex // guards what follows; taken after nothing, held over no request
	closed  bool
	entries map[string]*entry // by name of the feed
	full    bool              // the cache is full of what the bucket does not have
}

// entry is a feed that is open or has something in the cache. Its fields are guarded by Store.mu.
type entry struct {
	key    hypercore.Key
	feed   *Feed         // nil: not open
	ready  chan struct{} // closed when feed was opened, closed or evicted, or could not be; nil: none of that goes on
	users  int
	clean  bool      // closed, and the bucket has every block
	usage  int64     // bytes in the cache
	used   time.Time // when it was closed
	busy   bool      // Run works on it
	due    time.Time // when Run has to look at it for blocks; zero: there are none
	poll   time.Time // when Run has to look at the bucket
	every  time.Duration
	failed int // tries in a row
}

// Open opens a store. Reads end when ctx does. The bucket is not asked.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg.CacheBytes = defaultTo(cfg.CacheBytes, 10<<30)
	cfg.Delay = defaultTo(cfg.Delay, time.Second)
	cfg.Timeout = defaultTo(cfg.Timeout, 10*time.Second)
	cfg.PollMin = defaultTo(cfg.PollMin, 2*time.Second)
	cfg.PollMax = max(cfg.PollMin, defaultTo(cfg.PollMax, 15*time.Second))
	if err := hypercore.MakeDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("cache of the store: %w", err)
	}
	s := &Store{cfg: cfg, kick: make(chan struct{}, 1), gets: make(chan struct{}, 4), entries: map[string]*entry{}}
	s.health.log = cfg.Log
	s.lifetime, s.end = context.WithCancel(ctx)
	return s, s.scan()
}

func defaultTo[T int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// scan takes up what the cache has.
func (s *Store) scan() error {
	names, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("cache of the store: %w", err)
	}
	for _, d := range names {
		dir := filepath.Join(s.cfg.Dir, d.Name())
		n, err := readNote(dir)
		if err != nil || hypercore.DiscoveryKey(n.key).String() != d.Name() {
			continue // taken up when somebody opens it
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("cache of the store: %w", err)
		}
		s.entries[d.Name()] = &entry{key: n.key, usage: usage(dir), used: info.ModTime()}
	}
	return nil
}

// Feed opens the feed with key; Close of the feed gives it back. What the cache and the bucket have of it is there at once, blocks are read when they are asked for. With
// the bucket away it shows what the cache knows.
func (s *Store) Feed(ctx context.Context, key hypercore.Key) (*Feed, error) {
	return s.feed(ctx, key, true)
}

// feed is Feed; ask says whether the bucket is asked first if the cache knows what it had.
func (s *Store) feed(ctx context.Context, key hypercore.Key, ask bool) (*Feed, error) {
	name := hypercore.DiscoveryKey(key).String()
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, hypercore.ErrClosed
		}
		e := s.entries[name]
		if e == nil {
			e = &entry{key: key}
			s.entries[name] = e
		}
		switch {
		case e.feed != nil:
			e.users++
			s.mu.Unlock()
			return e.feed, nil
		case e.ready == nil:
			e.ready = make(chan struct{})
			s.mu.Unlock()
			return s.open(ctx, e, name, ask)
		}
		ready := e.ready
		s.mu.Unlock()
		select { // another goroutine opens it, or closes it
		case <-ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// open opens the feed of e, for which ready was made.
func (s *Store) open(ctx context.Context, e *entry, name string, ask bool) (*Feed, error) {
	f, err := openFeed(ctx, s, e.key, name, ask)
	s.mu.Lock()
	if err == nil && s.closed {
		err = errors.Join(hypercore.ErrClosed, f.local.Close())
	}
	close(e.ready)
	e.ready = nil
	if err != nil {
		s.mu.Unlock()
		return nil, fmt.Errorf("open feed %s: %w", e.key, err)
	}
	now := time.Now()
	e.feed, e.users, e.clean, e.failed = f, 1, false, 0
	e.usage, e.every, e.poll = usage(f.dir), s.cfg.PollMin, now.Add(s.cfg.PollMin)
	if f.unkept() {
		e.due = now.Add(s.cfg.Delay)
	}
	s.mu.Unlock()
	s.wake()
	f.mu.Lock()
	f.news = nil // who opens it sees all that
	f.mu.Unlock()
	f.tell()
	return f, nil
}

// release gives back one use of f. The last one closes it, unless the bucket lacks blocks of it: then Run does when it has them.
func (s *Store) release(f *Feed) error {
	s.mu.Lock()
	e := s.entries[f.name]
	e.users--
	return s.closeIdle(e)
}

// closeIdle closes the feed of e if nobody needs it any more. Called with mu held, which it gives up.
func (s *Store) closeIdle(e *entry) error {
	f := e.feed
	if f == nil || e.users > 0 || e.busy || f.unkept() {
		s.mu.Unlock()
		return nil
	}
	e.feed, e.ready, e.due = nil, make(chan struct{}), time.Time{}
	s.mu.Unlock()
	err := f.closeLocal(context.WithoutCancel(s.lifetime))
	used := usage(f.dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.clean, e.usage, e.used = err == nil, used, time.Now()
	close(e.ready)
	e.ready = nil
	return err
}

// wake makes Run look.
func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default: // it has not looked since the last one
	}
}

// fresh tells that f has blocks that the bucket has not; now: more than enough for a pack.
func (s *Store) fresh(f *Feed, now bool) {
	s.mu.Lock()
	e := s.entries[f.name]
	first := e.due.IsZero()
	if first {
		e.due = time.Now().Add(s.cfg.Delay)
	}
	if now && e.failed == 0 {
		e.due = time.Now()
	}
	s.mu.Unlock()
	if first || now {
		s.wake()
	}
}

// Check tries the bucket out, unless that was done before. ErrUnusable if it says no, ErrAway if it says nothing. Nothing is written without.
func (s *Store) Check(ctx context.Context) error {
	s.checking.Lock()
	defer s.checking.Unlock()
	if s.checked {
		return nil
	}
	err := s.request(ctx, 0, s.cfg.Bucket.Check)
	s.checked = err == nil
	return err
}

// Flush returns when the bucket has every block that was stored before.
func (s *Store) Flush(ctx context.Context) error {
	var err error
	for _, f := range s.opened() {
		err = errors.Join(err, f.Flush(ctx))
	}
	return err
}

// opened returns the open feeds.
func (s *Store) opened() (open []*Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if e.feed != nil {
			open = append(open, e.feed)
		}
	}
	return open
}

// Close closes every feed. What the bucket does not have goes there at the next start, if the cache is still there. Run must have ended. It is idempotent.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	var err error
	for _, f := range s.opened() {
		err = errors.Join(err, f.closeLocal(ctx))
	}
	return err
}

// Full reports whether the cache has no room for more that the bucket does not have.
func (s *Store) Full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full
}

// Status is what an operator wants to know.
type Status struct {
	Open   int           // feeds
	Unkept uint64        // blocks of open feeds that are not in the bucket
	Cache  int64         // bytes on disk
	Full   bool          // the cache is full of blocks that are not in the bucket: nothing more is taken
	Away   time.Duration // since when the bucket does not answer; 0: it does
}

// Status tells how things stand.
func (s *Store) Status() Status {
	st := Status{Away: s.health.away()}
	for _, f := range s.opened() {
		st.Open++
		st.Unkept += f.waiting()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Full = s.full
	for _, e := range s.entries {
		st.Cache += e.usage
	}
	return st
}
