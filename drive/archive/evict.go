package archive

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// loaded tells that a pack came into the cache.
func (s *Store) loaded(f *Feed) {
	used := usage(f.dir)
	s.mu.Lock()
	e := s.entries[f.name]
	e.usage = used
	over := s.used() > s.cfg.CacheBytes
	s.mu.Unlock()
	if over {
		s.wake()
	}
}

// used returns the size of the cache, in bytes. Called with mu held.
func (s *Store) used() (n int64) {
	for _, e := range s.entries {
		n += e.usage
	}
	return n
}

// evict makes the cache smaller if it is too large, down to nine tenths: feeds that are closed go first, those that were used longest ago, then packs of open ones. What the bucket does
// not have stays. Called by Run alone.
func (s *Store) evict(ctx context.Context) error {
	s.mu.Lock()
	used := s.used()
	s.mu.Unlock()
	if used <= s.cfg.CacheBytes {
		s.setFull(false)
		return nil
	}
	target := s.cfg.CacheBytes / 10 * 9
	used, err := s.evictClosed(used, target)
	if err == nil && used > target {
		used, err = s.evictPacks(ctx, used, target)
	}
	s.setFull(used > s.cfg.CacheBytes)
	return err
}

func (s *Store) setFull(full bool) {
	s.mu.Lock()
	changed := s.full != full
	s.full = full
	s.mu.Unlock()
	if changed && full {
		s.cfg.Log.Error("the cache is full of what the bucket does not have: nothing more is asked for", "bytes", s.cfg.CacheBytes)
	} else if changed {
		s.cfg.Log.Info("the cache has room again")
	}
}

// evictClosed removes closed feeds from the cache until target is reached.
func (s *Store) evictClosed(used, target int64) (int64, error) {
	s.mu.Lock()
	type victim struct {
		name string
		e    *entry
	}
	var victims []victim
	for name, e := range s.entries {
		if e.clean && e.feed == nil && e.ready == nil {
			victims = append(victims, victim{name, e})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(victims, func(a, b victim) int { return a.e.used.Compare(b.e.used) })
	for _, v := range victims {
		if used <= target {
			break
		}
		s.mu.Lock()
		if v.e.feed != nil || v.e.ready != nil { // opened since
			s.mu.Unlock()
			continue
		}
		v.e.ready = make(chan struct{}) // who opens it now waits
		s.mu.Unlock()
		err := os.RemoveAll(filepath.Join(s.cfg.Dir, v.name))
		s.mu.Lock()
		if err == nil {
			used -= v.e.usage
			v.e.usage = 0
			delete(s.entries, v.name)
		}
		close(v.e.ready)
		v.e.ready = nil
		s.mu.Unlock()
		if err != nil {
			return used, fmt.Errorf("evict feed %s: %w", v.name, err)
		}
	}
	return used, nil
}

// evictPacks clears the blocks of packs that were read longest ago until target is reached.
func (s *Store) evictPacks(ctx context.Context, used, target int64) (int64, error) {
	type victim struct {
		f  *Feed
		p  pack
		at time.Time
	}
	var victims []victim
	for _, f := range s.opened() {
		f.mu.RLock()
		for _, p := range f.manifest.packs {
			if _, bad := f.bad[p.id]; !bad {
				victims = append(victims, victim{f, p, f.touched[p.id]})
			}
		}
		f.mu.RUnlock()
	}
	slices.SortStableFunc(victims, func(a, b victim) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.p.id.generation, b.p.id.generation))
	})
	for _, v := range victims {
		if used <= target {
			break
		}
		freed, err := v.f.clear(ctx, v.p)
		if err != nil {
			return used, err
		}
		used -= freed
	}
	return used, nil
}

// clear drops the blocks of a pack from the cache and returns how many bytes that gave.
func (f *Feed) clear(ctx context.Context, p pack) (int64, error) {
	there := false
	for _, r := range p.blocks {
		last, ok := f.local.LastStored(r.to)
		there = there || ok && last >= r.from
	}
	if !there {
		return 0, nil
	}
	before := usage(f.dir)
	f.mu.Lock()
	delete(f.touched, p.id)
	kept := f.kept
	f.mu.Unlock()
	for _, r := range p.blocks {
		if len(runs{r}.without(kept)) > 0 {
			continue // the pack was found to be bad
		}
		if err := f.local.Clear(ctx, r.from, r.to); err != nil {
			return 0, fmt.Errorf("evict from feed %s: %w", f.name, err)
		}
	}
	now := usage(f.dir)
	f.store.mu.Lock()
	f.store.entries[f.name].usage = now
	f.store.mu.Unlock()
	return before - now, nil
}
