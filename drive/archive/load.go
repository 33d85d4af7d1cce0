package archive

import (
	"context"
	"errors"
	"fmt"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// load is one reading of a pack, for everybody who wants a block of it.
type load struct {
	done chan struct{}
	err  error // set before done is closed
}

// load reads a pack into the cache. A pack that is not there or is damaged counts as bad from then on: its blocks are missing until peers deliver them.
func (f *Feed) load(ctx context.Context, p pack) error {
	f.mu.Lock()
	l := f.loads[p.id]
	if l != nil {
		f.mu.Unlock()
		select {
		case <-l.done:
			return l.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l = &load{done: make(chan struct{})}
	if f.loads == nil {
		f.loads = map[packID]*load{}
	}
	f.loads[p.id] = l
	f.mu.Unlock()
	l.err = f.loadOnce(ctx, p)
	f.mu.Lock()
	delete(f.loads, p.id)
	f.mu.Unlock()
	close(l.done)
	f.tell()
	return l.err
}

func (f *Feed) loadOnce(ctx context.Context, p pack) error {
	_, err := f.fetch(ctx, p)
	if errors.Is(err, ErrNoObject) { // merged with others since we looked?
		f.committing.Lock()
		err = errors.Join(err, f.refresh(ctx))
		listed := f.manifest.lists(p.id)
		f.committing.Unlock()
		if !listed {
			return nil // the caller looks for the place again
		}
	}
	var fork *hypercore.ForkError
	switch {
	case err == nil:
		f.store.loaded(f)
		return nil
	case errors.As(err, &fork):
		f.alert(fork)
		f.spoil(p)
		f.store.fresh(f, true)
	case errors.Is(err, ErrFormat), errors.Is(err, hypercore.ErrBadProof), errors.Is(err, ErrTooLarge), errors.Is(err, ErrNoObject) && !errors.Is(err, ErrAway):
		f.store.cfg.Log.Error("a pack in the bucket is damaged or missing: its blocks have to come from peers again", "feed", f.name, "pack", p.id.String(), "err", f.words(err))
		f.spoil(p)
	}
	return err
}

// fetch reads a pack into the cache and returns the blocks that are there now.
func (f *Feed) fetch(ctx context.Context, p pack) (runs, error) {
	s := f.store
	select {
	case s.gets <- struct{}{}:
		defer func() { <-s.gets }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var body []byte
	err := s.request(ctx, int(p.size), func(ctx context.Context) (err error) {
		body, _, err = s.cfg.Bucket.Get(ctx, f.packName(p.id), "", int64(p.size))
		return err
	})
	if err != nil {
		return nil, err
	}
	taken, err := unpack(ctx, f.local, body)
	if err == nil && len(p.blocks.without(taken)) > 0 {
		err = fmt.Errorf("pack lacks blocks that the manifest says it has: %w", ErrFormat)
	}
	return taken, err
}

// spoil makes the blocks of a pack count as not in the bucket.
func (f *Feed) spoil(p pack) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bad == nil {
		f.bad = map[packID]struct{}{}
	}
	f.bad[p.id] = struct{}{}
	f.reindex()
}
