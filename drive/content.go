package drive

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// ReadAt reads up to len(p) bytes from off. It returns fewer only at the end of the file, and then no error. A block that no peer has sent
// yet is waited for, at most Config.ReadTimeout: ErrUnavailable then.
func (f *File) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, ErrInvalid
	}
	f.lookAhead(uint64(off), uint64(off)+uint64(len(p)))
	return f.readAt(ctx, p, off)
}

func (f *File) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		k, err := f.readSome(ctx, p[n:], uint64(off)+uint64(n))
		if err != nil {
			return n, err
		}
		if k == 0 {
			break
		}
		n += k
	}
	return n, nil
}

// readSome reads at least one byte, unless off is at the end: from the backing file, a hole, or blocks of a content feed.
func (f *File) readSome(ctx context.Context, p []byte, off uint64) (int, error) {
	in := f.in
	in.mu.RLock()
	if off >= in.rec.Size {
		in.mu.RUnlock()
		return 0, nil
	}
	p = p[:min(uint64(len(p)), in.rec.Size-off)]
	n := off >> blockShift
	if in.present.has(n) {
		defer in.mu.RUnlock()
		end := n + 1
		for last := (off + uint64(len(p)) - 1) >> blockShift; end <= last && in.present.has(end); {
			end++
		}
		return in.readBacking(p[:min(uint64(len(p)), end<<blockShift-off)], off)
	}
	many := p
	p = p[:min(uint64(len(p)), (n+1)<<blockShift-off)]
	if page, ok := in.pages.from(off >> pageShift); ok && page.first<<pageShift < off+uint64(len(p)) {
		if page.first<<pageShift <= off {
			defer in.mu.RUnlock()
			return in.readBacking(p[:min(uint64(len(p)), page.end<<pageShift-off)], off)
		}
		p = p[:page.first<<pageShift-off]
	}
	e := in.extent(n)
	if e == nil {
		in.mu.RUnlock()
		clear(p)
		return len(p), nil
	}
	at := *e
	whole := uint64(0)
	if off == n<<blockShift {
		whole = in.onlyThere(n, min(uint64(len(many))>>blockShift, at.Block+at.Count-n))
	}
	in.mu.RUnlock()
	if f.readOpened(at, n, p, off-n<<blockShift) {
		return len(p), nil
	}
	if whole > 0 {
		if k, err := f.d.blocks(in.id, at, n, many[:whole<<blockShift]); k > 0 || err != nil {
			return k, err
		}
	}
	plain, err := f.d.block(ctx, in.id, at, n)
	if err != nil {
		return 0, err
	}
	k := 0
	if start := off - n<<blockShift; start < uint64(len(plain)) {
		k = copy(p, plain[start:])
	}
	clear(p[k:]) // the file grew behind a short last block
	return len(p), nil
}

// onlyThere returns how many blocks from n on, at most count, have no byte in the backing file. Called with mu held.
func (in *inode) onlyThere(n, count uint64) uint64 {
	if r, ok := in.present.from(n); ok {
		count = min(count, r.first-n)
	}
	if r, ok := in.pages.from(n * perBlock); ok {
		count = min(count, r.first/perBlock-n)
	}
	return count
}

// readBacking reads at least one byte. Called with mu held.
func (in *inode) readBacking(p []byte, off uint64) (int, error) {
	k, err := in.backing.ReadAt(p, int64(off))
	if k == 0 && err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	return k, nil
}

// block returns the plain bytes of block n of a file, which stands in extent at. The caller must not change them.
func (d *Drive) block(ctx context.Context, id record.ID, at record.Extent, n uint64) ([]byte, error) {
	key := blockAt{at.Feed, at.Seq + n - at.Block}
	if plain, ok := d.cache.Get(key); ok {
		return plain, nil
	}
	feed, err := d.feeds.Get(at.Feed)
	if err != nil {
		return nil, err
	}
	sealed, err := feed.Block(key.seq)
	if errors.Is(err, hypercore.ErrNotStored) {
		sealed, err = d.await(ctx, feed, key)
	}
	if err != nil {
		return nil, fmt.Errorf("block %d of inode %s: %w", n, id, err)
	}
	plain, err := d.cfg.Keys.OpenBlock(at.Feed, id, n, sealed)
	if err != nil {
		return nil, fmt.Errorf("block %d of inode %s: %w", n, id, err)
	}
	d.cache.Add(key, plain)
	return plain, nil
}

// maxBulk bounds how many blocks are read at once: as many as the kernel asks for.
const maxBulk = 8

// blocks puts the plain bytes of the blocks of a file from n on, which stand in at, into p, as many as are stored and have room; p is whole blocks. It returns how many
// bytes that are: 0 if the first block is not stored or its bytes are in memory. What is read in bulk is the kernel's to keep, so it goes past the cache. The second half is
// opened by a goroutine beside this one, which waits for it.
func (d *Drive) blocks(id record.ID, at record.Extent, n uint64, p []byte) (int, error) {
	seq := at.Seq + n - at.Block
	if d.cache.Contains(blockAt{at.Feed, seq}) {
		return 0, nil
	}
	feed, err := d.feeds.Get(at.Feed)
	if err != nil {
		return 0, err
	}
	buf := d.sealed.Get().(*[]byte)
	defer d.sealed.Put(buf)
	sealed, sizes, err := feed.AppendBlocks((*buf)[:0], seq, min(uint64(len(p))>>blockShift, maxBulk))
	if errors.Is(err, hypercore.ErrNotStored) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("block %d of inode %s: %w", n, id, err)
	}
	open := func(from, to int, sealed []byte) error {
		for i := from; i < to; i++ {
			dst := p[i<<blockShift : (i+1)<<blockShift : (i+1)<<blockShift]
			if err := d.openBlock(dst, at.Feed, id, n+uint64(i), sealed[:sizes[i]]); err != nil {
				return err
			}
			sealed = sealed[sizes[i]:]
		}
		return nil
	}
	half, first := (len(sizes)+1)/2, 0
	for _, size := range sizes[:half] {
		first += size
	}
	var second error
	var other sync.WaitGroup
	if half < len(sizes) {
		other.Go(func() { second = open(half, len(sizes), sealed[first:]) })
	}
	err = open(0, half, sealed[:first])
	other.Wait()
	if err := errors.Join(err, second); err != nil {
		return 0, err
	}
	return len(sizes) << blockShift, nil
}

// openBlock opens block n of a file into dst, which has the size of a block.
func (d *Drive) openBlock(dst []byte, feed hypercore.Key, id record.ID, n uint64, sealed []byte) error {
	k, err := d.cfg.Keys.OpenBlockInto(dst, feed, id, n, sealed)
	if err != nil {
		return fmt.Errorf("block %d of inode %s: %w", n, id, err)
	}
	clear(dst[k:]) // the file grew behind a short last block
	return nil
}

// oneFailure is how long after a wait in vain another one for the same block fails at once: the kernel reads twice before it gives up, first ahead of the program and
// then for it.
const oneFailure = time.Second

// await waits for a block that is not here, at most Config.ReadTimeout: ErrUnavailable then.
func (d *Drive) await(ctx context.Context, feed *hypercore.Feed, at blockAt) ([]byte, error) {
	if failed, ok := d.absent.Get(at); ok && time.Since(failed) < oneFailure {
		return nil, ErrUnavailable
	}
	waiting, cancel := context.WithTimeout(ctx, d.cfg.ReadTimeout)
	defer cancel()
	sealed, err := feed.Get(waiting, at.seq)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		d.absent.Add(at, time.Now())
		return nil, ErrUnavailable
	}
	return sealed, err
}

// truncate changes the size of a file: what lies beyond a smaller one is gone, a larger one ends with a hole.
func (d *Drive) truncate(ctx context.Context, id record.ID, size uint64) error {
	if size > record.MaxSize {
		return ErrTooBig
	}
	d.mu.Lock()
	in, err := d.load(id)
	if err == nil && in.rec.Kind != record.File {
		err = ErrInvalid
		if in.rec.Kind == record.Dir {
			err = ErrIsDir
		}
	}
	if err == nil {
		in.opens++ // it must not be let go meanwhile
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if in.opens--; in.opens == 0 && d.overlay.inodes[id] == in {
			d.release(in)
		}
	}()
	for {
		in.mu.Lock()
		var missing []uint64
		if size&(blockSize-1) != 0 && size < in.rec.Size && !in.present.has(size>>blockShift) && in.extent(size>>blockShift) != nil {
			missing = []uint64{size >> blockShift} // its end has to be cut off
		}
		if len(missing) == 0 {
			err := d.resize(in, size)
			in.mu.Unlock()
			return err
		}
		in.mu.Unlock()
		if err := d.hydrate(ctx, in, missing); err != nil {
			return err
		}
	}
}

// resize sets the size. Called with in.mu held; a block that is cut is in the backing file.
func (d *Drive) resize(in *inode, size uint64) error {
	now := d.cfg.Now()
	if size == in.rec.Size {
		in.rec.Mtime, in.rec.Ctime = now.UnixNano(), now.UnixNano()
		return nil
	}
	smaller := size < in.rec.Size
	if in.backing != nil {
		if err := d.openBacking(in, size); err != nil { // a small file may outgrow its place
			return err
		}
		if err := in.backing.Truncate(int64(size)); err != nil {
			return noSpace(err)
		}
		in.unsynced = unsynced{all: true}
	}
	var f frame
	f.before(in)
	in.touch(now)
	in.rec.Size, in.rec.Mtime, in.rec.Ctime = size, now.UnixNano(), now.UnixNano()
	in.lost = in.lost && size > 0
	if smaller {
		beyond := run{blocksOf(size), 1 << 62}
		in.cutBlocks(beyond)
		f.cut(in.id, beyond)
		if n := size >> blockShift; size&(blockSize-1) != 0 && in.present.has(n) {
			in.unpublished.add(run{n, n + 1})
		}
	}
	d.recount(in)
	f.inode(in)
	return d.log(&f)
}

// cutBlocks makes blocks a hole. Called with in.mu held.
func (in *inode) cutBlocks(r run) {
	in.present.remove(r)
	in.pages.remove(pagesOf(r))
	in.unpublished.remove(r)
	if in.rec.Extents = cutExtents(in.rec.Extents, r); len(in.rec.Extents) == 0 {
		in.rec.Pages = nil
	}
}

// cutExtents returns extents without the blocks of r. The result shares nothing with the argument.
func cutExtents(extents []record.Extent, r run) []record.Extent {
	out := make([]record.Extent, 0, len(extents)+1)
	for _, e := range extents {
		end := e.Block + e.Count
		if e.Block < r.first {
			out = append(out, record.Extent{Block: e.Block, Count: min(end, r.first) - e.Block, Feed: e.Feed, Seq: e.Seq})
		}
		if end > r.end {
			skip := max(r.end, e.Block) - e.Block
			out = append(out, record.Extent{Block: e.Block + skip, Count: e.Count - skip, Feed: e.Feed, Seq: e.Seq + skip})
		}
	}
	return out
}

// addExtents puts more, ascending and not overlapping, in the place of what was there, joined with its neighbours where they go on in the feed. The result
// shares nothing with the arguments.
func addExtents(extents, more []record.Extent) []record.Extent {
	out := make([]record.Extent, 0, len(extents)+2*len(more))
	at := uint64(0)
	for _, e := range more {
		for _, old := range clip(extents, run{at, e.Block}) {
			out = appendExtent(out, old)
		}
		out = appendExtent(out, e)
		at = e.Block + e.Count
	}
	for _, old := range clip(extents, run{at, 1 << 62}) {
		out = appendExtent(out, old)
	}
	return out
}

// The modes of fallocate(2).
const (
	keepSize  = 1
	punchHole = 2
	zeroRange = 16
)

// Allocate is fallocate(2) with the mode bits of Linux: 0 and 1 (keep size) reserve nothing, since space is taken when blocks are written; 3 (punch
// hole, keep size) and 16 (zero range) make holes. Others are ErrNotSupported. The mode stays: who may not keep suid is the caller's matter.
func (f *File) Allocate(ctx context.Context, mode uint32, off, length int64) error {
	if err := f.d.mayChange(); err != nil {
		return err
	}
	if off < 0 || length <= 0 {
		return ErrInvalid
	}
	if off > record.MaxSize-length {
		return ErrTooBig
	}
	end := uint64(off) + uint64(length)
	switch mode &^ keepSize {
	case 0:
	case punchHole, zeroRange:
		if mode&^keepSize == punchHole && mode&keepSize == 0 {
			return ErrInvalid
		}
		if err := f.zero(ctx, uint64(off), end); err != nil {
			return err
		}
	default:
		return ErrNotSupported
	}
	f.in.mu.Lock()
	defer f.in.mu.Unlock()
	if mode&keepSize == 0 && end > f.in.rec.Size {
		return f.d.resize(f.in, end)
	}
	return nil
}

// zero makes the bytes from off up to end read as zeros: whole blocks become holes.
func (f *File) zero(ctx context.Context, off, end uint64) error {
	zeros := make([]byte, blockSize)
	for off < end {
		f.in.mu.RLock()
		size := f.in.rec.Size
		f.in.mu.RUnlock()
		if end = min(end, size); off >= end {
			return nil
		}
		n := off >> blockShift
		if off == n<<blockShift && (end >= (n+1)<<blockShift || end == size) {
			last := end >> blockShift
			if end == size {
				last = blocksOf(size)
			}
			if err := f.hole(run{n, last}); err != nil {
				return err
			}
			off = min(last<<blockShift, end)
			continue
		}
		k := min(end, (n+1)<<blockShift) - off
		if _, err := f.WriteAt(ctx, zeros[:k], int64(off), false); err != nil {
			return err
		}
		off += k
	}
	return nil
}

// hole makes whole blocks a hole.
func (f *File) hole(r run) error {
	in := f.in
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.backing != nil {
		size := int64(min(r.end<<blockShift, in.rec.Size) - r.first<<blockShift)
		if err := in.backing.Punch(int64(r.first<<blockShift), size); err != nil {
			return noSpace(err)
		}
		in.unsynced = unsynced{all: true}
	}
	now := f.d.cfg.Now()
	var fr frame
	fr.before(in)
	in.touch(now)
	in.rec.Mtime, in.rec.Ctime = now.UnixNano(), now.UnixNano()
	in.cutBlocks(r)
	f.d.recount(in)
	fr.cut(in.id, r)
	fr.inode(in)
	return f.d.log(&fr)
}

// SeekData returns the offset of the next data (hole false) or hole (hole true) at or behind off, in whole blocks; the end of the file is a hole. ErrNoData
// at or past the end.
func (f *File) SeekData(_ context.Context, off int64, hole bool) (int64, error) {
	in := f.in
	in.mu.RLock()
	defer in.mu.RUnlock()
	if off < 0 || uint64(off) >= in.rec.Size {
		return 0, ErrNoData
	}
	size := in.rec.Size
	data := append(blockset(nil), in.present...)
	for _, e := range in.rec.Extents {
		data.add(run{e.Block, e.Block + e.Count})
	}
	n := uint64(off) >> blockShift
	i := data.search(n)
	inData := i < len(data) && data[i].first <= n
	switch {
	case inData != hole:
		return off, nil
	case hole:
		return int64(min(data[i].end<<blockShift, size)), nil
	case i < len(data) && data[i].first<<blockShift < size:
		return int64(data[i].first << blockShift), nil
	}
	return 0, ErrNoData
}
