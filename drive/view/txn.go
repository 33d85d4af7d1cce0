package view

import (
	"encoding/binary"
	"fmt"

	"hyphafs.org/hyphafs/drive/record"
)

// txn reads rows, opens them, and in a fold keeps those it changed until flush. Values at rest are sealed under the local key, bound to their row: names
// are people's secrets; keys are ids and tokens.
type txn struct {
	view *View
	tx   Tx
	*changed
}

// changed is what an Update read and changed; readers have none.
type changed struct {
	slots  map[place]*slot
	inodes map[record.ID]*heads[*record.Inode]
	homes  map[record.ID]*home
	rows   map[string][]byte             // small rows, plain; nil: deleted
	named  map[record.ID]map[place]named // rows of rowNamed
	dirtyS map[place]bool
	dirtyI map[record.ID]bool
	dirtyH map[record.ID]bool
}

// reader returns a txn that keeps nothing.
func (v *View) reader(tx Tx) *txn { return &txn{view: v, tx: tx} }

// writer returns a txn that may change rows.
func (v *View) writer(tx Tx) *txn {
	return &txn{view: v, tx: tx, changed: &changed{slots: map[place]*slot{}, inodes: map[record.ID]*heads[*record.Inode]{}, homes: map[record.ID]*home{},
		rows: map[string][]byte{}, named: map[record.ID]map[place]named{}, dirtyS: map[place]bool{}, dirtyI: map[record.ID]bool{}, dirtyH: map[record.ID]bool{}}}
}

// get reads and opens a row; nil if it is not there.
func (t *txn) get(row []byte) ([]byte, error) {
	if t.changed != nil {
		if b, ok := t.rows[string(row)]; ok {
			return b, nil
		}
	}
	sealed, err := t.tx.Get(row)
	if err != nil || sealed == nil {
		return nil, err
	}
	return t.open(row, sealed)
}

func (t *txn) open(row, sealed []byte) ([]byte, error) {
	b, err := record.OpenLocalAt(t.view.local, "view", row, sealed)
	if err != nil {
		return nil, fmt.Errorf("view row %x: %w", row, ErrDamaged)
	}
	if b == nil {
		b = []byte{} // a row that says something by being there
	}
	return b, nil
}

// put writes a row at flush; nil deletes it.
func (t *txn) put(row, plain []byte) { t.rows[string(row)] = plain }

// slot returns the state of an entry, an empty one if nothing is known. In a fold it is the one that flush writes.
func (t *txn) slot(p place) (*slot, error) {
	if t.changed != nil && t.slots[p] != nil {
		return t.slots[p], nil
	}
	s := &slot{place: p}
	for _, letter := range []byte{rowDirent, rowDead} {
		b, err := t.get(p.row(letter))
		if err != nil {
			return nil, err
		}
		if b != nil {
			if s, err = decodeSlot(p, b); err != nil {
				return nil, err
			}
			s.stored = letter
			break
		}
	}
	if t.changed != nil {
		t.slots[p] = s
	}
	return s, nil
}

// shown is slot for readers that want to know what is shown: one get.
func (t *txn) shown(p place) (*slot, error) {
	if t.changed != nil {
		return t.slot(p)
	}
	b, err := t.get(p.row(rowDirent))
	if err != nil || b == nil {
		return &slot{place: p}, err
	}
	return decodeSlot(p, b)
}

// inode returns the heads of an inode, empty ones if nothing is known.
func (t *txn) inode(id record.ID) (*heads[*record.Inode], error) {
	if t.changed != nil && t.inodes[id] != nil {
		return t.inodes[id], nil
	}
	b, err := t.get(aboutRow(rowInode, id))
	if err != nil {
		return nil, err
	}
	h, err := decodeHeads(inodes, id, b)
	if err != nil {
		return nil, err
	}
	if t.changed != nil {
		t.inodes[id] = &h
	}
	return &h, nil
}

// about is what the rows say of one inode that tell how it is shown.
type about struct {
	heads   heads[*record.Inode]
	live    uint64 // keys where a live head names it
	subdirs uint64 // of a directory
	home    *home  // an empty one if it is only where live heads name it
}

// about reads what the rows of id say. They stand together, so a reader gets there once.
func (t *txn) about(id record.ID) (a about, err error) {
	if t.changed != nil {
		return t.aboutChanged(id)
	}
	prefix := idRow(rowAbout, id)
	err = t.tx.Scan(prefix, nil, func(row, sealed []byte) (more bool, err error) {
		what := row[len(prefix)]
		if what > rowLive { // the rows of a name each and of children come behind the others
			return false, nil
		}
		b, err := t.open(row, sealed)
		if err != nil {
			return false, err
		}
		switch what {
		case rowInode:
			a.heads, err = decodeHeads(inodes, id, b)
		case rowHome:
			a.home, err = decodeHome(b)
		case rowLive:
			a.live, err = decodeCount(row, b)
		case rowSubdirs:
			a.subdirs, err = decodeCount(row, b)
		}
		return err == nil, err
	})
	if a.home == nil {
		a.home = &home{}
	}
	return a, err
}

// aboutChanged is about in a fold.
func (t *txn) aboutChanged(id record.ID) (a about, err error) {
	h, err := t.inode(id)
	if err != nil {
		return a, err
	}
	a.heads = *h
	if a.live, err = t.count(aboutRow(rowLive, id)); err != nil {
		return a, err
	}
	if a.subdirs, err = t.count(aboutRow(rowSubdirs, id)); err != nil {
		return a, err
	}
	a.home, err = t.home(id)
	return a, err
}

// home returns where an inode is shown, an empty one if that is only where live heads name it.
func (t *txn) home(id record.ID) (*home, error) {
	if t.changed != nil && t.homes[id] != nil {
		return t.homes[id], nil
	}
	b, err := t.get(aboutRow(rowHome, id))
	if err != nil {
		return nil, err
	}
	h, err := decodeHome(b)
	if err == nil && t.changed != nil {
		t.homes[id] = h
	}
	return h, err
}

// namedAt returns what is known of key p naming id. ok is false if it never did.
func (t *txn) namedAt(id record.ID, p place) (n named, ok bool, err error) {
	if t.changed != nil {
		if n, ok := t.named[id][p]; ok {
			return n, true, nil
		}
	}
	b, err := t.get(namedRow(id, p))
	if err != nil || b == nil {
		return n, false, err
	}
	n, err = decodeNamed(p.dir, b)
	return n, err == nil, err
}

// setNamed changes what namedAt returns.
func (t *txn) setNamed(id record.ID, p place, n named) {
	if t.named[id] == nil {
		t.named[id] = map[place]named{}
	}
	t.named[id][p] = n
}

// eachNamed calls fn for every key that ever named id.
func (t *txn) eachNamed(id record.ID, fn func(place, named) error) error {
	var changed map[place]named
	if t.changed != nil {
		changed = t.named[id]
	}
	for p, n := range changed {
		if err := fn(p, n); err != nil {
			return err
		}
	}
	prefix := aboutRow(rowNamed, id)
	return t.scan(prefix, func(row, plain []byte) (bool, error) {
		p := parsePlace(row[len(prefix):])
		if _, ok := changed[p]; ok {
			return true, nil
		}
		n, err := decodeNamed(p.dir, plain)
		if err != nil {
			return false, err
		}
		return true, fn(p, n)
	})
}

// count reads a counter row.
func (t *txn) count(row []byte) (uint64, error) {
	b, err := t.get(row)
	if err != nil || b == nil {
		return 0, err
	}
	return decodeCount(row, b)
}

func decodeCount(row, b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("view row %x: %w", row, ErrDamaged)
	}
	return binary.BigEndian.Uint64(b), nil
}

// add changes a counter row; at zero the row goes.
func (t *txn) add(row []byte, by int) error {
	if by == 0 {
		return nil
	}
	n, err := t.count(row)
	if err != nil {
		return err
	}
	n += uint64(by)
	if n == 0 {
		t.put(row, nil)
	} else {
		t.put(row, binary.BigEndian.AppendUint64(nil, n))
	}
	return nil
}

// mark puts or takes away a row that says something by being there.
func (t *txn) mark(row []byte, there bool) error {
	b, err := t.get(row)
	if err != nil || (b != nil) == there {
		return err
	}
	if there {
		t.put(row, []byte{})
	} else {
		t.put(row, nil)
	}
	return nil
}

// scan is Tx.Scan over the rows as they are stored, each opened: what a fold changed since is not among them. fn must not keep row.
func (t *txn) scan(prefix []byte, fn func(row, plain []byte) (bool, error)) error {
	return t.tx.Scan(prefix, nil, func(row, sealed []byte) (bool, error) {
		b, err := t.open(row, sealed)
		if err != nil {
			return false, err
		}
		return fn(row, b)
	})
}

// flush seals and writes what changed.
func (t *txn) flush() error {
	for p := range t.dirtyS {
		s := t.slots[p]
		letter, plain := byte(rowDead), s.encode()
		if s.size().entries > 0 {
			letter = rowDirent
		}
		if len(plain) == 0 {
			letter = 0
		}
		if s.stored != 0 && s.stored != letter {
			t.put(p.row(s.stored), nil)
		}
		if letter != 0 {
			t.put(p.row(letter), plain)
		}
	}
	for id := range t.dirtyI {
		t.put(aboutRow(rowInode, id), t.inodes[id].encode(inodes))
	}
	for id := range t.dirtyH {
		t.put(aboutRow(rowHome, id), t.homes[id].encode())
	}
	for id, places := range t.named {
		for p, n := range places {
			t.put(namedRow(id, p), n.encode())
		}
	}
	for row, plain := range t.rows {
		if plain == nil {
			if err := t.tx.Delete([]byte(row)); err != nil {
				return err
			}
			continue
		}
		sealed, err := record.SealLocal(t.view.local, "view"+row, plain)
		if err != nil {
			return err
		}
		if err := t.tx.Put([]byte(row), sealed); err != nil {
			return err
		}
	}
	return nil
}
