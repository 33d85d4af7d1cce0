package view

import (
	"bytes"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"hyphafs.org/hyphafs/drive/record"
)

// slot is the state of the key of an entry: its heads, and what the merge rules made of them.
type slot struct {
	heads[*record.Dirent]
	place  place
	hidden []record.ID // ascending: directories that a live head names and that are shown elsewhere (rules 3 and 4)
	guests []guest     // ascending by inode: what is shown here although no live head says so (rules 4 and 5)
	stored byte        // the letter of its row; 0: it has none
}

// guest is an inode that is shown where no live head names it. The record has the name it is shown by, and stamp and version of
// the entry that speaks for it.
type guest struct {
	head[*record.Dirent]
	home place // of that entry
}

func (g guest) id() record.ID { return g.record.Inode }

// equal reports whether g and o say the same.
func (g guest) equal(o *guest) bool {
	return g.version == o.version && g.home == o.home && g.record.Name == o.record.Name && g.record.Kind == o.record.Kind && g.record.Stamp == o.record.Stamp
}

// encode is the row: that of the heads, 3 hidden, 4 guest {1 version, 2 record, 3 home if it is elsewhere}.
func (s *slot) encode() []byte {
	b := s.heads.encode(dirents)
	for _, id := range s.hidden {
		b = appendField(b, 3, id[:])
	}
	for _, g := range s.guests {
		b = appendField(b, 4, g.encode(s.place))
	}
	return b
}

func (g guest) encode(at place) []byte {
	b := encodeHead(dirents, g.head)
	if g.home != at {
		b = appendField(b, 3, g.home.bytes())
	}
	return b
}

func decodeSlot(p place, b []byte) (*slot, error) {
	s := &slot{place: p}
	err := fields(b, func(n protowire.Number, b []byte) error {
		switch n {
		case 3:
			if len(b) != len(record.ID{}) {
				return ErrDamaged
			}
			s.hidden = append(s.hidden, record.ID(b))
			return nil
		case 4:
			g := guest{home: p}
			err := fields(b, func(n protowire.Number, b []byte) error {
				if n == 3 && len(b) == placeLen {
					g.home = parsePlace(b)
				}
				return nil
			})
			if err == nil {
				g.head, err = decodeHead(dirents, p.dir, b)
			}
			s.guests = append(s.guests, g)
			return err
		}
		return s.field(dirents, p.dir, n, b)
	})
	return s, err
}

// hide lets the live heads that name id show nothing, or again.
func (s *slot) hide(id record.ID, hidden bool) {
	i, is := slices.BinarySearchFunc(s.hidden, id, compareIDs)
	switch {
	case hidden && !is:
		s.hidden = slices.Insert(s.hidden, i, id)
	case !hidden && is:
		s.hidden = slices.Delete(s.hidden, i, i+1)
	}
}

// guest returns the guest with id, or nil.
func (s *slot) guest(id record.ID) *guest {
	for i := range s.guests {
		if s.guests[i].id() == id {
			return &s.guests[i]
		}
	}
	return nil
}

// host takes g in, in the place of one with its id; leave lets one go.
func (s *slot) host(g guest) {
	s.leave(g.id())
	s.guests = append(s.guests, g)
	slices.SortFunc(s.guests, func(a, b guest) int { return compareIDs(a.id(), b.id()) })
}

func (s *slot) leave(id record.ID) {
	s.guests = slices.DeleteFunc(s.guests, func(g guest) bool { return g.id() == id })
}

// living is the inodes that live heads of a key name, each with its greatest head; nearly always one at most.
type living []head[*record.Dirent]

// of returns the head that names id; its record is nil if there is none.
func (l living) of(id record.ID) (o head[*record.Dirent]) {
	for _, o := range l {
		if o.record.Inode == id {
			return o
		}
	}
	return o
}

// live lists the inodes that live heads name, each with its greatest head.
func (s *slot) live() (l living) {
	for _, o := range s.heads.heads {
		if o.record.Removed {
			continue
		}
		i := slices.IndexFunc(l, func(x head[*record.Dirent]) bool { return x.record.Inode == o.record.Inode })
		switch {
		case i < 0:
			l = append(l, o)
		case less(l[i], o):
			l[i] = o
		}
	}
	return l
}

// naming lists the versions of the heads that name id, deletions among them.
func (s *slot) naming(id record.ID) (versions []record.Version) {
	for _, o := range s.heads.heads {
		if o.record.Inode == id {
			versions = append(versions, o.version)
		}
	}
	return versions
}

// alone returns the live head of a key that has no other head and shows that one, which is nearly always so.
func (s *slot) alone() (o head[*record.Dirent], ok bool) {
	if len(s.heads.heads) != 1 || len(s.hidden)+len(s.guests) > 0 || s.heads.heads[0].record.Removed {
		return o, false
	}
	return s.heads.heads[0], true
}

// size is what a slot adds to the counters.
type size struct{ entries, dirs, merged int }

func (s *slot) size() (z size) {
	if o, ok := s.alone(); ok {
		return size{entries: 1, dirs: b2i(o.record.Kind == record.Dir)}
	}
	for _, e := range s.entities() {
		z.entries++
		z.dirs += b2i(e.Kind == record.Dir)
		z.merged |= b2i(len(e.dirs) > 1)
	}
	return z
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// less orders heads by the total order of the merge rules.
func less(a, b head[*record.Dirent]) bool {
	return record.Less(a.record.Stamp, a.version, b.record.Stamp, b.version)
}

func compareIDs(a, b record.ID) int { return bytes.Compare(a[:], b[:]) }

// named is what is known of one key that ever named an inode: the greatest version that did, and the greatest live head that does.
type named struct {
	ever head[*record.Dirent]
	live head[*record.Dirent] // record nil: none
}

// encode is the row: 1 ever, 2 live if it is another, 3 if it is the same.
func (n named) encode() []byte {
	b := appendField(nil, 1, encodeHead(dirents, n.ever))
	switch {
	case n.live.record == nil:
	case n.live.version == n.ever.version:
		b = appendField(b, 3, nil)
	default:
		b = appendField(b, 2, encodeHead(dirents, n.live))
	}
	return b
}

func decodeNamed(dir record.ID, b []byte) (n named, err error) {
	err = fields(b, func(k protowire.Number, b []byte) (err error) {
		switch k {
		case 1:
			n.ever, err = decodeHead(dirents, dir, b)
		case 2:
			n.live, err = decodeHead(dirents, dir, b)
		case 3:
			n.live = n.ever
		}
		return err
	})
	if err == nil && n.ever.record == nil {
		err = ErrDamaged
	}
	return n, err
}

// short is what named keeps of a head.
func short(o head[*record.Dirent]) head[*record.Dirent] {
	d := o.record
	return head[*record.Dirent]{o.version, &record.Dirent{Name: d.Name, Inode: d.Inode, Kind: d.Kind, Removed: d.Removed, MovedFrom: d.MovedFrom, Stamp: d.Stamp}}
}

// home is where an inode is shown, of a directory always and of others only if no live head names them.
type home struct {
	dir   bool   // some version ever said that it is a directory: it has one place
	guest bool   // it is a guest at place at
	entry place  // of the entry that speaks for it
	at    place  // where it is shown, if it is; zero dir and token: nowhere yet
	name  string // by which it is shown there if at is not entry
}

// encode is the row: flags, entry, at, name; nil if it says nothing.
func (h *home) encode() []byte {
	if !h.dir && !h.guest {
		return nil
	}
	b := []byte{byte(b2i(h.dir) | b2i(h.guest)<<1)}
	b = append(append(b, h.entry.bytes()...), h.at.bytes()...)
	return append(b, h.name...)
}

func decodeHome(b []byte) (*home, error) {
	if b == nil {
		return &home{}, nil
	}
	if len(b) < 1+2*placeLen {
		return nil, ErrDamaged
	}
	return &home{dir: b[0]&1 != 0, guest: b[0]&2 != 0, entry: parsePlace(b[1:]), at: parsePlace(b[1+placeLen:]), name: string(b[1+2*placeLen:])}, nil
}
