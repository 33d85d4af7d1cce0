package drive

import (
	"context"
	"errors"

	"hyphafs.org/hyphafs/drive/record"
)

// Whole returns the bytes of a small file, of one block at most, to whoever has it open alone, if they are in a feed and here, and nothing of them changed since: what
// ReadAt would say, without the reader's having to ask. nil otherwise, or if there are none. It never waits for a peer. The caller owns the bytes.
func (f *File) Whole() ([]byte, error) {
	at, size, ok := f.settled()
	if !ok {
		return nil, nil
	}
	feed, err := f.d.feeds.Get(at.Feed)
	if err != nil {
		return nil, err
	}
	if !f.d.cache.Contains(blockAt{at.Feed, at.Seq}) && !feed.Has(at.Seq) {
		return nil, nil
	}
	noWait, cancel := context.WithCancel(context.Background())
	cancel() // should it be let go at this moment
	plain, err := f.d.block(noWait, f.in.id, at, 0)
	if errors.Is(err, context.Canceled) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	copy(b, plain) // the rest is zeros: the file grew behind a short block
	return b, nil
}

// settled says where the only block of the file is, if nobody else has it open and a feed has all of it.
func (f *File) settled() (at record.Extent, size uint64, ok bool) {
	d, in := f.d, f.in
	d.mu.RLock()
	defer d.mu.RUnlock()
	in.mu.RLock()
	defer in.mu.RUnlock()
	if d.overlay.inodes[in.id] != in || in.opens != 1 || in.dirty || in.backing != nil || len(in.rec.Extents) != 1 || in.rec.Size > blockSize {
		return at, 0, false
	}
	return in.rec.Extents[0], in.rec.Size, true
}
