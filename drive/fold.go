package drive

import (
	"context"
	"errors"
	"slices"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/hyperdb"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
)

// foldBatch is how many entries are folded at once. The namespace is locked only while they are shown. ownFoldBatch is more than one publish makes, of
// which nothing may be shown by halves: a file whose new name comes later in it would look like one in conflict.
const (
	foldBatch    = 256
	ownFoldBatch = 4 * batchRecords
)

// maxPending bounds the rows of the view that wait in memory for Run to flush them, some 300 bytes each: one fold may take in millions.
const maxPending = 1 << 16

// FeedSet returns the feeds that are replicated.
func (d *Drive) FeedSet() *FeedSet { return d.feeds }

// Stored tells that blocks of some feed arrived. It does not wait.
func (d *Drive) Stored() { d.nudge() }

// fold takes every entry that is here and was not looked at into the view. What the kernel does not know of it yet becomes a notice, whoever
// folds: Run tells it.
func (d *Drive) fold(ctx context.Context) error {
	d.folding.Lock()
	defer d.folding.Unlock()
	known := 0
	for {
		if err := d.db.Update(ctx); err != nil {
			return err
		}
		writers := d.db.Writers()
		if len(writers) == known {
			return nil
		}
		known = len(writers)
		for _, w := range writers {
			if err := d.foldFeed(ctx, w.Key); err != nil {
				return err
			}
		}
		if err := d.keepWriters(); err != nil {
			return err
		}
	}
}

// keepWriters remembers the writers for the next start.
func (d *Drive) keepWriters() error {
	var keys []hypercore.Key
	for _, w := range d.db.Writers() {
		keys = append(keys, w.Key)
	}
	kept, err := d.view.Writers()
	if err != nil || slices.Equal(kept, keys) {
		return err
	}
	return d.view.SetWriters(keys)
}

// foldFeed folds one writer's feed as far as its blocks are here without a gap.
func (d *Drive) foldFeed(ctx context.Context, feed hypercore.Key) error {
	log, err := d.feeds.Get(feed)
	if err != nil {
		return err
	}
	at, err := d.view.Position(feed)
	if err != nil {
		return err
	}
	at = max(at, 1)
	most := uint64(foldBatch)
	if feed == d.self {
		most = ownFoldBatch
	}
	for at < log.Len() && log.Has(at) {
		var entries []view.Entry
		next := at
		for ; next < at+most && next < log.Len() && log.Has(next); next++ {
			e, err := d.db.Entry(feed, next)
			if errors.Is(err, hyperdb.ErrBadEntry) {
				d.cfg.Log.Warn("entry passed over", "feed", feed.String(), "seq", next, "err", err)
				continue
			}
			if errors.Is(err, hypercore.ErrNotStored) {
				break // the list that it needs is not here yet
			}
			if err != nil {
				return err
			}
			if e.Key != "" {
				entries = append(entries, view.Entry{Seq: e.Seq, Key: e.Key, Value: e.Value})
			}
		}
		if next == at {
			return nil
		}
		var settled error
		err := d.view.FoldShown(ctx, feed, next, entries, func(changes []view.Change, show func()) {
			d.mu.Lock()
			defer d.mu.Unlock()
			show()
			d.folds++
			settled = errors.Join(d.follow(feed), d.folded(feed, changes))
		})
		if err := errors.Join(err, settled); err != nil {
			return err
		}
		if d.kv.Pending() > maxPending {
			if err := d.kv.Flush(); err != nil {
				return err
			}
		}
		at = next
	}
	return nil
}

// folded takes up that entries of feed changed the view. Called with mu held.
func (d *Drive) folded(feed hypercore.Key, changes []view.Change) error {
	for _, c := range d.settle(feed, changes) {
		if feed != d.self || c.Name != "" { // the kernel made our own changes, but may not know what a name in conflict became
			d.notices = append(d.notices, Change(c))
		}
	}
	if feed == d.self {
		return nil
	}
	return d.hasten()
}

// settle fits the overlay to a view that entries of feed just changed, and returns the changes that the overlay does not hide. Called with mu held.
func (d *Drive) settle(feed hypercore.Key, changes []view.Change) []view.Change {
	shown := changes[:0]
	var named []record.ID
	for _, c := range changes {
		if c.Name != "" {
			for _, id := range []record.ID{c.ID, c.Dir} {
				if in := d.overlay.inodes[id]; in != nil {
					in.shown = true
				}
			}
			if c.ID != (record.ID{}) {
				named = append(named, c.ID)
			}
			if e := d.overlay.entry(c.Dir, c.Name); e != nil {
				d.overlay.account(e, -1)
				e.under, e.underAt, e.underKind = c.ID, record.Place{}, 0
				if c.ID == e.id && feed == d.self {
					e.underAt, e.underKind = e.place, e.kind
				} else if s, err := d.view.Lookup(c.Dir, c.Name); err == nil && c.ID != (record.ID{}) {
					e.underAt, e.underKind = record.Place{Dir: s.Dir, Name: s.Stored}, s.Kind
				}
				d.overlay.account(e, 1)
				continue
			}
			shown = append(shown, c)
			continue
		}
		if in := d.overlay.inodes[c.ID]; in != nil {
			published := in.published || !in.inFlight && d.inView(c.ID) // of one in flight finish knows
			in.mu.Lock()
			in.published = published
			in.stale = in.stale || feed != d.self
			busy := in.dirty || in.opens > 0
			in.mu.Unlock()
			if !busy {
				d.release(in)
			}
			continue // forget tells it
		}
		shown = append(shown, c)
	}
	for _, id := range named {
		d.revive(id)
	}
	return shown
}

// revive takes back that an inode has no name any more, if the view shows one: a peer moved it, and the deletion, published or not, did not see that. Called with mu held.
func (d *Drive) revive(id record.ID) {
	in := d.overlay.inodes[id]
	if in == nil || !in.gone || in.inFlight {
		return
	}
	if n, err := d.links(id); err != nil || n <= 0 {
		return
	}
	published := in.published || d.inView(id)
	in.mu.Lock()
	in.published, in.gone, in.stale = published, false, true
	if in.dirty {
		var f frame
		f.inode(in)
		if err := d.log(&f); err != nil {
			d.cfg.Log.Warn("journal", "err", err) // it is revived again when the journal is next replayed
		}
	}
	in.mu.Unlock()
	d.release(in)
}

// hasten makes the moves of directories due at once that the merge rules have to settle first: the view shows the directory elsewhere by now, or what
// it was moved into stands below it, so that neither can be reached. Called with mu held.
func (d *Drive) hasten() error {
	for id, e := range d.overlay.parents {
		if in := d.overlay.inodes[id]; e.gone || in != nil && !in.published {
			continue
		}
		links, err := d.view.Links(id)
		if err != nil {
			return err
		}
		urgent := slices.ContainsFunc(links, func(l view.Link) bool { return d.overlay.entry(l.Dir, l.Name) == nil })
		for at, n := e.dir, 0; at != record.Root && !urgent && n < 4096; n++ {
			urgent = at == id
			if e := d.entryNaming(at); e != nil {
				at = e.dir
				continue
			}
			above, err := d.view.Links(at)
			if err != nil {
				return err
			}
			if len(above) == 0 {
				break
			}
			at = above[0].Dir
		}
		if urgent {
			e.first, d.urgent = time.Time{}, true
			d.pace.hurry()
		}
	}
	return nil
}

func (d *Drive) inView(id record.ID) bool {
	_, err := d.view.Inode(id)
	return err == nil
}
