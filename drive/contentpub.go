package drive

import (
	"cmp"
	"context"
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
func (d *Drive) publishContent(ctx context.Context, due map[record.ID]*candidate) error {
	p := &pieces{d: d}
	for _, c := range due {
		err := ctx.Err()
		if err == nil {
			err = p.file(ctx, c)
		}
		if err != nil {
			p.putBack()
			return err
		}
	}
	return p.flush(ctx)
}

// file takes all unpublished blocks of one candidate. One that is written faster than it is read is left for later.
func (p *pieces) file(ctx context.Context, c *candidate) error {
	in := c.in
	for range 1 << 20 {
		in.mu.Lock()
		if in.gone || in.unpublished.count() == 0 {
			c.take()
			in.mu.Unlock()
			return nil
		}
		r := in.unpublished[0]
		r.end = min(r.end, r.first+contentBatch/blockSize)
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
	in.rec.Extents = addPresent(in.rec.Extents, extents, in.present)
	if c.ready {
		c.rec.Extents = addPresent(c.rec.Extents, extents, c.present)
	}
	p.d.recount(in)
}

// addPresent adds the parts of more whose blocks are in present.
func addPresent(extents, more []record.Extent, present blockset) []record.Extent {
	var here []record.Extent
	for _, e := range more {
		absent := present.missing(run{e.Block, e.Block + e.Count})
		here = append(here, cutAll([]record.Extent{e}, absent)...)
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
		if in.present.has(n) {
			in.unpublished.add(run{n, n + 1})
		}
	}
}
