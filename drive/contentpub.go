package drive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"hyphafs.org/hyphafs/drive/record"
)

// contentBatch bounds the bytes of one append to the content feed.
const contentBatch = 4 << 20

// sealing is one block on its way into the content feed.
type sealing struct {
	cand *candidate
	n    uint64
}

// pieces is one append being made.
type pieces struct {
	d      *Drive
	blocks [][]byte
	of     []sealing
	bytes  int
	plain  []byte // of the file at hand
}

// publishContent puts the unpublished bytes of the candidates into the content feed and completes their records. A file that is being
// written is taken at an instant at which every byte of it was read.
//
// A file a patched block of which cannot be read any more is taken out of due, and unread says why: the others need not wait for it.
func (d *Drive) publishContent(ctx context.Context, due map[record.ID]*candidate) (unread, err error) {
	p := &pieces{d: d}
	for _, c := range inOrder(due) {
		err := ctx.Err()
		if err == nil {
			err = p.file(ctx, c)
		}
		if errors.Is(err, errUnread) && ctx.Err() == nil {
			c.in.mu.Lock()
			c.in.unread = true
			c.in.mu.Unlock()
			unread = errors.Join(unread, err)
			delete(due, c.in.id)
			continue
		}
		if err != nil {
			p.putBack()
			return nil, err
		}
	}
	return unread, p.flush(ctx)
}

// file takes all unpublished blocks of one candidate. One that is written faster than it is read is left for later.
func (p *pieces) file(ctx context.Context, c *candidate) error {
	in := c.in
	for range 1 << 20 {
		in.mu.Lock()
		if in.whole() != nil { // lost meanwhile; the candidate does not get ready
			in.mu.Unlock()
			return nil
		}
		if in.gone || in.unpublished.count() == 0 {
			c.take()
			in.mu.Unlock()
			return nil
		}
		r := in.unpublished[0]
		if !in.present.has(r.first) {
			in.mu.Unlock()
			if err := p.patched(ctx, c, r.first); err != nil {
				return err
			}
			continue
		}
		whole, _ := in.present.from(r.first)
		r.end = min(r.end, whole.end, r.first+contentBatch/blockSize)
		size := min(r.end<<blockShift, in.rec.Size) - r.first<<blockShift
		p.plain = slices.Grow(p.plain[:0], int(size))[:size]
		plain := p.plain
		k, err := in.backing.ReadAt(plain, int64(r.first<<blockShift))
		if k == len(plain) {
			err = nil
		}
		if err == nil {
			in.unpublished.remove(r)
		}
		in.mu.Unlock()
		if err != nil {
			return fmt.Errorf("read the workspace: %w", err)
		}
		for n := r.first; n < r.end; n++ {
			at := (n - r.first) << blockShift
			if err := p.block(ctx, c, n, plain[at:min(at+blockSize, uint64(len(plain)))]); err != nil {
				in.putBack(run{n, r.end})
				return err
			}
		}
	}
	return nil
}

// patched takes block n of a candidate, of which the backing file has pages only.
func (p *pieces) patched(ctx context.Context, c *candidate, n uint64) error {
	plain, err := p.d.wholeBlock(ctx, c.in, n)
	if err != nil || plain == nil {
		return err
	}
	if err := p.block(ctx, c, n, plain); err != nil {
		c.in.putBack(run{n, n + 1})
		return err
	}
	return nil
}

func (p *pieces) block(ctx context.Context, c *candidate, n uint64, plain []byte) error {
	sealed, err := p.d.cfg.Keys.SealBlock(p.d.bytes.Key(), c.in.id, n, plain)
	if err != nil {
		return err
	}
	p.blocks = append(p.blocks, sealed)
	p.of = append(p.of, sealing{c, n})
	if p.bytes += len(sealed); p.bytes < contentBatch {
		return nil
	}
	return p.flush(ctx)
}

// flush appends what was collected, durably, and notes where it stands.
func (p *pieces) flush(ctx context.Context) error {
	if len(p.blocks) == 0 {
		return nil
	}
	first, err := p.d.bytes.Append(ctx, p.blocks)
	if err != nil {
		p.putBack()
		return noSpace(err)
	}
	placed := map[*candidate][]record.Extent{}
	for i, at := range p.of {
		placed[at.cand] = append(placed[at.cand], record.Extent{Block: at.n, Count: 1, Feed: p.d.bytes.Key(), Seq: first + uint64(i)})
	}
	for c, extents := range placed {
		p.place(c, extents)
	}
	p.blocks, p.of, p.bytes = nil, nil, 0
	return nil
}

// place notes in the inode, and in the candidate's copy if that was taken already, where blocks stand; of two that are the same the later one counts. What was cut off
// meanwhile stays a hole.
func (p *pieces) place(c *candidate, blocks []record.Extent) {
	slices.SortFunc(blocks, func(a, b record.Extent) int { return cmp.Or(cmp.Compare(a.Block, b.Block), cmp.Compare(a.Seq, b.Seq)) })
	var extents []record.Extent
	for i, e := range blocks {
		if i+1 == len(blocks) || blocks[i+1].Block != e.Block {
			extents = appendExtent(extents, e)
		}
	}
	in := c.in
	in.mu.Lock()
	defer in.mu.Unlock()
	in.rec.Extents = addBut(in.rec.Extents, extents, in.heldNot)
	if c.ready {
		c.rec.Extents = addBut(c.rec.Extents, extents, c.present.missing)
	}
	p.d.recount(in)
}

// addBut adds the parts of more whose blocks are not absent.
func addBut(extents, more []record.Extent, absent func(run) []run) []record.Extent {
	var here []record.Extent
	for _, e := range more {
		here = append(here, cutAll([]record.Extent{e}, absent(run{e.Block, e.Block + e.Count}))...)
	}
	return addExtents(extents, here)
}

func cutAll(extents []record.Extent, runs []run) []record.Extent {
	for _, r := range runs {
		extents = cutExtents(extents, r)
	}
	return extents
}

// putBack makes the blocks that were collected unpublished again.
func (p *pieces) putBack() {
	for _, at := range p.of {
		at.cand.in.putBack(run{at.n, at.n + 1})
	}
	p.blocks, p.of, p.bytes = nil, nil, 0
}

// putBack makes blocks unpublished again that were not cut off meanwhile.
func (in *inode) putBack(r run) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for n := r.first; n < r.end; n++ {
		if in.present.has(n) || in.patchedIn(n) {
			in.unpublished.add(run{n, n + 1})
		}
	}
}
