package hypercore

import (
	"errors"
	"fmt"
	"io"
)

// The bitfield file, behind its header, is entry after entry: 1,024 bytes of data bits (8,192 blocks) and 2,048 bytes of tree bits
// (the 16,384 nodes above and at them).

// setData marks block seq as stored or not. Called with mu held.
func (f *Feed) setData(seq uint64, stored bool) {
	if !f.data.set(seq, stored) {
		return
	}
	if stored {
		f.have++
		f.raiseFull()
	} else {
		f.have--
		f.full = min(f.full, seq)
	}
	f.dirty[seq/(8*pageBytes)] = struct{}{}
}

// raiseFull passes over the blocks that are stored: each once, so that a search for what is missing does not begin at the start of a long feed. Called with mu held.
func (f *Feed) raiseFull() {
	if n, ok := f.data.nextClear(f.full, maxLength); ok {
		f.full = n
	}
}

// setNode marks node i as known. Called with mu held.
func (f *Feed) setNode(i uint64) {
	if f.tree.set(i, true) {
		f.dirty[i/(16*pageBytes)] = struct{}{}
	}
}

// takeDirty copies the entries that changed and forgets that they did. Called with mu held.
func (f *Feed) takeDirty() map[uint64][]byte {
	entries := make(map[uint64][]byte, len(f.dirty))
	for n := range f.dirty {
		entries[n] = f.entry(n)
	}
	clear(f.dirty)
	return entries
}

// entry builds entry n of the bitfield file. Called with mu held.
func (f *Feed) entry(n uint64) []byte {
	e := make([]byte, bitfieldEntry)
	if p := f.data[n]; p != nil {
		copy(e, p[:])
	}
	for k := range uint64(2) {
		if p := f.tree[2*n+k]; p != nil {
			copy(e[(1+k)*pageBytes:], p[:])
		}
	}
	return e
}

// writeBitfield makes the entries durable.
func (f *Feed) writeBitfield(entries map[uint64][]byte) error {
	for n, e := range entries {
		if _, err := f.files.bitfield.WriteAt(e, int64(sizeHeader+n*bitfieldEntry)); err != nil {
			return fmt.Errorf("write bitfield: %w", err)
		}
	}
	if len(entries) == 0 {
		return nil
	}
	return f.files.bitfield.Sync()
}

// readBitfield loads the bits below the committed head; bits beyond it speak of what was never committed.
func (f *Feed) readBitfield() error {
	length := f.head.Length
	e := make([]byte, bitfieldEntry)
	for n := uint64(0); n*8*pageBytes < length; n++ {
		err := readFull(f.files.bitfield, e, int64(sizeHeader+n*bitfieldEntry))
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read bitfield: %w", err)
		}
		loadPage(f.data, n, e[:pageBytes])
		loadPage(f.tree, 2*n, e[pageBytes:2*pageBytes])
		loadPage(f.tree, 2*n+1, e[2*pageBytes:])
	}
	for seq := length; seq%(8*pageBytes) != 0; seq++ {
		f.data.set(seq, false)
	}
	for i := 2 * length; i%(16*pageBytes) != 0; i++ {
		f.tree.set(i, false)
	}
	f.dropTornNodes()
	f.have = f.data.count()
	f.raiseFull()
	return nil
}

func loadPage(s bitset, n uint64, b []byte) {
	if [pageBytes]byte(b) != [pageBytes]byte{} {
		s[n] = new([pageBytes]byte)
		copy(s[n][:], b)
	}
}

// dropTornNodes forgets the nodes below 2*length whose tree reaches beyond it: an append that never committed wrote them.
func (f *Feed) dropTornNodes() {
	length := f.head.Length
	for d := uint(1); d < 53; d++ {
		if i := index(d, length>>d); i < 2*length { // the tree of depth d that block length lies in
			f.tree.set(i, false)
		}
	}
	for _, r := range f.roots {
		f.tree.set(r.Index, true)
	}
}
