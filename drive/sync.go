package drive

import (
	"context"
	"fmt"
	"slices"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// What an fsync may put into the journal instead of syncing the backing file, per inode.
const (
	maxJournalled = 256 << 10 // bytes
	maxPieces     = 64
)

// unsynced says which bytes of a backing file are not durable: some pieces, or perhaps all of it.
type unsynced struct {
	all    bool
	pieces []piece
	bytes  uint64
}

// piece is bytes of a file.
type piece struct{ off, end uint64 }

// wrote notes a write.
func (u *unsynced) wrote(p piece) {
	if u.all {
		return
	}
	if k := len(u.pieces) - 1; k >= 0 && u.pieces[k].off <= p.off && p.off <= u.pieces[k].end { // goes on where the last one ended
		u.bytes += max(p.end, u.pieces[k].end) - u.pieces[k].end
		u.pieces[k].end = max(p.end, u.pieces[k].end)
	} else {
		u.pieces = append(u.pieces, p)
		u.bytes += p.end - p.off
	}
	if u.bytes > maxJournalled || len(u.pieces) > maxPieces {
		*u = unsynced{all: true}
	}
}

// Sync makes the file durable on this node: bytes, size and name. Little is written into the journal, whose fsync callers share; much is
// synced where it is.
func (f *File) Sync(context.Context, bool) error {
	if err := f.d.syncInode(f.in); err != nil {
		return err
	}
	return f.d.syncJournal()
}

// syncInode puts what has to be durable of in into the journal, or sees that it is. The journal has to be synced then.
func (d *Drive) syncInode(in *inode) error {
	in.syncing.Lock()
	defer in.syncing.Unlock()
	for {
		in.mu.Lock()
		if !in.dirty || in.lost {
			defer in.mu.Unlock()
			return in.whole()
		}
		if !in.unsynced.all && in.unsynced.bytes > 0 && !in.isSmall() && d.room(int64(in.unsynced.bytes)) != nil {
			in.unsynced = unsynced{all: true} // there is no room for them in the journal, but where they are there is
		}
		if in.backing == nil || in.isSmall() || !in.unsynced.all {
			defer in.mu.Unlock()
			return d.syncPieces(in)
		}
		was := in.state()
		in.unsynced = unsynced{}
		in.mu.Unlock()
		err := was.backing.Sync()
		if err != nil {
			in.mu.Lock()
			if in.backing != was.backing { // published or removed meanwhile, and closed
				in.mu.Unlock()
				continue
			}
			defer in.mu.Unlock()
			return d.lose(in, err)
		}
		if !was.named {
			err = d.cfg.Work.SyncNames()
		}
		in.mu.Lock()
		said, err := d.logSynced(in, was, err)
		if !said {
			in.unsynced = unsynced{all: true} // the journal does not know what was synced
		}
		in.mu.Unlock()
		if said || err != nil {
			return err
		}
	}
}

// syncPieces journals the bytes that are not durable, and the inode. Called with in.mu held.
func (d *Drive) syncPieces(in *inode) error {
	var f frame
	if !in.isSmall() {
		const itemSize = 64 // of what is around the bytes of a piece, about
		f.b = make([]byte, 0, in.unsynced.bytes+itemSize*uint64(len(in.unsynced.pieces)+1))
		var b []byte
		for _, p := range in.unsynced.pieces {
			p.end = min(p.end, in.rec.Size)
			if p.off >= p.end {
				continue
			}
			b = slices.Grow(b[:0], int(p.end-p.off))[:p.end-p.off]
			if n, err := in.backing.ReadAt(b, int64(p.off)); n < len(b) {
				return fmt.Errorf("sync: %w", err)
			}
			f.bytes(in, b, p.off)
		}
		if in.grown != nil {
			f.syncedMore(in)
		} else {
			f.synced(in, false)
		}
	}
	if err := d.log(&f); err != nil {
		return err
	}
	in.unsynced, in.synced = unsynced{}, in.changes
	if in.backing != nil && !in.isSmall() {
		in.grown = &grown{}
	}
	return nil
}

// syncState is an inode at the beginning of a Sync.
type syncState struct {
	backing hypercore.File
	named   bool
	size    uint64
	base    []record.Version
	present blockset
	pages   blockset
	changes uint64
	frame   frame
}

// state returns what Sync is about to make durable. Called with in.mu held.
func (in *inode) state() (s syncState) {
	s.backing, s.named, s.size, s.base, s.changes = in.backing, in.named, in.rec.Size, in.base, in.changes
	s.present, s.pages = slices.Clone(in.present), slices.Clone(in.pages)
	s.frame.synced(in, true)
	return s
}

// logSynced journals that the state was is durable, unless failed says that it is not, or the journal says more already: of a batch, or because it is a new one. It reports
// false if that is no longer worth saying: the file was published or cut meanwhile. Called with in.mu held.
func (d *Drive) logSynced(in *inode, was syncState, failed error) (bool, error) {
	if failed != nil {
		return false, noSpace(fmt.Errorf("sync: %w", failed))
	}
	if in.synced > was.changes {
		return true, nil
	}
	if in.rec.Size < was.size || !slices.Equal(in.base, was.base) || in.backing != was.backing {
		return false, nil
	}
	for _, r := range was.present {
		if len(in.present.missing(r)) > 0 {
			return false, nil
		}
	}
	for _, r := range was.pages {
		for _, lost := range in.pages.missing(r) { // but to a block that was brought as a whole
			if len(in.present.missing(blocksAround(lost))) > 0 {
				return false, nil
			}
		}
	}
	in.named = true
	if err := d.log(&was.frame); err != nil {
		return false, err
	}
	in.synced = was.changes
	return true, nil
}
