package view

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/crypto/blake2b"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// ErrDamaged says that the view's rows are not what this package wrote: drop the view and fold again.
var ErrDamaged = errors.New("damaged view")

// View is the fold of the feeds. All methods may be called from many goroutines at once.
type View struct {
	kv      KV
	keys    *record.Keys
	local   [32]byte
	past    Past
	log     *slog.Logger
	skipped atomic.Uint64

	ancestors *lru.Cache[ancestorAt, *ancestor]
	merges    *lru.Cache[record.ID, *merge] // those whose lineage is all here, without the records of their heads
}

// Open returns the view in kv. keys open records; local seals the rows at rest. ErrDamaged if the rows were sealed under another local key, or are of
// another format. The view does not own kv or keys. Without past nothing of several heads of an inode is merged but what is the same in all.
func Open(kv KV, keys *record.Keys, local [32]byte, past Past, log *slog.Logger) (*View, error) {
	ancestors, err := lru.New[ancestorAt, *ancestor](2 * maxLineage)
	if err != nil {
		return nil, err
	}
	merges, err := lru.New[record.ID, *merge](maxMerges)
	if err != nil {
		return nil, err
	}
	v := &View{kv: kv, keys: keys, local: local, past: past, log: log, ancestors: ancestors, merges: merges}
	is, empty := uint64(0), true
	err = v.read(func(t *txn) (err error) {
		if is, err = t.count([]byte{rowFormat}); err != nil || is == format {
			return err
		}
		return t.tx.Scan(nil, nil, func(_, _ []byte) (bool, error) {
			empty = false
			return false, nil
		})
	})
	switch {
	case err != nil:
		return nil, err
	case is == format:
		return v, nil
	case !empty:
		return nil, fmt.Errorf("view of format %d, this version makes %d: %w", is, format, ErrDamaged)
	}
	err = v.kv.Update(func(tx Tx) error {
		t := v.writer(tx)
		t.put([]byte{rowFormat}, binary.BigEndian.AppendUint64(nil, format))
		return t.flush()
	})
	return v, err
}

// Skipped returns how many records were passed over since the view was opened, because they did not open or were invalid.
func (v *View) Skipped() uint64 { return v.skipped.Load() }

func (v *View) skip(feed hypercore.Key, e Entry, err error) {
	v.skipped.Add(1)
	if v.log != nil {
		v.log.Warn("record passed over", "feed", feed.String(), "seq", e.Seq, "err", err)
	}
}

// read runs fn on one state of the view.
func (v *View) read(fn func(*txn) error) error {
	return v.kv.View(func(tx Tx) error { return fn(v.reader(tx)) })
}

// Position returns the block of feed that the fold looks at next.
func (v *View) Position(feed hypercore.Key) (next uint64, err error) {
	err = v.read(func(t *txn) error {
		next, err = t.count(feedRow(rowPosition, feed))
		return err
	})
	return next, err
}

// Writers returns the writers that SetWriters kept.
func (v *View) Writers() (feeds []hypercore.Key, err error) {
	err = v.read(func(t *txn) error {
		b, err := t.get([]byte{rowWriters})
		for ; len(b) >= 32; b = b[32:] {
			feeds = append(feeds, hypercore.Key(b[:32]))
		}
		return err
	})
	return feeds, err
}

// SetWriters keeps the list of writers for the next start.
func (v *View) SetWriters(feeds []hypercore.Key) error {
	return v.kv.Update(func(tx Tx) error {
		t := v.writer(tx)
		b := []byte{}
		for _, f := range feeds {
			b = append(b, f[:]...)
		}
		t.put([]byte{rowWriters}, b)
		return t.flush()
	})
}

// InodeState is an inode as it is shown.
type InodeState struct {
	record.Inode
	Version  record.Version   // of the head shown
	Replaces []record.Version // what a change of what is shown replaces: the head shown, heads of which everything is shown, and deletions that lost against it
	Kept     int              // further live heads
	Counts
}

// Counts is how often an inode is shown, and of a directory what is shown in it.
type Counts struct {
	Nlink   int  // entries shown that name it: of a directory 1, or 0 if it is not shown
	Subdirs int  // directories that it shows
	Counted bool // Subdirs is known: in merged directories nobody counted them
}

// Inode returns an inode that some entry names or named. ErrNotExist if there is no record of it.
func (v *View) Inode(id record.ID) (s InodeState, err error) {
	err = v.read(func(t *txn) error {
		s, err = t.inodeState(id)
		return err
	})
	return s, err
}

// Inodes is Inode of many, in one state of the view; those of which there is no record are zero. The caller owns the slice.
func (v *View) Inodes(ids []record.ID) (states []InodeState, err error) {
	states = make([]InodeState, len(ids))
	err = v.read(func(t *txn) error {
		for i, id := range ids {
			s, err := t.inodeState(id)
			if err != nil && !errors.Is(err, ErrNotExist) {
				return err
			}
			states[i] = s
		}
		return nil
	})
	return states, err
}

func (t *txn) inodeState(id record.ID) (s InodeState, err error) {
	a, err := t.about(id)
	if err != nil {
		return s, err
	}
	o, _, ok := a.heads.winner(inodes)
	if !ok {
		return s, fmt.Errorf("inode %s: %w", id, ErrNotExist)
	}
	if len(a.heads.heads) == 1 { // nearly always
		s = InodeState{Inode: *o.record, Version: o.version, Replaces: []record.Version{o.version}}
	} else if s, err = t.severalHeads(id, &a.heads, o); err != nil {
		return s, err
	}
	s.Counts, err = t.counted(id, &a, s.Kind == record.Dir)
	return s, err
}

// severalHeads is the state of an inode with several heads, o being the one that is shown if none is live.
func (t *txn) severalHeads(id record.ID, all *heads[*record.Inode], o head[*record.Inode]) (s InodeState, err error) {
	s = InodeState{Inode: *o.record, Version: o.version}
	for _, h := range all.heads {
		if h.record.Removed {
			s.Replaces = append(s.Replaces, h.version)
		}
	}
	if o.record.Removed {
		return s, nil
	}
	m, err := t.merge(id, all)
	if err != nil {
		return s, err
	}
	s.Inode, s.Version, s.Kept = m.as(m.winner), m.heads[m.winner].version, len(m.heads)-1
	for i, h := range m.heads {
		if !m.lost[i] {
			s.Replaces = append(s.Replaces, h.version)
		}
	}
	return s, nil
}

// Counts counts what is shown of id, a directory or not, also before a record of it was folded.
func (v *View) Counts(id record.ID, dir bool) (c Counts, err error) {
	err = v.read(func(t *txn) error {
		c, err = t.counts(id, dir)
		return err
	})
	return c, err
}

func (t *txn) counts(id record.ID, dir bool) (c Counts, err error) {
	a, err := t.about(id)
	if err != nil {
		return c, err
	}
	return t.counted(id, &a, dir)
}

// counted is counts of an inode whose rows were read.
func (t *txn) counted(id record.ID, a *about, dir bool) (c Counts, err error) {
	if c.Nlink = int(a.live); a.home.guest || a.home.dir && a.live > 0 {
		c.Nlink = 1
	}
	if !dir {
		return c, nil
	}
	dirs, err := t.members(id)
	if err != nil || len(dirs) > 1 {
		return c, err
	}
	c.Subdirs, c.Counted = int(a.subdirs), true
	return c, nil
}

// Lookup returns what name means in dir. ErrNotExist if nothing is shown there.
func (v *View) Lookup(dir record.ID, name string) (s EntryState, err error) {
	err = v.read(func(t *txn) error {
		s, err = t.find(dir, name)
		return err
	})
	return s, err
}

// LookupInode is Lookup and Inode of what was found; of that there may be no record yet, then it is zero.
func (v *View) LookupInode(dir record.ID, name string) (e EntryState, s InodeState, err error) {
	err = v.read(func(t *txn) error {
		if e, err = t.find(dir, name); err != nil {
			return err
		}
		if s, err = t.inodeState(e.ID); errors.Is(err, ErrNotExist) {
			return nil
		}
		return err
	})
	return e, s, err
}

func (t *txn) find(dir record.ID, name string) (s EntryState, err error) {
	dirs, err := t.members(dir)
	if err != nil {
		return s, err
	}
	es, err := t.lookup(dirs, name)
	if err != nil {
		return s, err
	}
	if len(es) > 0 {
		err := t.complete(&es[0])
		return es[0].EntryState, err
	}
	if strings.Contains(name, " (conflict, ") {
		err = t.list(dir, true, func(e *entity) error {
			if e.Name != name {
				return nil
			}
			err := t.complete(e)
			s = e.EntryState
			return err
		})
	}
	if err == nil && s.Name == "" {
		err = fmt.Errorf("%q in %s: %w", name, dir, ErrNotExist)
	}
	return s, err
}

// Tombstones returns the deletions that stand at name in dir: what a new entry there replaces.
func (v *View) Tombstones(dir record.ID, name string) (versions []record.Version, err error) {
	err = v.read(func(t *txn) error {
		at, err := t.slot(place{dir, v.keys.RawToken(dir, name)})
		if err != nil {
			return err
		}
		for _, o := range at.heads.heads {
			if o.record.Removed {
				versions = append(versions, o.version)
			}
		}
		return nil
	})
	return versions, err
}

// ReadDir returns what dir shows, ascending by name, and which of it is awaited. The caller owns the slice.
func (v *View) ReadDir(dir record.ID) (entries []EntryState, err error) {
	err = v.read(func(t *txn) error {
		some := false
		if err := t.tx.Scan([]byte{rowAwaited}, nil, func(_, _ []byte) (bool, error) { some = true; return false, nil }); err != nil {
			return err
		}
		return t.list(dir, false, func(e *entity) error {
			err := t.complete(e)
			if err == nil && some {
				var row []byte
				row, err = t.tx.Get(idRow(rowAwaited, e.ID))
				e.Awaited = row != nil
			}
			entries = append(entries, e.EntryState)
			return err
		})
	})
	slices.SortFunc(entries, func(a, b EntryState) int { return strings.Compare(a.Name, b.Name) })
	return entries, err
}

// list calls fn for every entry that dir shows, or only for those in conflict. fn must not keep the entity.
func (t *txn) list(dir record.ID, conflictsOnly bool, fn func(*entity) error) error {
	dirs, err := t.members(dir)
	if err != nil {
		return err
	}
	taken := func(name string) (bool, error) {
		es, err := t.lookup(dirs, name)
		return len(es) > 0, err
	}
	each := func(es []entity) error {
		if err := t.nameAll(es, taken); err != nil {
			return err
		}
		for i := range es {
			if err := fn(&es[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(dirs) == 1 {
		return t.eachSlot(dir, conflictsOnly, func(s *slot) error { return each(s.entities()) })
	}
	names := map[string][]entity{}
	for _, d := range dirs {
		if err := t.eachSlot(d, false, func(s *slot) error {
			if es := s.entities(); len(es) > 0 {
				names[es[0].slotName] = append(names[es[0].slotName], es...)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for _, es := range names {
		if err := each(join(es)); err != nil {
			return err
		}
	}
	return nil
}

// eachSlot calls fn for every key of dir that shows something, or only for those that show several entries.
func (t *txn) eachSlot(dir record.ID, sharedOnly bool, fn func(*slot) error) error {
	if !sharedOnly {
		return t.scan(idRow(rowDirent, dir), func(row, plain []byte) (bool, error) {
			s, err := decodeSlot(parsePlace(row[1:]), plain)
			if err != nil {
				return false, err
			}
			return true, fn(s)
		})
	}
	return t.tx.Scan(idRow(rowShared, dir), nil, func(row, _ []byte) (bool, error) {
		s, err := t.shown(parsePlace(row[1:]))
		if err != nil {
			return false, err
		}
		return true, fn(s)
	})
}

// Empty reports whether dir shows nothing.
func (v *View) Empty(dir record.ID) (empty bool, err error) {
	err = v.read(func(t *txn) error {
		dirs, err := t.members(dir)
		if err != nil {
			return err
		}
		empty = true
		for _, d := range dirs {
			n, err := t.count(aboutRow(rowChildren, d))
			if err != nil {
				return err
			}
			empty = empty && n == 0
		}
		return nil
	})
	return empty, err
}

// Link is a place at which an inode is shown.
type Link struct {
	Dir  record.ID
	Name string // without the mark of a conflict
}

// Links returns the places at which id is shown, in no order.
func (v *View) Links(id record.ID) (links []Link, err error) {
	err = v.read(func(t *txn) error {
		return t.eachPlace(id, func(p place) error {
			s, err := t.shown(p)
			if err != nil {
				return err
			}
			for _, e := range s.entities() {
				if slices.Contains(e.dirs, id) {
					links = append(links, Link{p.dir, e.slotName})
				}
			}
			return nil
		})
	})
	return links, err
}

// Writer returns what the writer of feed is called, if somebody said.
func (v *View) Writer(feed hypercore.Key) (w record.Writer, ok bool, err error) {
	err = v.read(func(t *txn) error {
		r, found, err := t.writer(record.Version{Feed: feed})
		if found {
			w, ok = *r, true
		}
		return err
	})
	return w, ok, err
}

// Kept is a live head of an inode beside the one that decides what is shown (merge rule 1).
type Kept struct {
	ID      record.ID
	Version record.Version
	Inode   record.Inode // what the inode would be if this head decided
	Merged  bool         // nothing that it says is hidden, times aside: nobody needs to decide anything
}

// Conflicts returns every kept head, in no order.
func (v *View) Conflicts() (kept []Kept, err error) {
	err = v.read(func(t *txn) error {
		return t.tx.Scan([]byte{rowKept}, nil, func(row, _ []byte) (bool, error) {
			id := record.ID(row[1:])
			h, err := t.inode(id)
			if err != nil {
				return false, err
			}
			m, err := t.merge(id, h)
			if err != nil {
				return false, err
			}
			for i, o := range m.heads {
				if i != m.winner {
					kept = append(kept, Kept{id, o.version, m.as(i), !m.lost[i]})
				}
			}
			return true, nil
		})
	})
	return kept, err
}

// Totals returns the number of inodes and the sum of their sizes in bytes.
func (v *View) Totals() (files, bytes uint64, err error) {
	err = v.read(func(t *txn) error {
		if files, err = t.count([]byte{rowTotals, 'i'}); err != nil {
			return err
		}
		bytes, err = t.count([]byte{rowTotals, 'b'})
		return err
	})
	return files, bytes, err
}

// Digest hashes everything the view says, the list of writers and the positions excepted. Two views of the same records have the same digest, in whatever order the
// records came.
func (v *View) Digest() (sum [32]byte, err error) {
	h, err := blake2b.New256(nil)
	if err != nil {
		return sum, err
	}
	err = v.read(func(t *txn) error {
		return t.scan(nil, func(row, plain []byte) (bool, error) {
			if row[0] == rowWriters || row[0] == rowPosition {
				return true, nil
			}
			plain, err := t.withoutSpent(row, plain)
			if err == nil && plain != nil {
				fmt.Fprintf(h, "%x %x\n", row, plain)
			}
			return err == nil, err
		})
	})
	h.Sum(sum[:0])
	return sum, err
}
