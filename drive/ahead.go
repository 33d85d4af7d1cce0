package drive

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"hyphafs.org/hyphafs/drive/record"
)

const (
	aheadBlocks = 32 // so many behind a sequential read are opened, and asked for at peers, at most: 2 MiB
	chunkBlocks = 4  // of these, so many by one goroutine
	aheadChunks = 64 // so many chunks all handles together may hold: 16 MiB
)

// aheads is what all handles opened ahead of their reads, in plain. A chunk is known by its place in a feed, where nothing ever changes: a read takes from it only the block
// that the file has there now.
type aheads struct {
	buffers sync.Pool // *[]byte with room for the plain blocks of a chunk

	mu    sync.Mutex // guards what follows, every readAhead and what chunk says; taken after inode.mu, nothing is taken or called with it held
	of    map[*readAhead]struct{}
	held  int    // chunks that there are
	begun uint64 // chunks that there ever were
	ended bool
}

// readAhead is what one handle opened ahead of its reads.
type readAhead struct {
	workers sync.WaitGroup // the goroutines that open chunks; aheads.end waits for them
	next    uint64         // offset behind the last read
	came    uint64         // bytes read in sequence up to there
	changes uint64         // those of the inode, at the last read
	end     uint64         // block behind the last chunk
	chunks  []*chunk       // what was not read yet, ascending
	idle    bool           // nothing was read since the last sweep
	ended   bool
}

// chunk is some blocks of a file that stand one behind the other in a feed.
type chunk struct {
	at     record.Extent // these blocks alone
	buffer *[]byte
	opened chan struct{} // closed when plain is what it will be
	plain  []byte        // the first blocks, up to one that is not here or does not open; in buffer
	unread uint64        // bytes; guarded by aheads.mu
	users  int           // of buffer: the handle, the goroutine that opens, reads; guarded by aheads.mu
	vain   atomic.Bool   // the handle let go of it
}

func (a *aheads) init() {
	a.of = map[*readAhead]struct{}{}
	a.buffers.New = func() any {
		b := make([]byte, chunkBlocks*blockSize)
		return &b
	}
}

// leave ends one use of a chunk, and the chunk with the last. Called with mu held.
func (a *aheads) leave(c *chunk) {
	if c.users--; c.users == 0 {
		a.buffers.Put(c.buffer)
		a.held--
	}
}

// drop takes the chunks up to, not including, chunk n from a handle. Called with mu held.
func (a *aheads) drop(r *readAhead, n int) {
	for _, c := range r.chunks[:n] {
		c.vain.Store(true)
		a.leave(c)
	}
	r.chunks = slices.Delete(r.chunks, 0, n)
}

// restart lets go of everything that a handle opened ahead. Called with mu held.
func (a *aheads) restart(r *readAhead) {
	a.drop(r, len(r.chunks))
	r.came, r.end = 0, 0
}

// sweep lets go of what handles opened ahead that read nothing since the last sweep.
func (a *aheads) sweep() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for r := range a.of {
		if r.idle {
			a.restart(r)
		}
		r.idle = true
	}
}

// end lets go of what a handle opened ahead, and waits for whoever is at it. The handle opens nothing more.
func (a *aheads) end(r *readAhead) {
	a.mu.Lock()
	r.ended = true
	a.restart(r)
	delete(a.of, r)
	a.mu.Unlock()
	r.workers.Wait()
}

// endAll is end of every handle, also of those to come.
func (a *aheads) endAll() {
	a.mu.Lock()
	a.ended = true
	of := a.of
	a.of = map[*readAhead]struct{}{}
	a.mu.Unlock()
	for r := range of {
		a.end(r)
	}
}

// lookAhead notes that the bytes from off up to end are about to be read. If they follow what was read last, the blocks behind them are opened, and wished for where
// they are not here.
func (f *File) lookAhead(off, end uint64) {
	in := f.in
	in.mu.RLock()
	defer in.mu.RUnlock()
	if end = min(end, in.rec.Size); off >= end {
		return
	}
	first, last := off>>blockShift, (end-1)>>blockShift+1
	if f.openAhead(off, end, last) {
		f.d.wish(in, first, last+aheadBlocks)
	} else if last-first > 1 {
		f.d.wish(in, first, last) // all at once, not each when the one before has come
	}
}

// openAhead opens blocks from last on if the read from off up to end is a sequential one, no further than the sequence has come, and reports whether it is. A read that is
// larger than a chunk is spread over the processors by itself (Drive.blocks), and whoever asks for so much has more than one under way. Called with the inode's mu held.
func (f *File) openAhead(off, end, last uint64) (sequential bool) {
	in, a, r := f.in, &f.d.ahead, &f.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	const near = aheadBlocks << blockShift // reads that are under way together come in any order
	sequential = off == r.next || len(r.chunks) > 0 && off < r.next+near && r.next < off+near
	r.came += end - off
	if !sequential || in.changes != r.changes || end-off > chunkBlocks<<blockShift {
		a.restart(r)
		r.next = end
	}
	r.next, r.changes, r.idle = max(r.next, end), in.changes, false
	passed := 0
	for passed < len(r.chunks) && r.chunks[passed].at.Block+r.chunks[passed].at.Count+aheadBlocks < last {
		passed++
	}
	a.drop(r, passed)
	r.end = max(r.end, last)
	for target := last + min(r.came>>blockShift, aheadBlocks); r.end < target && a.held < aheadChunks && !r.ended && !a.ended; {
		at := in.onlyInFeed(r.end, r.end+chunkBlocks)
		switch {
		case at.Count == 0: // a hole, or what the backing file has
			r.end += chunkBlocks
			continue
		case at.Block+at.Count > target: // later, as a whole
			return sequential
		}
		r.end = at.Block + at.Count
		c := &chunk{at: at, buffer: a.buffers.Get().(*[]byte), opened: make(chan struct{}), unread: at.Count << blockShift, users: 2}
		r.chunks = append(r.chunks, c)
		a.of[r] = struct{}{}
		a.held++
		a.begun++
		r.workers.Go(func() { f.d.openChunk(in.id, c) })
	}
	return sequential
}

// onlyInFeed returns the first blocks from n on, below end, that stand one behind the other in a feed and have no byte in the backing file; none if there are none.
// Called with mu held.
func (in *inode) onlyInFeed(n, end uint64) record.Extent {
	for ; n < end; n++ {
		e := in.extent(n)
		if e == nil {
			continue
		}
		if count := in.onlyThere(n, min(end, e.Block+e.Count)-n); count > 0 {
			return record.Extent{Block: n, Count: count, Feed: e.Feed, Seq: e.Seq + n - e.Block}
		}
	}
	return record.Extent{}
}

// wish asks peers for the blocks of a file from n up to end that are not here. Called with the inode's mu held.
func (d *Drive) wish(in *inode, n, end uint64) {
	for n < end {
		at := in.onlyInFeed(n, end)
		if at.Count == 0 {
			return
		}
		if feed, err := d.feeds.Get(at.Feed); err == nil {
			feed.Wish(at.Seq, at.Seq+at.Count)
		}
		n = at.Block + at.Count
	}
}

// openChunk opens the blocks of a chunk, of the inode id. It waits for no peer, and leaves an error to the read, which will meet it again.
func (d *Drive) openChunk(id record.ID, c *chunk) {
	c.plain = (*c.buffer)[:d.openBlocks(id, c)<<blockShift]
	close(c.opened)
	d.ahead.mu.Lock()
	defer d.ahead.mu.Unlock()
	d.ahead.leave(c)
}

// openBlocks puts the plain bytes of a chunk into its buffer and returns of how many blocks. The sealed ones go through a buffer that is used over and over: to read them into
// one that the processor has not at hand takes twice as long.
func (d *Drive) openBlocks(id record.ID, c *chunk) (opened int) {
	feed, err := d.feeds.Get(c.at.Feed)
	if err != nil || c.vain.Load() {
		return 0
	}
	buf := d.sealed.Get().(*[]byte)
	defer d.sealed.Put(buf)
	sealed, sizes, err := feed.AppendBlocks((*buf)[:0], c.at.Seq, c.at.Count)
	if err != nil {
		return 0
	}
	for i, size := range sizes {
		dst := (*c.buffer)[i<<blockShift : (i+1)<<blockShift : (i+1)<<blockShift]
		if c.vain.Load() || d.openBlock(dst, c.at.Feed, id, c.at.Block+uint64(i), sealed[:size]) != nil {
			return i
		}
		sealed = sealed[size:]
	}
	return len(sizes)
}

// Read is ReadAt for whoever need not own the bytes: those that were opened ahead are returned where they are, to be looked at until done is called, once; others in p, and done
// is nil.
func (f *File) Read(ctx context.Context, p []byte, off int64) (b []byte, done func(), err error) {
	if off < 0 {
		return nil, nil, ErrInvalid
	}
	f.lookAhead(uint64(off), uint64(off)+uint64(len(p)))
	if b, done := f.opened(uint64(off), uint64(off)+uint64(len(p))); b != nil {
		return b, done, nil
	}
	n, err := f.readAt(ctx, p, off)
	return p[:n], nil, err
}

// opened returns the bytes from off up to end, or the end of the file, if all of them are in one chunk, for as long as done was not called; nil otherwise.
func (f *File) opened(off, end uint64) (b []byte, done func()) {
	in := f.in
	in.mu.RLock()
	end = min(end, in.rec.Size)
	n, last := off>>blockShift, blocksOf(end)
	at := in.onlyInFeed(n, last)
	in.mu.RUnlock()
	if off >= end || at.Block != n || at.Count != last-n {
		return nil, nil
	}
	b, c := f.take(at, n, off-n<<blockShift)
	if uint64(len(b)) < end-off {
		f.gave(c, 0)
		return nil, nil
	}
	return b[:end-off], func() { f.gave(c, end-off) }
}

// readOpened puts the bytes from start on of block n, which stands in at, into p, if they were opened ahead or are about to be, and reports whether they were.
func (f *File) readOpened(at record.Extent, n uint64, p []byte, start uint64) bool {
	b, c := f.take(at, n, start)
	k := uint64(copy(p, b))
	f.gave(c, k)
	return k == uint64(len(p))
}

// take returns what a chunk has from the byte start of block n on, if it is the block that stands in at. It waits for who is about to open it. The bytes are there until gave; the chunk
// may be nil.
func (f *File) take(at record.Extent, n, start uint64) ([]byte, *chunk) {
	a := &f.d.ahead
	a.mu.Lock()
	c := f.ahead.chunk(at, n)
	if c != nil {
		c.users++
	}
	a.mu.Unlock()
	if c == nil {
		return nil, nil
	}
	<-c.opened
	return c.plain[min((n-c.at.Block)<<blockShift+start, uint64(len(c.plain))):], c
}

// gave ends what take began; read bytes were read. What was read as a whole is let go.
func (f *File) gave(c *chunk, read uint64) {
	if c == nil {
		return
	}
	a, r := &f.d.ahead, &f.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leave(c)
	c.unread -= min(c.unread, read)
	n := 0
	for n < len(r.chunks) && r.chunks[n].unread == 0 {
		n++
	}
	a.drop(r, n)
}

// chunk returns the one with block n, if it is of the place where at says that the block stands. Called with aheads.mu held.
func (r *readAhead) chunk(at record.Extent, n uint64) *chunk {
	for _, c := range r.chunks {
		if n-c.at.Block < c.at.Count && c.at.Feed == at.Feed && c.at.Seq+(n-c.at.Block) == at.Seq+(n-at.Block) {
			return c
		}
	}
	return nil
}
