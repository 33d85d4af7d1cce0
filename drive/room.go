package drive

import (
	"context"
	"errors"
	"fmt"
)

// What was taken can always be published: a change is refused if the disk has no room for it and for what publishing all changes will take. New data leave some of the
// disk free besides: else nothing could be deleted on a full one, since that is journalled, and the view could not be written.
const (
	maxReserve = 64 << 20 // bytes
	maxGrant   = 16 << 20 // bytes that are taken without asking the disk
	recordNeed = 4 << 10  // bytes that publishing a changed inode and its name takes, about: records, tries, trees, rows of the view
	blockNeed  = 256      // bytes that a block takes in a content feed beyond its own: seal, tree, extent
)

// reserve is how much of the disk new data leave free, in bytes.
func reserve(s Statfs) uint64 { return min(s.Total/16, maxReserve) }

// room is nil if a change may be made that needs so many bytes, now and when it is published, and else ErrNoSpace.
func (d *Drive) room(need int64) error {
	if need <= 0 || d.granted.Add(-need) >= 0 || d.cfg.Work == nil {
		return nil
	}
	d.granted.Store(0)
	s, err := d.cfg.Work.Statfs()
	if err != nil || s.Total == 0 { // not known: the disk itself will say
		return err
	}
	kept := reserve(s) + uint64(max(d.owed.Load(), 0))
	if s.Available < kept+uint64(need) {
		d.tight.Store(true)
		d.nudge()
		return fmt.Errorf("%w: %d bytes are free, of which %d are kept", ErrNoSpace, s.Available, kept)
	}
	d.granted.Store(int64(min((s.Available-kept-uint64(need))/8, maxGrant)))
	return nil
}

// roomToWrite is room for the bytes of in from off up to end. It returns what publishing in will take then, for owe. Called with in.mu held.
func (d *Drive) roomToWrite(in *inode, off, end uint64) (owed int64, err error) {
	r := run{off >> blockShift, (end-1)>>blockShift + 1}
	size := max(in.rec.Size, end)
	need := int64(0) // here and now: what is there is written over, but in the journal
	for _, m := range in.present.missing(r) {
		need += int64(min(end, m.end<<blockShift) - max(off, m.first<<blockShift))
	}
	if in.backing == nil || in.isSmall() {
		need = int64(end - off)
	}
	blocks := uint64(0)
	for _, m := range in.unpublished.missing(r) {
		blocks += m.end - m.first
	}
	owed = max(in.owed, recordNeed) + int64(blocks*(blockSize+in.blockNeed()))
	owed = min(owed, recordNeed+int64(size+blocksOf(size)*in.blockNeed()))
	if in.gone && !in.published {
		owed = 0
	}
	return owed, d.room(need + owed - in.owed)
}

// blockNeed is what a block of in takes beyond its own bytes. Called with in.mu held.
func (in *inode) blockNeed() uint64 {
	if len(in.rec.Extents) > maxInline {
		return blockNeed + pageExtents*16 // perhaps a page
	}
	return blockNeed
}

// owe notes that publishing in will take so many bytes. Called with in.mu held.
func (d *Drive) owe(in *inode, bytes int64) {
	d.owed.Add(bytes - in.owed)
	in.owed = bytes
}

// recount is owe for what is unpublished now. Called with in.mu held.
func (d *Drive) recount(in *inode) {
	owed := int64(0)
	if blocks := in.unpublished.count(); in.dirty && !in.gone {
		owed = recordNeed + int64(min(blocks<<blockShift, in.rec.Size)+blocks*in.blockNeed())
	}
	d.owe(in, owed)
}

// withRoom makes a change. If that finds no room, it is made again when all that can be is published, which frees the bytes of closed files, and the journal is as
// short as can be: an answer on a full disk is worth the wait.
func (d *Drive) withRoom(ctx context.Context, change func() error) error {
	err := change()
	if !errors.Is(err, ErrNoSpace) || d.owed.Load() == 0 {
		return err
	}
	if d.publish(ctx, true) != nil { // Run says why
		return err
	}
	return change()
}

// shorten makes the journal as short as can be on a disk that was found full.
func (d *Drive) shorten() error {
	if !d.tight.Swap(false) {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.journal.Size() < 2*d.live()+1<<20 {
		return nil
	}
	return d.compactNext()
}
