package archive

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
)

const (
	fanIn      = 8       // packs of about one size that are merged
	sweepEvery = 64      // merges of an open feed between two looks for garbage
	maxListed  = 1 << 17 // names that one look takes
)

// compact merges small packs, so that a feed that grows by a few blocks at a time has few objects: at most about fanIn of each size, sizes being 8 times apart, and
// one for each packTarget/2 bytes. It also leaves out packs whose blocks are all in others, and looks for garbage now and then.
func (f *Feed) compact(ctx context.Context) error {
	f.committing.Lock()
	defer f.committing.Unlock()
	if f.Forked() != nil || !f.asked {
		return nil
	}
	chosen := f.mergeable()
	drop := f.redundant()
	if len(chosen)+len(drop) == 0 {
		return nil
	}
	var todo runs
	for _, p := range chosen {
		if slices.Contains(drop, p.id) {
			continue
		}
		if _, err := f.fetchMissing(ctx, p); err != nil {
			return fmt.Errorf("merge packs of feed %s: %w", f.name, err)
		}
		for _, r := range p.blocks {
			todo.add(r)
		}
		drop = append(drop, p.id)
	}
	var merged []pack
	for len(todo) > 0 {
		p, err := f.put(ctx, todo)
		if err != nil {
			return fmt.Errorf("merge packs of feed %s: %w", f.name, err)
		}
		merged = append(merged, p)
		todo = todo.without(p.blocks)
	}
	if err := f.list(ctx, merged, drop); err != nil {
		return fmt.Errorf("merge packs of feed %s: %w", f.name, err)
	}
	for _, id := range drop {
		if f.manifest.lists(id) {
			continue // somebody else was faster, and chose others
		}
		if err := f.delete(ctx, id); err != nil {
			return fmt.Errorf("delete a merged pack of feed %s: %w", f.name, err)
		}
	}
	f.merges++
	if f.merges%sweepEvery == 1 {
		return f.sweep(ctx)
	}
	return nil
}

// fetchMissing reads a pack into the cache if it is not all there.
func (f *Feed) fetchMissing(ctx context.Context, p pack) (runs, error) {
	for _, r := range p.blocks {
		for seq := r.from; seq < r.to; seq++ {
			if !f.local.Has(seq) {
				return f.fetch(ctx, p)
			}
		}
	}
	return p.blocks, nil
}

// mergeable chooses fanIn or more packs of about one size that fit into one, or none. Called with committing held.
func (f *Feed) mergeable() []pack {
	sizes := map[int][]pack{}
	for _, p := range f.manifest.packs {
		if p.size > packTarget/2 || f.isBad(p.id) {
			continue
		}
		class := bits.Len64(p.size) / 3
		sizes[class] = append(sizes[class], p)
	}
	for _, packs := range sizes {
		if len(packs) < fanIn {
			continue
		}
		total := uint64(0)
		for i, p := range packs {
			if total += p.size; total > packTarget {
				packs = packs[:i]
				break
			}
		}
		if len(packs) > 1 {
			return packs
		}
	}
	return nil
}

func (f *Feed) isBad(id packID) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	_, bad := f.bad[id]
	return bad
}

// redundant lists packs none of whose blocks would be read from them, since others have them. Called with committing held.
func (f *Feed) redundant() (drop []packID) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	needed := map[int]bool{}
	for _, p := range f.places {
		needed[p.pack] = true
	}
	for i, p := range f.manifest.packs {
		if !needed[i] && len(p.blocks.without(f.kept)) == 0 {
			drop = append(drop, p.id)
		}
	}
	return drop
}

// sweep deletes packs that no manifest lists and none will: what was left by instances that were killed. Called with committing held.
func (f *Feed) sweep(ctx context.Context) error {
	prefix := f.name + "/" + packsFolder + "/"
	var names []string
	err := f.store.request(ctx, 0, func(ctx context.Context) (err error) {
		names, err = f.store.cfg.Bucket.List(ctx, prefix, maxListed)
		return err
	})
	if err != nil {
		return fmt.Errorf("look for garbage of feed %s: %w", f.name, err)
	}
	for _, name := range names {
		id, ok := parsePackID(name[len(prefix):])
		if !ok || id.generation >= f.manifest.floor || f.manifest.lists(id) {
			continue
		}
		if err := f.delete(ctx, id); err != nil {
			return fmt.Errorf("delete garbage of feed %s: %w", f.name, err)
		}
	}
	return nil
}
