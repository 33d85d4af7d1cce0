package archive

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
)

const (
	manifestName = "manifest"
	packsFolder  = "packs"
	maxPending   = 8 // packs that one new manifest adds
)

// errStale is returned when packs were named before the manifest's floor: they may have been deleted.
var errStale = errors.New("packs took too long to be listed")

// slowest is the number of bytes that a second more is given for.
const slowest = 512 << 10

// request makes one request of the bucket that carries about size bytes.
func (s *Store) request(ctx context.Context, size int, do func(ctx context.Context) error) error {
	return s.health.try(ctx, s.cfg.Timeout+time.Duration(size/slowest)*time.Second, do)
}

func (f *Feed) packName(id packID) string { return f.name + "/" + packsFolder + "/" + id.String() }

// commit brings every block that is in the cache alone into the bucket: first into packs, then into the manifest, then it tells.
func (f *Feed) commit(ctx context.Context) error {
	f.committing.Lock()
	defer f.committing.Unlock()
	if err := f.store.Check(ctx); err != nil {
		return f.failed(err)
	}
	if !f.asked {
		if err := f.refresh(ctx); err != nil {
			return f.failed(err)
		}
	}
	if f.Forked() != nil {
		return f.failed(f.keepFork(ctx))
	}
	for {
		if err := f.local.Sync(ctx); err != nil {
			return f.failed(err)
		}
		err := f.pack(ctx)
		if err == nil && len(f.pending) == 0 {
			return nil
		}
		if err == nil {
			err = f.list(ctx, f.pending, nil)
		}
		switch {
		case errors.Is(err, errStale): // once more, under new names
		case err != nil:
			return f.failed(err)
		}
		f.pending = nil
	}
}

// failed says whose commit failed.
func (f *Feed) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("keep feed %s: %w", f.name, err)
}

// pack puts packs of fresh blocks into the bucket until there are enough for one manifest. Called with committing held.
func (f *Feed) pack(ctx context.Context) error {
	for len(f.pending) < maxPending {
		f.mu.Lock()
		todo := slices.Clone(f.fresh)
		f.size = 0
		f.mu.Unlock()
		for _, p := range f.pending {
			todo = todo.without(p.blocks)
		}
		if len(todo) == 0 {
			return nil
		}
		p, err := f.put(ctx, todo)
		if err != nil {
			return err
		}
		f.pending = append(f.pending, p)
	}
	return nil
}

// put makes a pack of the first blocks of todo, which the cache has, and puts it into the bucket. Called with committing held.
func (f *Feed) put(ctx context.Context, todo runs) (pack, error) {
	p, err := newPacking(f.local)
	if err != nil {
		return pack{}, err
	}
	if err := p.fill(ctx, todo); err != nil {
		return pack{}, err
	}
	body := encodePack(f.DiscoveryKey(), p.records)
	id := packID{f.manifest.generation, rand.Uint64()}
	err = f.store.request(ctx, len(body), func(ctx context.Context) error {
		_, err := f.store.cfg.Bucket.Put(ctx, f.packName(id), body, "")
		return err
	})
	if err != nil && !errors.Is(err, ErrChanged) { // nobody else has that name: an earlier try was carried out
		return pack{}, err
	}
	return pack{id, uint64(len(body)), p.blocks}, nil
}

// fill takes blocks of todo until the pack is full.
func (p *packing) fill(ctx context.Context, todo runs) error {
	for _, r := range todo {
		for seq := r.from; seq < r.to; seq++ {
			value, err := p.from.Block(seq)
			if err != nil {
				return err
			}
			if p.full(len(value)) {
				return nil
			}
			if err := p.add(ctx, seq, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// list makes a new version of the manifest that has the packs add and not those called drop. If somebody else was faster it looks at theirs, and puts its own change
// on top. What is in theirs already is not added. Called with committing held.
func (f *Feed) list(ctx context.Context, add []pack, drop []packID) error {
	for try := 0; ; try++ {
		base := f.manifest
		add = slices.DeleteFunc(slices.Clone(add), func(p pack) bool { return base.lists(p.id) }) // an earlier try, of which no answer came, was carried out
		if slices.ContainsFunc(add, func(p pack) bool { return p.id.generation < base.floor }) {
			return errStale
		}
		if !base.covers(add, drop) {
			return f.discard(ctx, add) // somebody else merged them
		}
		if len(drop) == 0 {
			add = f.discardKept(ctx, add)
		}
		if len(add)+len(drop) == 0 {
			return nil
		}
		roots, signature := f.local.Roots()
		next := base.with(add, drop, roots, signature)
		if len(drop) > 0 {
			next.floor, next.compacted = base.compacted, next.generation
		}
		err := f.replace(ctx, next)
		if !errors.Is(err, ErrChanged) {
			return err
		}
		if err := sleep(ctx, backoff(min(try, 4))-50*time.Millisecond); err != nil {
			return err
		}
		if err := f.refresh(ctx); err != nil {
			return err
		}
		if fork := f.Forked(); fork != nil {
			return fork
		}
	}
}

// replace puts next in the place of the manifest that is known. Called with committing held.
func (f *Feed) replace(ctx context.Context, next *manifest) error {
	tag, err := f.putManifest(ctx, next, f.tag)
	if err == nil {
		f.install(next, tag)
	}
	return err
}

// putManifest puts m in the place of the one whose tag is old.
func (f *Feed) putManifest(ctx context.Context, m *manifest, old Tag) (tag Tag, err error) {
	body := m.encode(f.DiscoveryKey())
	if len(body) > maxManifest {
		return "", fmt.Errorf("manifest of %d bytes: %w", len(body), ErrTooLarge)
	}
	err = f.store.request(ctx, len(body), func(ctx context.Context) (err error) {
		tag, err = f.store.cfg.Bucket.Put(ctx, f.name+"/"+manifestName, body, old)
		return err
	})
	return tag, err
}

// install adopts m and notes it in the cache. Called with committing held.
func (f *Feed) install(m *manifest, tag Tag) {
	f.mu.Lock()
	f.adopt(m, tag)
	f.mu.Unlock()
	if err := writeNote(f.dir, note{f.Key(), tag, m}); err != nil {
		f.store.cfg.Log.Warn("what the bucket has cannot be noted in the cache", "feed", f.name, "err", err) // the bucket says it again
	}
}

// discardKept deletes those of our packs whose blocks the bucket has from somebody else, and returns the others. Called with committing held, on a manifest that
// does not list them: then no earlier try to list them can come true any more.
func (f *Feed) discardKept(ctx context.Context, add []pack) (others []pack) {
	f.mu.RLock()
	kept := f.kept
	f.mu.RUnlock()
	for _, p := range add {
		if len(p.blocks.without(kept)) > 0 {
			others = append(others, p)
		} else if err := f.discard(ctx, []pack{p}); err != nil {
			f.store.cfg.Log.Debug("a pack that is not needed stays in the bucket", "feed", f.name, "err", err) // until the next sweep
		}
	}
	return others
}

// discard deletes packs that are not listed.
func (f *Feed) discard(ctx context.Context, packs []pack) error {
	var failed error
	for _, p := range packs {
		failed = errors.Join(failed, f.delete(ctx, p.id))
	}
	return failed
}

func (f *Feed) delete(ctx context.Context, id packID) error {
	return f.store.request(ctx, 0, func(ctx context.Context) error { return f.store.cfg.Bucket.Delete(ctx, f.packName(id)) })
}

// current gets the manifest from the bucket, unless its tag is still known. Nil if there is none.
func (f *Feed) current(ctx context.Context, known Tag) (m *manifest, tag Tag, err error) {
	var body []byte
	err = f.store.request(ctx, 0, func(ctx context.Context) (err error) {
		body, tag, err = f.store.cfg.Bucket.Get(ctx, f.name+"/"+manifestName, known, maxManifest)
		return err
	})
	if errors.Is(err, ErrNoObject) {
		return nil, "", nil
	} else if err != nil {
		return nil, "", err
	}
	m, err = decodeManifest(body, f.DiscoveryKey())
	return m, tag, err
}

// refresh takes up what the bucket says of the feed, if it is of the history that is known here. hypercore.ErrFork if not. Called with committing held.
func (f *Feed) refresh(ctx context.Context) error {
	m, tag, err := f.current(ctx, f.tag)
	switch {
	case errors.Is(err, ErrUnchanged):
		f.asked = true
		return nil
	case err != nil:
		return err
	case m == nil:
		f.lost()
		f.asked = true
		return nil
	case m.generation < f.manifest.generation:
		f.store.cfg.Log.Error("the bucket has an older manifest than before: was it restored?", "feed", f.name)
		m.generation = f.manifest.generation // so that the one after it is like no other
	}
	if err := f.compare(ctx, m); err != nil {
		return err
	}
	f.asked = true
	f.install(m, tag)
	return nil
}

// lost begins anew when the bucket has no manifest. Called with committing held.
func (f *Feed) lost() {
	if f.tag == "" {
		return
	}
	f.store.cfg.Log.Error("the bucket has lost what it had of a feed: what the cache has is stored again", "feed", f.name)
	f.install(&manifest{generation: f.manifest.generation}, "")
}

// compare makes the length that m reaches known here, if it is of our history. Called with committing held.
func (f *Feed) compare(ctx context.Context, m *manifest) error {
	if m.fork != nil && f.manifest.fork == nil {
		if !f.proves(m.fork) {
			return fmt.Errorf("the fork that the manifest tells of is none: %w", ErrFormat)
		}
		f.alert(&hypercore.ForkError{Feed: f.Key(), Ours: m.fork[0], Theirs: m.fork[1]})
	}
	if len(m.roots) == 0 {
		return nil
	}
	length := f.local.Len()
	err := f.local.PutHead(ctx, m.roots, m.signature)
	if err == nil {
		err = f.link(ctx, m, length)
	}
	var fork *hypercore.ForkError
	if errors.As(err, &fork) {
		f.alert(fork)
	}
	if errors.Is(err, hypercore.ErrBadProof) {
		return fmt.Errorf("manifest: %w: %w", ErrFormat, err)
	}
	return err
}

// link reads the first block behind length, which was the feed's here, if m has it and the cache has something: all that the length stood on takes part in its
// proof, so that another history shows. If it cannot be read that is found out later: nothing is taken from the bucket without a proof. Called with
// committing held.
func (f *Feed) link(ctx context.Context, m *manifest, length uint64) error {
	if f.local.Have() == 0 {
		return nil
	}
	for _, p := range m.packs {
		if !p.blocks.has(length) {
			continue
		}
		if _, err := f.fetch(ctx, p); errors.Is(err, hypercore.ErrFork) {
			return err
		}
		return nil
	}
	return nil
}

// proves reports whether the writer signed both heads.
func (f *Feed) proves(heads *[2]hypercore.Head) bool {
	key := f.Key()
	for _, h := range heads {
		if !ed25519.Verify(key[:], h.TreeHash[:], h.Signature[:]) {
			return false
		}
	}
	return heads[0].TreeHash != heads[1].TreeHash
}

// alert notes a fork to be told.
func (f *Feed) alert(fork *hypercore.ForkError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.alarm == nil {
		f.alarm = fork
		f.store.cfg.Log.Error("feed was signed twice", "feed", f.name, "ours", fork.Ours.Length, "theirs", fork.Theirs.Length)
	}
}

// keepFork writes the evidence of a fork into the manifest, whichever history that is of. Nothing goes into the bucket from then on. Called with committing held.
func (f *Feed) keepFork(ctx context.Context) error {
	for !f.isEvident() {
		m, tag, err := f.current(ctx, "")
		if err != nil {
			return err
		}
		if m == nil {
			m = &manifest{generation: f.manifest.generation}
		}
		if m.fork == nil {
			fork := f.Forked()
			next := m.with(nil, nil, nil, nil)
			next.fork = &[2]hypercore.Head{fork.Ours, fork.Theirs}
			_, err = f.putManifest(ctx, next, tag)
		}
		if errors.Is(err, ErrChanged) {
			continue
		} else if err != nil {
			return err
		}
		f.mu.Lock()
		f.evident = true
		f.mu.Unlock()
	}
	if err := f.discard(ctx, f.pending); err != nil {
		return err
	}
	f.pending = nil
	return nil
}

func (f *Feed) isEvident() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.evident || f.manifest.fork != nil
}

// sleep waits.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
