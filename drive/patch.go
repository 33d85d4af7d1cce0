package drive

import (
	"context"
	"errors"
	"fmt"

	"hyphafs.org/hyphafs/drive/record"
)

// A write of whole pages into a block that is only in a content feed does not bring that block here: the pages go into the backing file, the block stays where
// it is, and both are put together when somebody reads them and when the block is published anew. A database that changes pages here and there in a large file writes
// 4 KiB for each and not 64. Only a block that is stored here is patched; another one is waited for at the write, so that what was written can always be published.
const (
	pageShift = 12
	pageSize  = 1 << pageShift
	perBlock  = blockSize / pageSize

	// maxPatches bounds the runs of pages of an inode, which each fsync writes down; behind it blocks are brought as a whole. Publishing begins anew.
	maxPatches = 16 << 10
)

// errUnread says that the block which pages belong to cannot be read any more.
var errUnread = errors.New("a block that was changed in part")

// pagesOf returns the pages of a run of blocks.
func pagesOf(r run) run {
	const most = 1 << 56 // no file has so many blocks
	return run{min(r.first, most) * perBlock, min(r.end, most) * perBlock}
}

// blocksAround returns the blocks that pages are in.
func blocksAround(pages run) run {
	return run{pages.first / perBlock, (pages.end + perBlock - 1) / perBlock}
}

// patchedIn reports whether the backing file has pages of a block that it does not have as a whole. Called with mu held.
func (in *inode) patchedIn(n uint64) bool {
	next, ok := in.pages.from(n * perBlock)
	return ok && next.first < (n+1)*perBlock
}

// holds reports whether the backing file has any bytes that count. Called with mu held.
func (in *inode) holds() bool { return len(in.present)+len(in.pages) > 0 }

// held returns the blocks of which the backing file has bytes. Called with mu held.
func (in *inode) held() blockset {
	s := append(blockset(nil), in.present...)
	for _, r := range in.pages {
		s.add(blocksAround(r))
	}
	return s
}

// heldNot lists the blocks of r of which the backing file has no bytes. Called with mu held.
func (in *inode) heldNot(r run) (out []run) {
	for _, m := range in.present.missing(r) {
		for n := m.first; n < m.end; n++ {
			if !in.patchedIn(n) {
				out = append(out, run{n, n + 1})
			}
		}
	}
	return out
}

// dropPublished forgets the pages of blocks that are in a content feed as they are. Called with mu held.
func (in *inode) dropPublished() {
	var left blockset
	for _, r := range in.pages {
		for at := r.first; at < r.end; {
			changed, ok := in.unpublished.from(at / perBlock)
			from := max(at, changed.first*perBlock)
			if !ok || from >= r.end {
				break
			}
			at = min(changed.end*perBlock, r.end)
			left.add(run{from, at})
		}
	}
	in.pages = left
}

// becomes says what the backing file has when the bytes from off up to end are written and it did not have before: whole blocks, and pages of blocks the
// rest of which is in a content feed. Called with mu held.
func (in *inode) becomes(off, end uint64) (blocks []run, pages []run) {
	all := run{off >> blockShift, (end-1)>>blockShift + 1}
	if in.isSmall() {
		return in.present.missing(all), nil
	}
	part := func(n uint64) {
		if whole := off <= n<<blockShift && (end >= (n+1)<<blockShift || end >= in.rec.Size); whole || in.extent(n) == nil || in.present.has(n) || !all.has(n) {
			return
		}
		written := run{max(off, n<<blockShift) >> pageShift, (min(end, (n+1)<<blockShift)-1)>>pageShift + 1}
		pages = append(pages, in.pages.missing(written)...)
		if n == all.first {
			all.first++
		} else {
			all.end--
		}
	}
	part(all.first)
	part(all.end - 1)
	return in.present.missing(all), pages
}

// patchable reports whether the part of block n from off up to end can be written without the rest of the block, which is in extent e. Called with mu held.
func (d *Drive) patchable(in *inode, n uint64, e *record.Extent, off, end uint64) bool {
	if in.backing == nil && max(end, in.rec.Size) <= smallSize || in.isSmall() || len(in.pages) >= maxPatches {
		return false
	}
	covered := func(at uint64) bool { return at&(pageSize-1) == 0 || in.pages.has(at>>pageShift) }
	if from := max(off, n<<blockShift); !covered(from) {
		return false
	}
	if to := min(end, (n+1)<<blockShift); !covered(to) && to < in.rec.Size {
		return false
	}
	feed, err := d.feeds.Get(e.Feed)
	return err == nil && feed.Has(e.Seq+n-e.Block)
}

// wholeBlock returns the bytes of block n, which is patched, as they are now, and takes it out of what is to be published. nil if it is no longer patched.
func (d *Drive) wholeBlock(ctx context.Context, in *inode, n uint64) ([]byte, error) {
	in.mu.RLock()
	e := in.extent(n)
	if e == nil || in.present.has(n) {
		in.mu.RUnlock()
		return nil, nil
	}
	at := *e
	in.mu.RUnlock()
	base, err := d.block(ctx, in.id, at, n)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnread, err)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.stands(n, at) {
		return nil, nil
	}
	start := n << blockShift
	plain := make([]byte, min(blockSize, in.rec.Size-start))
	copy(plain, base)
	for at := n * perBlock; ; {
		next, ok := in.pages.from(at)
		if !ok || next.first >= (n+1)*perBlock {
			break
		}
		at = min(next.end, (n+1)*perBlock)
		from, to := max(next.first<<pageShift, start)-start, min(at<<pageShift-start, uint64(len(plain)))
		if k, err := in.backing.ReadAt(plain[from:to], int64(start+from)); uint64(k) < to-from {
			return nil, fmt.Errorf("read the workspace: %w", err)
		}
	}
	in.unpublished.remove(run{n, n + 1})
	return plain, nil
}

// stands reports whether block n is still, in part or as a whole, only where at says. Called with mu held.
func (in *inode) stands(n uint64, at record.Extent) bool {
	now := in.extent(n)
	return !in.present.has(n) && now != nil && now.Feed == at.Feed && now.Seq+n-now.Block == at.Seq+n-at.Block
}
