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
		f := &fold{txn: v.txn(tx), feed: feed, touched: map[record.ID]bool{}}
		position, err := f.count(feedRow(rowPosition, feed))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if e.Seq < position || e.Seq >= next {
				continue
			}
			f.seq = e.Seq
			if err := f.entry(e); errors.Is(err, record.ErrInvalid) || errors.Is(err, record.ErrSealed) || errors.Is(err, record.ErrUnknownVersion) || errors.Is(err, record.ErrUnknownEpoch) {
				v.skip(feed, e, err)
			} else if err != nil {
				return fmt.Errorf("fold block %d of %s: %w", e.Seq, feed, err)
			}
		}
		if next > position {
			f.put(feedRow(rowPosition, feed), binary.BigEndian.AppendUint64(nil, next))
		}
		for id := range f.touched {
			f.changes = append(f.changes, Change{ID: id})
		}
		changes = f.changes
		return f.flush()
	})
	if err != nil {
		return nil, err
	}
	return changes, nil
}

// fold is one Fold.
type fold struct {
	*txn
	feed    hypercore.Key
	seq     uint64
	touched map[record.ID]bool
	changes []Change
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
		return f.takeDirent(place{k.ID, t}, version, d)
	case record.Inodes:
		n, err := record.DecodeInode(plain)
		if err != nil {
			return err
		}
		return f.takeInode(k.ID, version, n)
	default:
		w, err := record.DecodeWriter(plain)
		if err != nil {
			return err
		}
		return f.takeWriter(k.Feed, version, w)
	}
}

// takeDirent takes in a version of an entry.
func (f *fold) takeDirent(p place, version record.Version, d *record.Dirent) error {
	h, err := f.dirent(p)
	if err != nil {
		return err
	}
	before, err := f.shownAt(p)
	if err != nil {
		return err
	}
	if err := f.named(d.Inode, p, version, d); err != nil {
		return err
	}
	was := liveInodes(h)
	h.arrive(dirents, version, d, f.arrived)
	f.dirtyD[p] = true
	is := liveInodes(h)
	if err := f.mark(sharedRow(p), len(is) > 1); err != nil {
		return err
	}
	if err := f.add([]byte{rowTotals, 'm'}, b2i(dirsAt(h) > 1)-b2i(dirsIn(was) > 1)); err != nil {
		return err
	}
	for id := range was {
		if _, still := is[id]; !still {
			if err := f.add(idRow(rowLive, id), -1); err != nil {
				return err
			}
		}
	}
	for id := range is {
		if _, already := was[id]; !already {
			if err := f.add(idRow(rowLive, id), 1); err != nil {
				return err
			}
		}
	}
	if err := f.add(idRow(rowChildren, p.dir), len(is)-len(was)); err != nil {
		return err
	}
	if err := f.add(idRow(rowSubdirs, p.dir), b2i(dirsIn(is) > 0)-b2i(dirsIn(was) > 0)); err != nil {
		return err
	}
	concerned := []record.ID{d.Inode, p.dir}
	for id := range was {
		concerned = append(concerned, id)
	}
	for _, id := range concerned {
		if err := f.resolve(id, 0); err != nil {
			return err
		}
	}
	return f.compare(p, before)
}

func dirsAt(h *heads[*record.Dirent]) int { return dirsIn(liveInodes(h)) }

func dirsIn(inodes map[record.ID]*record.Dirent) (n int) {
	for _, d := range inodes {
		n += b2i(d.Kind == record.Dir)
	}
	return n
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// liveInodes lists what the live heads name, each with its greatest head.
func liveInodes(h *heads[*record.Dirent]) map[record.ID]*record.Dirent {
	best := map[record.ID]head[*record.Dirent]{}
	for _, o := range h.heads {
		b, ok := best[o.record.Inode]
		if !o.record.Removed && (!ok || record.Less(b.record.Stamp, b.version, o.record.Stamp, o.version)) {
			best[o.record.Inode] = o
		}
	}
	out := make(map[record.ID]*record.Dirent, len(best))
	for id, o := range best {
		out[id] = o.record
	}
	return out
}

// named remembers the greatest version at p that ever named id: where id is shown again if a change outlives its deletion.
func (f *fold) named(id record.ID, p place, version record.Version, d *record.Dirent) error {
	row := namedRow(id, p)
	b, err := f.get(row)
	if err != nil {
		return err
	}
	if b != nil {
		h, err := decodeHeads(dirents, p.dir, b)
		if err != nil {
			return err
		}
		if len(h.heads) > 0 && !record.Less(h.heads[0].record.Stamp, h.heads[0].version, d.Stamp, version) {
			return nil
		}
	}
	short := &record.Dirent{Name: d.Name, Inode: d.Inode, Kind: d.Kind, Stamp: d.Stamp, Removed: d.Removed}
	f.put(row, (&heads[*record.Dirent]{heads: []head[*record.Dirent]{{version, short}}}).encode(dirents))
	if f.namedNow[id] == nil {
		f.namedNow[id] = map[string]bool{}
	}
	f.namedNow[id][string(row)] = true
	return nil
}

// takeInode takes in a version of an inode.
func (f *fold) takeInode(id record.ID, version record.Version, n *record.Inode) error {
	h, err := f.inode(id)
	if err != nil {
		return err
	}
	files, bytes := weight(h)
	first := len(h.heads) == 0
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
	f.touched[id] = true
	if first {
		if err := f.appeared(id); err != nil {
			return err
		}
	}
	return f.resolve(id, 0)
}

// appeared notes that the names of an inode mean something from now on: until its record arrived, who asked for them was told that there is
// nothing, and may remember it. Entries of this same fold are told anyway.
func (f *fold) appeared(id record.ID) error {
	if len(f.namedNow[id]) > 0 {
		return nil
	}
	return f.eachNamed(id, func(p place, _ head[*record.Dirent]) error {
		shown, err := f.shownAt(p)
		for name, is := range shown {
			if is == id {
				f.changes = append(f.changes, Change{ID: id, Dir: p.dir, Name: name})
			}
		}
		return err
	})
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

// takeWriter takes in what a writer is called.
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
	was, _, _ := h.winner(writers)
	h.arrive(writers, version, w, f.arrived)
	is, _, _ := h.winner(writers)
	if was.record != nil && is.record != nil && was.record.Name == is.record.Name {
		f.put(row, h.encode(writers))
		return nil
	}
	places, err := f.conflicting()
	if err != nil {
		return err
	}
	before := make(map[place]map[string]record.ID, len(places))
	for p := range places {
		if before[p], err = f.shownAt(p); err != nil {
			return err
		}
	}
	f.put(row, h.encode(writers))
	for p, names := range before { // the names of its conflicts differ now
		if err := f.compare(p, names); err != nil {
			return err
		}
	}
	return nil
}

// conflicting lists the keys that may show more than one inode, those of this very fold included.
func (f *fold) conflicting() (map[place]bool, error) {
	places := map[place]bool{}
	for _, letter := range []byte{rowShared, rowOrphans} {
		if err := f.scan([]byte{letter}, func(row, _ []byte) (bool, error) {
			places[parsePlace(row[1:])] = true
			return true, nil
		}); err != nil {
			return nil, err
		}
	}
	for row, plain := range f.dirty {
		if plain != nil && (row[0] == rowShared || row[0] == rowOrphans) {
			places[parsePlace([]byte(row[1:]))] = true
		}
	}
	return places, nil
}

// maxDepth bounds how far up a resurrection reaches, so that a cycle of directories ends.
const maxDepth = 4096

// resolve decides whether id, which may have lost its last entry, is shown all the same (merge rule 5): an inode with a head that no delete replaced, or
// a directory in which something is shown, stays where the greatest version that ever named it stood.
func (f *fold) resolve(id record.ID, depth int) error {
	if id == record.Root || depth > maxDepth {
		return nil
	}
	live, err := f.count(idRow(rowLive, id))
	if err != nil {
		return err
	}
	was, err := f.orphanPlace(id)
	if err != nil {
		return err
	}
	var is *stay
	if live == 0 {
		if is, err = f.resurrected(id); err != nil {
			return err
		}
	}
	if was == nil && is == nil || was != nil && is != nil && *was == *is {
		return nil
	}
	for _, step := range []struct {
		at    *stay
		there bool
	}{{was, false}, {is, true}} {
		if step.at == nil {
			continue
		}
		before, err := f.shownAt(step.at.place)
		if err != nil {
			return err
		}
		f.setOrphan(id, *step.at, step.there)
		if err := f.add(idRow(rowChildren, step.at.dir), 2*b2i(step.there)-1); err != nil {
			return err
		}
		if step.at.kind == record.Dir {
			if err := f.add(idRow(rowSubdirs, step.at.dir), 2*b2i(step.there)-1); err != nil {
				return err
			}
		}
		if err := f.compare(step.at.place, before); err != nil {
			return err
		}
		if err := f.resolve(step.at.dir, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// stay is where an inode is shown that lost its last entry, and as what kind.
type stay struct {
	place
	kind record.Kind
}

func (f *fold) setOrphan(id record.ID, s stay, there bool) {
	if !there {
		f.put(idRow(rowOrphan, id), nil)
		f.put(orphanRow(s.place, id), nil)
		return
	}
	f.put(idRow(rowOrphan, id), append(append(append([]byte{}, s.dir[:]...), s.token[:]...), byte(s.kind)))
	f.put(orphanRow(s.place, id), []byte{})
}

// orphanPlace is where id is shown although no live entry names it, or nil.
func (t *txn) orphanPlace(id record.ID) (*stay, error) {
	b, err := t.get(idRow(rowOrphan, id))
	if err != nil || b == nil {
		return nil, err
	}
	s := stay{place: parsePlace(b)}
	if n := len(s.dir) + len(s.token); len(b) > n {
		s.kind = record.Kind(b[n])
	}
	return &s, nil
}

// resurrected is where id has to be shown although no live entry names it, or nil if it is gone for good.
func (f *fold) resurrected(id record.ID) (*stay, error) {
	h, err := f.inode(id)
	if err != nil {
		return nil, err
	}
	alive := liveHeads(h) > 0
	if !alive {
		children, err := f.count(idRow(rowChildren, id))
		if err != nil {
			return nil, err
		}
		alive = children > 0
	}
	if !alive || len(h.heads) == 0 {
		return nil, nil
	}
	var best *head[*record.Dirent]
	var at place
	err = f.eachNamed(id, func(p place, h head[*record.Dirent]) error {
		if best == nil || record.Less(best.record.Stamp, best.version, h.record.Stamp, h.version) {
			best, at = &h, p
		}
		return nil
	})
	if err != nil || best == nil {
		return nil, err
	}
	return &stay{at, best.record.Kind}, nil
}

// eachNamed calls fn for every key that ever named id, with the greatest version that did. It sees what this fold changed.
func (t *txn) eachNamed(id record.ID, fn func(place, head[*record.Dirent]) error) error {
	prefix := idRow(rowNamed, id)
	visit := func(row, plain []byte) (bool, error) {
		p := parsePlace(row[len(prefix):])
		h, err := decodeHeads(dirents, p.dir, plain)
		if err != nil || len(h.heads) == 0 {
			return err == nil, err
		}
		return true, fn(p, h.heads[0])
	}
	for row := range t.namedNow[id] {
		if _, err := visit([]byte(row), t.dirty[row]); err != nil {
			return err
		}
	}
	return t.scan(prefix, func(row, plain []byte) (bool, error) {
		if t.namedNow[id][string(row)] {
			return true, nil
		}
		return visit(row, plain)
	})
}
