package archive

import (
	"context"
	"errors"
	"sync"
	"time"
)

const workers = 4 // feeds that Run works on at once

// Run brings what is put into the bucket, looks for what other instances stored, merges packs and keeps the cache small, until ctx ends. What was put last may then not be in
// the bucket: Flush brings it there.
func (s *Store) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	free := make(chan struct{}, workers)
	tasks.Go(func() { s.adoptCache(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.kick:
		case <-timer.C:
		}
		for {
			e, f := s.next(time.Now())
			if f == nil {
				break
			}
			select {
			case free <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			tasks.Go(func() {
				s.work(ctx, e, f)
				<-free
				s.wake()
			})
		}
		if err := s.evict(ctx); err != nil {
			s.cfg.Log.Error("the cache cannot be made smaller", "err", err)
		}
		timer.Reset(s.idle(time.Now()))
	}
}

// adoptCache opens what an earlier run left in the cache, so that the bucket gets what it has not.
func (s *Store) adoptCache(ctx context.Context) {
	s.mu.Lock()
	var found []*entry
	for _, e := range s.entries {
		if e.feed == nil && !e.clean {
			found = append(found, e)
		}
	}
	s.mu.Unlock()
	for _, e := range found {
		f, err := s.feed(ctx, e.key, false)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			s.cfg.Log.Error("a feed in the cache cannot be opened", "err", err)
		}
	}
}

// next chooses a feed that something is to be done for, and marks it.
func (s *Store) next(now time.Time) (*entry, *Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if e.feed == nil || e.busy {
			continue
		}
		if !e.due.IsZero() && !e.due.After(now) || e.users > 0 && !e.poll.After(now) {
			e.busy = true
			return e, e.feed
		}
	}
	return nil, nil
}

// idle is how long nothing is to be done.
func (s *Store) idle(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := time.Minute
	for _, e := range s.entries {
		if e.feed == nil || e.busy {
			continue
		}
		if !e.due.IsZero() {
			wait = min(wait, e.due.Sub(now))
		}
		if e.users > 0 {
			wait = min(wait, e.poll.Sub(now))
		}
	}
	return max(wait, time.Millisecond)
}

// work commits what is fresh and looks at the bucket.
func (s *Store) work(ctx context.Context, e *entry, f *Feed) {
	defer f.tell()
	before := f.generation()
	err := f.commitOrRefresh(ctx)
	f.again(err)
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrAway) && !errors.Is(err, ErrUnusable) { // of those health tells, once
		s.cfg.Log.Warn("a feed cannot be brought into the bucket", "feed", f.name, "err", f.words(err))
	}
	used := usage(f.dir)
	left := f.unkept()
	now := time.Now()
	s.mu.Lock()
	e.busy, e.usage = false, used
	e.due = time.Time{}
	if err != nil {
		e.failed++
		if left {
			e.due = now.Add(max(backoff(e.failed), s.health.wait()))
		}
	} else {
		e.failed = 0
		if left {
			e.due = now.Add(s.cfg.Delay)
		}
	}
	e.every = min(2*e.every, s.cfg.PollMax)
	if f.generation() != before {
		e.every = s.cfg.PollMin
	}
	e.poll = now.Add(e.every)
	if err := s.closeIdle(e); err != nil {
		s.cfg.Log.Error("a feed cannot be closed", "feed", f.name, "err", f.words(err))
	}
}

// commitOrRefresh brings the bucket what it has not, or looks at what it has.
func (f *Feed) commitOrRefresh(ctx context.Context) error {
	if f.unkept() {
		if err := f.commit(ctx); err != nil {
			return err
		}
		return f.compact(ctx)
	}
	f.committing.Lock()
	defer f.committing.Unlock()
	return f.refresh(ctx)
}

// generation returns that of the manifest that is known.
func (f *Feed) generation() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.manifest.generation
}

// again tells of everything the bucket has when it can be read from after that was hidden.
func (f *Feed) again(err error) {
	if err != nil || !f.refused.Swap(false) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.news = append(f.news, f.kept...)
}
