package view

import (
	"encoding/binary"
	"fmt"

	"hyphafs.org/hyphafs/drive/record"
)

// txn reads rows, opens them, and keeps those it changed until flush. Values at rest are sealed under the local key, bound to their row: names are people's
// secrets; keys are ids and tokens.
type txn struct {
	view     *View
	tx       Tx
	dirents  map[place]*heads[*record.Dirent]
	inodes   map[record.ID]*heads[*record.Inode]
	dirty    map[string][]byte             // small rows, plain; nil: deleted
	namedNow map[record.ID]map[string]bool // the named rows among them, by inode
	dirtyD   map[place]bool
	dirtyI   map[record.ID]bool
}

func (v *View) txn(tx Tx) *txn {
	return &txn{view: v, tx: tx, dirents: map[place]*heads[*record.Dirent]{}, inodes: map[record.ID]*heads[*record.Inode]{},
		dirty: map[string][]byte{}, namedNow: map[record.ID]map[string]bool{}, dirtyD: map[place]bool{}, dirtyI: map[record.ID]bool{}}
}

// get reads and opens a row; nil if it is not there.
func (t *txn) get(row []byte) ([]byte, error) {
	if b, ok := t.dirty[string(row)]; ok {
		return b, nil
	}
	sealed, err := t.tx.Get(row)
	if err != nil || sealed == nil {
		return nil, err
	}
	return t.open(row, sealed)
}

func (t *txn) open(row, sealed []byte) ([]byte, error) {
	b, err := record.OpenLocal(t.view.local, "view"+string(row), sealed)
	if err != nil {
		return nil, fmt.Errorf("view row %x: %w", row, ErrDamaged)
	}
	if b == nil {
		b = []byte{} // a row that says something by being there
	}
	return b, nil
}

// put writes a row at flush; nil deletes it.
func (t *txn) put(row, plain []byte) { t.dirty[string(row)] = plain }

// dirent returns the heads of an entry, empty ones if nothing is known.
func (t *txn) dirent(p place) (*heads[*record.Dirent], error) {
	if h := t.dirents[p]; h != nil {
		return h, nil
	}
	b, err := t.get(p.row())
	if err != nil {
		return nil, err
	}
	h, err := decodeHeads(dirents, p.dir, b)
	if err != nil {
		return nil, err
	}
	t.dirents[p] = &h
	return &h, nil
}

// inode returns the heads of an inode, empty ones if nothing is known.
func (t *txn) inode(id record.ID) (*heads[*record.Inode], error) {
	if h := t.inodes[id]; h != nil {
		return h, nil
	}
	b, err := t.get(idRow(rowInode, id))
	if err != nil {
		return nil, err
	}
	h, err := decodeHeads(inodes, id, b)
	if err != nil {
		return nil, err
	}
	t.inodes[id] = &h
	return &h, nil
}

// count reads a counter row.
func (t *txn) count(row []byte) (uint64, error) {
	b, err := t.get(row)
	if err != nil || b == nil {
		return 0, err
	}
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

// scan is Tx.Scan over stored and changed rows alike, each opened. It may be used while nothing below prefix is dirty, or by readers.
func (t *txn) scan(prefix []byte, fn func(row, plain []byte) (bool, error)) error {
	return t.tx.Scan(prefix, nil, func(row, sealed []byte) (bool, error) {
		if b, ok := t.dirty[string(row)]; ok {
			if b == nil {
				return true, nil
			}
			return fn(row, b)
		}
		b, err := t.open(row, sealed)
		if err != nil {
			return false, err
		}
		return fn(row, b)
	})
}

// flush seals and writes what changed.
func (t *txn) flush() error {
	for p := range t.dirtyD {
		t.put(p.row(), t.dirents[p].encode(dirents))
	}
	for id := range t.dirtyI {
		t.put(idRow(rowInode, id), t.inodes[id].encode(inodes))
	}
	for row, plain := range t.dirty {
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
	clear(t.dirty)
	clear(t.dirtyD)
	clear(t.dirtyI)
	return nil
}
