package view

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// Entry is one entry of a writer's feed as the fold takes it. Keys that are none of ours are passed over.
type Entry struct {
	Seq   uint64
	Key   string
	Value []byte // sealed
}

// Change is something that the fold made different: with a Name, what that name in Dir means (ID; zero: nothing; Was: what it meant before), else the
// attributes or content of ID.
type Change struct {
	ID   record.ID
	Dir  record.ID
	Name string
	Was  record.ID
}

// Fold takes entries of feed, ascending by Seq, into the view and moves the feed's position to next: both or, on an error, neither. A record that does not
// open or that no node of ours writes is counted, logged and passed over.
func (v *View) Fold(ctx context.Context, feed hypercore.Key, next uint64, entries []Entry) (changes []Change, err error) {
	err = v.kv.Update(func(tx Tx) error {
		changes, err = v.foldInto(ctx, tx, feed, next, entries)
		return err
	})
	if err != nil {
		return nil, err
	}
	return changes, nil
}

// FoldShown is Fold on a Buffered, with all of it being seen when then, which is called once unless there is an error, calls show.
func (v *View) FoldShown(ctx context.Context, feed hypercore.Key, next uint64, entries []Entry, then func(changes []Change, show func())) error {
	var changes []Change
	return v.kv.(*Buffered).UpdateShown(func(tx Tx) (err error) {
		changes, err = v.foldInto(ctx, tx, feed, next, entries)
		return err
	}, func(show func()) { then(changes, show) })
}

func (v *View) foldInto(ctx context.Context, tx Tx, feed hypercore.Key, next uint64, entries []Entry) ([]Change, error) {
	f := v.fold(tx, feed)
	position, err := f.count(feedRow(rowPosition, feed))
	if err != nil {
		return nil, err
	}
	clock, err := f.readClock(feed)
	if err != nil {
		return nil, err
	}
	f.clock = clock
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if e.Seq < position || e.Seq >= next {
			continue
		}
		f.seq = e.Seq
		if err := f.entry(e); errors.Is(err, record.ErrInvalid) || errors.Is(err, record.ErrSealed) || errors.Is(err, record.ErrUnknownVersion) || errors.Is(err, record.ErrUnknownEpoch) {
			v.skip(feed, e, err)
		} else if err != nil {
			return nil, fmt.Errorf("fold block %d of %s: %w", e.Seq, feed, err)
		}
	}
	if next > position {
		f.put(feedRow(rowPosition, feed), binary.BigEndian.AppendUint64(nil, next))
	}
	if f.clock != clock {
		f.put(feedRow(rowClock, feed), f.clock.encode())
	}
	if err := f.settle(); err != nil {
		return nil, fmt.Errorf("settle blocks %d to %d of %s: %w", position, next, feed, err)
	}
	changes, err := f.tell()
	return changes, errors.Join(err, f.flush())
}

// fold is one Fold. It takes in the records first, then settles what they mean for what is shown (settle.go).
type fold struct {
	*txn
	feed    hypercore.Key
	seq     uint64
	clock   Clock
	edited  []place            // slots that may change, in the order they were first met
	before  map[place]picture  // of each of these, what it was
	ids     map[record.ID]bool // inodes that may be shown elsewhere than before
	dirs    map[record.ID]bool // of these, directories whose entries changed
	first   []record.ID        // inodes of which there was no record before
	touched map[record.ID]bool // inodes whose attributes or content may be others
}

// picture is what a slot showed.
type picture struct {
	names map[string]record.ID
	size  size
}

func (p picture) shows(id record.ID) bool {
	for _, shown := range p.names {
		if shown == id {
			return true
		}
	}
	return false
}

func (v *View) fold(tx Tx, feed hypercore.Key) *fold {
	return &fold{txn: v.writer(tx), feed: feed, before: map[place]picture{}, ids: map[record.ID]bool{}, dirs: map[record.ID]bool{}, touched: map[record.ID]bool{}}
}

// edit returns the slot at p to be changed.
func (f *fold) edit(p place) (*slot, error) {
	s, err := f.slot(p)
	if err != nil {
		return nil, err
	}
	if err := f.look(p); err != nil {
		return nil, err
	}
	f.dirtyS[p] = true
	return s, nil
}

// look remembers what p shows, for tell.
func (f *fold) look(p place) error {
	if _, ok := f.before[p]; ok {
		return nil
	}
	s, err := f.slot(p)
	if err != nil {
		return err
	}
	names, err := f.shownAt(p)
	if err != nil {
		return err
	}
	f.before[p] = picture{names, s.size()}
	f.edited = append(f.edited, p)
	return nil
}

// arrived reports whether version v was folded before the one at hand.
func (f *fold) arrived(v record.Version) bool {
	if v.Feed == f.feed {
		return v.Seq < f.seq
	}
	n, err := f.count(feedRow(rowPosition, v.Feed))
	return err == nil && v.Seq < n
}

func (f *fold) entry(e Entry) error {
	k, err := record.ParseKey(e.Key)
	if err != nil {
		return nil // another program's key, or an authorisation
	}
	if k.Family == record.Pages {
		return nil // whoever wants the extents of a file reads them there
	}
	plain, err := f.view.keys.Open(f.feed, e.Key, e.Value)
	if err != nil {
		return err
	}
	version := record.Version{Feed: f.feed, Seq: e.Seq}
	switch k.Family {
	case record.Dirents:
		d, err := record.DecodeDirent(k.ID, plain)
		if err != nil {
			return err
		}
		if d.Stamp.Wall == 0 || f.view.keys.Token(k.ID, d.Name) != k.Token {
			return fmt.Errorf("name and token differ: %w", record.ErrInvalid)
		}
		t, err := parseToken(k.Token)
		if err != nil {
			return err
		}
		f.clock.saw(d.Stamp)
		return f.takeDirent(place{k.ID, t}, version, d)
	case record.Inodes:
		n, err := record.DecodeInode(plain)
		if err != nil {
			return err
		}
		if k.ID == record.Root && (n.Kind != record.Dir || n.Removed) {
			return fmt.Errorf("the root, of kind %d, removed %v: %w", n.Kind, n.Removed, record.ErrInvalid)
		}
		f.clock.saw(n.Stamp)
		return f.takeInode(k.ID, version, n)
	default:
		w, err := record.DecodeWriter(plain)
		if err != nil {
			return err
		}
		f.clock.saw(w.Stamp)
		return f.takeWriter(k.Feed, version, w)
	}
}

// takeDirent takes in a version of an entry.
func (f *fold) takeDirent(p place, version record.Version, d *record.Dirent) error {
	s, err := f.edit(p)
	if err != nil {
		return err
	}
	was := s.live()
	s.arrive(dirents, version, d, f.arrived)
	is := s.live()
	if d.Kind == record.Dir {
		h, err := f.home(d.Inode)
		if err != nil {
			return err
		}
		h.dir = true
		f.dirtyH[d.Inode] = true
	}
	if err := f.name(d.Inode, p, head[*record.Dirent]{version, d}, is.of(d.Inode)); err != nil {
		return err
	}
	for _, o := range was {
		id := o.record.Inode
		now := is.of(id)
		if id != d.Inode && now != o {
			if err := f.name(id, p, o, now); err != nil {
				return err
			}
		}
		if now.record == nil {
			s.hide(id, false)
			if err := f.add(aboutRow(rowLive, id), -1); err != nil {
				return err
			}
		}
	}
	for _, o := range is {
		if id := o.record.Inode; was.of(id).record == nil {
			if err := f.add(aboutRow(rowLive, id), 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// name notes that version o at p names id and that live is the greatest live head there that does, if any.
func (f *fold) name(id record.ID, p place, o, live head[*record.Dirent]) error {
	n, ok, err := f.namedAt(id, p)
	if err != nil {
		return err
	}
	if !ok || less(n.ever, o) {
		n.ever = short(o)
	}
	n.live = live
	if live.record != nil {
		n.live = short(live)
	}
	f.setNamed(id, p, n)
	f.ids[id] = true
	h, err := f.home(id)
	if h != nil && h.dir {
		f.dirs[id] = true
	}
	return err
}

// takeInode takes in a version of an inode.
func (f *fold) takeInode(id record.ID, version record.Version, n *record.Inode) error {
	h, err := f.inode(id)
	if err != nil {
		return err
	}
	files, bytes := weight(h)
	if len(h.heads) == 0 {
		f.first = append(f.first, id)
	}
	h.arrive(inodes, version, n, f.arrived)
	f.dirtyI[id] = true
	files2, bytes2 := weight(h)
	if err := f.add([]byte{rowTotals, 'i'}, files2-files); err != nil {
		return err
	}
	if err := f.add([]byte{rowTotals, 'b'}, bytes2-bytes); err != nil {
		return err
	}
	if err := f.mark(idRow(rowKept, id), liveHeads(h) > 1); err != nil {
		return err
	}
	f.touched[id], f.ids[id] = true, true
	return nil
}

// weight is what an inode adds to the totals.
func weight(h *heads[*record.Inode]) (files, bytes int) {
	if w, live, ok := h.winner(inodes); ok && live {
		return 1, int(w.record.Size)
	}
	return 0, 0
}

// liveHeads counts the heads that are no deletions.
func liveHeads(h *heads[*record.Inode]) (n int) {
	for _, o := range h.heads {
		n += b2i(!o.record.Removed)
	}
	return n
}

// takeWriter takes in what a writer is called. The names of conflicts hold it.
func (f *fold) takeWriter(feed hypercore.Key, version record.Version, w *record.Writer) error {
	row := feedRow(rowWriter, feed)
	b, err := f.get(row)
	if err != nil {
		return err
	}
	h, err := decodeHeads(writers, record.Root, b)
	if err != nil {
		return err
	}
	if err := f.tx.Scan([]byte{rowShared}, nil, func(row, _ []byte) (bool, error) { return true, f.look(parsePlace(row[1:])) }); err != nil {
		return err
	}
	h.arrive(writers, version, w, f.arrived)
	f.put(row, h.encode(writers))
	return nil
}
