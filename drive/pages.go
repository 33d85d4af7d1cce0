package drive

import (
	"context"
	"fmt"
	"slices"

	"hyphafs.org/hyphafs/drive/hyperdb"
	"hyphafs.org/hyphafs/drive/record"
)

// A file in many pieces would have a large record, of which each change writes all, and at last one that no feed takes. So beyond maxInline extents they stand in pages,
// records of their own, of which a change writes those that it touches.
const (
	maxInline   = 2048 // extents that a file's own record holds
	pageExtents = 1024 // at most in a page; one that grows beyond is split in pages of half
	pagesBytes  = 4 << 20
)

// unpage completes a record that came out of a feed. The pages are in metadata feeds, of which everything that was folded is here.
func (d *Drive) unpage(id record.ID, rec *record.Inode) error {
	if len(rec.Pages) == 0 || len(rec.Extents) > 0 {
		return nil
	}
	blocks := blocksOf(rec.Size)
	var all []record.Extent
	for i, p := range rec.Pages {
		extents, err := d.page(id, p)
		if err != nil {
			return err
		}
		end := blocks
		if i+1 < len(rec.Pages) {
			end = min(rec.Pages[i+1].First, blocks)
		}
		for _, e := range clip(extents, run{p.First, end}) {
			all = appendExtent(all, e)
		}
	}
	rec.Extents = all
	return nil
}

// page reads a page of inode id.
func (d *Drive) page(id record.ID, p record.Page) ([]record.Extent, error) {
	extents, err := d.readPage(id, p)
	if err != nil {
		return nil, fmt.Errorf("extents of inode %s from block %d on: %w", id, p.First, err)
	}
	return extents, nil
}

func (d *Drive) readPage(id record.ID, p record.Page) ([]record.Extent, error) {
	e, err := d.db.Entry(p.Feed, p.Seq)
	if err != nil {
		return nil, err
	}
	if k, err := record.ParseKey(e.Key); err != nil || k.Family != record.Pages || k.ID != id {
		return nil, fmt.Errorf("block %d of feed %s is no page of it: %w", p.Seq, p.Feed, record.ErrInvalid)
	}
	plain, err := d.cfg.Keys.Open(p.Feed, e.Key, e.Value)
	if err != nil {
		return nil, err
	}
	return record.DecodePage(plain)
}

// clip returns the parts of extents in r.
func clip(extents []record.Extent, r run) (out []record.Extent) {
	if r.first >= r.end {
		return nil
	}
	i, _ := slices.BinarySearchFunc(extents, r.first, func(e record.Extent, first uint64) int {
		if e.Block+e.Count <= first {
			return -1
		}
		return 1
	})
	for ; i < len(extents) && extents[i].Block < r.end; i++ {
		e := extents[i]
		skip := max(r.first, e.Block) - e.Block
		e.Block, e.Seq, e.Count = e.Block+skip, e.Seq+skip, e.Count-skip
		e.Count = min(e.Count, r.end-e.Block)
		out = append(out, e)
	}
	return out
}

// appendExtent adds an extent behind the others, joined with the last where it goes on in the feed.
func appendExtent(out []record.Extent, e record.Extent) []record.Extent {
	if k := len(out) - 1; k >= 0 && out[k].Feed == e.Feed && out[k].Block+out[k].Count == e.Block && out[k].Seq+out[k].Count == e.Seq {
		out[k].Count += e.Count
		return out
	}
	return append(out, e)
}

// publishPages puts the extents of the candidates that have too many into pages. Those that did not change stay where they are, if that is in this node's own feed:
// what a record in it names is before it, so that whoever has folded the one has the other.
func (d *Drive) publishPages(ctx context.Context, due map[record.ID]*candidate) error {
	w := pageWriter{d: d}
	for _, c := range due {
		if !c.ready {
			continue
		}
		if len(c.rec.Extents) <= d.inline {
			c.rec.Pages = nil
			continue
		}
		if err := w.file(ctx, c); err != nil {
			return err
		}
	}
	return w.flush(ctx)
}

// pageWriter is a batch of pages being made.
type pageWriter struct {
	d     *Drive
	ops   []hyperdb.Op
	to    []*record.Page // where the position of each is noted
	bytes int
}

// file makes the pages of one candidate.
func (w *pageWriter) file(ctx context.Context, c *candidate) error {
	was := c.rec.Pages
	firsts := make([]uint64, 0, len(was)+1)
	for _, p := range was {
		firsts = append(firsts, p.First)
	}
	if len(firsts) == 0 || firsts[0] > 0 {
		firsts, was = slices.Insert(firsts, 0, 0), slices.Insert(slices.Clone(was), 0, record.Page{})
	}
	pages := make([]record.Page, 0, 2*len(c.rec.Extents)/w.d.perPage+2*len(firsts)+1) // as many as there can be: w.to points into it
	for i, first := range firsts {
		end := uint64(1) << 62
		if i+1 < len(firsts) {
			end = firsts[i+1]
		}
		extents := clip(c.rec.Extents, run{first, end})
		if len(extents) == 0 {
			continue
		}
		if was[i].Feed == w.d.self && len(extents) <= w.d.perPage {
			if old, err := w.d.page(c.in.id, was[i]); err == nil && slices.Equal(clip(old, run{first, end}), extents) {
				pages = append(pages, was[i])
				continue
			}
		}
		for chunk := range slices.Chunk(extents, w.d.chunkOf(len(extents))) {
			p := record.Page{First: first, Feed: w.d.self, Blocks: 0}
			for _, e := range chunk {
				p.Blocks += e.Count
			}
			first = chunk[len(chunk)-1].Block + chunk[len(chunk)-1].Count
			pages = append(pages, p)
			if err := w.add(ctx, record.PageKey(c.in.id, p.First), chunk, &pages[len(pages)-1]); err != nil {
				return err
			}
		}
	}
	c.rec.Pages = pages
	return nil
}

// chunkOf is how many of n extents go into one page.
func (d *Drive) chunkOf(n int) int {
	if n <= d.perPage {
		return n
	}
	return d.perPage / 2
}

func (w *pageWriter) add(ctx context.Context, key string, extents []record.Extent, to *record.Page) error {
	sealed, err := w.d.cfg.Keys.Seal(w.d.self, key, record.EncodePage(extents))
	if err != nil {
		return err
	}
	w.ops, w.to = append(w.ops, hyperdb.Op{Key: key, Value: sealed}), append(w.to, to)
	if w.bytes += len(sealed); w.bytes < pagesBytes {
		return nil
	}
	return w.flush(ctx)
}

// flush appends what was collected, durably.
func (w *pageWriter) flush(ctx context.Context) error {
	if len(w.ops) == 0 {
		return nil
	}
	first, err := w.d.db.Batch(ctx, w.ops)
	if err != nil {
		return err
	}
	for i, p := range w.to {
		p.Seq = first + uint64(i)
	}
	w.ops, w.to, w.bytes = nil, nil, 0
	return nil
}
