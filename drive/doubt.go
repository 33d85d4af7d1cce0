package drive

import (
	"errors"
	"fmt"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/hyperdb"
	"hyphafs.org/hyphafs/drive/record"
)

// doubt is the state of a store that may be an older copy of itself: what it would append could stand in its feeds already, elsewhere.
type doubt struct {
	why  string                   // for people
	ends map[hypercore.Key]uint64 // how many blocks of this node's own feeds a peer said it has, the greatest
}

// InDoubt reports whether the store may be an older copy of itself. While it is, nobody may get this node's own feeds from here: a peer that has less of them
// would seem to confirm what it has from us.
func (d *Drive) InDoubt() bool { return d.Doubt() != "" }

// Doubt says why the store may be an older copy of itself; "" if it is none, or peers confirmed it.
func (d *Drive) Doubt() string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.doubt == nil {
		return ""
	}
	return d.doubt.why
}

// End hears how many blocks of feed a peer says it has, which is what a store in doubt waits for.
func (d *Drive) End(feed hypercore.Key, length uint64) {
	if d.own == nil || feed != d.self && feed != d.bytes.Key() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.doubt == nil {
		return
	}
	d.doubt.ends[feed] = max(d.doubt.ends[feed], length)
	d.nudge()
}

// settleDoubt ends the doubt when a peer has at least what is here of this node's own feeds, and what it has more was taken over. A peer that has less knows
// nothing of what came later.
func (d *Drive) settleDoubt() error {
	d.mu.RLock()
	waiting := d.doubt
	var told, toldBytes uint64
	var toldAny, toldAnyBytes bool
	if waiting != nil {
		told, toldAny = waiting.ends[d.self]
		toldBytes, toldAnyBytes = waiting.ends[d.bytes.Key()]
	}
	d.mu.RUnlock()
	length := d.own.Len()
	if waiting == nil || !toldAny || told != length || length > 0 && !toldAnyBytes || d.complete() != nil {
		return nil
	}
	if at, err := d.view.Position(d.self); err != nil || at < length {
		return err // the view is behind what arrived
	}
	end, err := d.contentEnd(length)
	if err != nil || d.bytes.Len() < max(end, toldBytes) {
		return err // a proof of the rest is on its way
	}
	d.mu.Lock()
	d.doubt = nil
	d.mu.Unlock()
	d.cfg.Log.Info("a peer confirmed the end of this node's own feeds", "length", length)
	if d.cfg.Confirmed != nil {
		d.cfg.Confirmed()
	}
	return nil
}

// contentEnd returns how long this node's content feed is at least, by the records in the first length blocks of its own feed.
func (d *Drive) contentEnd(length uint64) (end uint64, err error) {
	for seq := uint64(1); seq < length; seq++ {
		e, err := d.db.Entry(d.self, seq)
		if errors.Is(err, hyperdb.ErrBadEntry) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("block %d of this node's own feed: %w", seq, err)
		}
		k, err := record.ParseKey(e.Key)
		if err != nil || k.Family != record.Inodes && k.Family != record.Pages {
			continue
		}
		plain, err := d.cfg.Keys.Open(d.self, e.Key, e.Value)
		if err != nil {
			continue // the fold passed over it as well
		}
		extents, err := extentsIn(k.Family, plain)
		if err != nil {
			continue
		}
		for _, x := range extents {
			if x.Feed == d.bytes.Key() {
				end = max(end, x.Seq+x.Count)
			}
		}
	}
	return end, nil
}

// extentsIn returns the extents that the record of an inode or a page holds.
func extentsIn(family record.Family, plain []byte) ([]record.Extent, error) {
	if family == record.Pages {
		return record.DecodePage(plain)
	}
	in, err := record.DecodeInode(plain)
	if err != nil {
		return nil, err
	}
	return in.Extents, nil
}
