package view

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

var fuzzKeys = &record.Keys{Names: [32]byte{1}, Epochs: map[uint32]record.EpochKeys{0: {Meta: [32]byte{2}, Blocks: [32]byte{3}}}}

// samples are encoded records that refer to each other: two entries of one name, a directory moved into another, an inode with two heads, a
// writer.
func samples() [][]byte {
	at := func(n uint64) record.Stamp { return record.Stamp{Wall: 1700000000000 + n} }
	v := func(feed byte, seq uint64) record.Version { return record.Version{Feed: hypercore.Key{feed}, Seq: seq} }
	return [][]byte{
		(&record.Dirent{Name: "a", Inode: record.ID{5}, Kind: record.Dir, Stamp: at(1)}).Encode(),
		(&record.Dirent{Name: "a", Inode: record.ID{6}, Kind: record.Dir, Stamp: at(2), Replaces: []record.Version{v(1, 1)}}).Encode(),
		(&record.Dirent{Name: "b", Inode: record.ID{6}, Kind: record.Dir, Stamp: at(3), MovedFrom: &record.Place{Name: "a"}, Replaces: []record.Version{v(2, 1)}}).Encode(),
		(&record.Dirent{Name: "a", Inode: record.ID{5}, Kind: record.Dir, Removed: true, MovedTo: &record.Place{Dir: record.ID{6}, Name: "c"}, Stamp: at(4), Replaces: []record.Version{v(1, 1), v(2, 2)}}).Encode(),
		(&record.Inode{Kind: record.Dir, Mode: 0o755, Stamp: at(1)}).Encode(),
		(&record.Inode{Kind: record.File, Size: 70_000, Stamp: at(5), Extents: []record.Extent{{Count: 2, Feed: hypercore.Key{3}}}, Replaces: []record.Version{v(1, 2)}}).Encode(),
		(&record.Writer{Name: "Laptop", Stamp: at(1)}).Encode(),
	}
}

// keyOf puts a record under a key where it can be taken: an entry under its own token, in the root or in one of two directories.
func keyOf(selector byte, plain []byte) string {
	dir := []record.ID{{}, {5}, {6}}[selector/4%3]
	if d, err := record.DecodeDirent(dir, plain); selector%4 < 2 && err == nil {
		return record.DirentKey(dir, fuzzKeys.Token(dir, d.Name))
	}
	if selector%4 == 3 {
		return record.WriterKey(hypercore.Key{selector})
	}
	return record.InodeKey(record.ID{5 + selector/4%2})
}

// FuzzFold: two writers who hold the keys write whatever they like. It folds, what is shown can be asked for, and the order of arrival changes nothing.
func FuzzFold(f *testing.F) {
	s := samples()
	for i := range s {
		f.Add(uint32(0x01020400*i), s[i], s[(i+1)%len(s)], s[(i+2)%len(s)], s[(i+3)%len(s)])
	}
	f.Fuzz(func(t *testing.T, selectors uint32, a, b, c, d []byte) {
		logs := map[hypercore.Key][]Entry{}
		for i, plain := range [][]byte{a, b, c, d} {
			feed := hypercore.Key{byte(1 + i/2)}
			key := keyOf(byte(selectors>>(8*i)), plain)
			sealed, err := fuzzKeys.Seal(feed, key, plain)
			if err != nil {
				t.Fatal(err)
			}
			logs[feed] = append(logs[feed], Entry{Seq: uint64(1 + i%2), Key: key, Value: sealed})
		}
		one, two := hypercore.Key{1}, hypercore.Key{2}
		var want []string
		for _, order := range [][]hypercore.Key{{one, one, two, two}, {two, two, one, one}, {one, two, one, two}} {
			v, err := Open(NewMemory(), fuzzKeys, [32]byte{9}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			next := map[hypercore.Key]int{}
			for _, feed := range order {
				n := next[feed]
				next[feed]++
				if _, err := v.Fold(t.Context(), feed, uint64(n+2), logs[feed][n:n+1]); err != nil {
					t.Fatal(err)
				}
			}
			look(t, v)
			digest, err := v.Digest()
			if err != nil {
				t.Fatal(err)
			}
			if got := append(v.shown(t, record.Root, 3), string(digest[:])); want == nil {
				want = got
			} else if !slices.Equal(got, want) {
				t.Fatalf("in the order %v\n%q, first\n%q", order, got, want)
			}
		}
	})
}

// shown lists the names below dir.
func (v *View) shown(t *testing.T, dir record.ID, depth int) (out []string) {
	es, err := v.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		out = append(out, e.Name+" "+e.ID.String())
		if got, err := v.Lookup(dir, e.Name); err != nil || got.ID != e.ID {
			t.Fatalf("%q is listed, but looked up it is %+v (%v)", e.Name, got, err)
		}
		if e.Kind == record.Dir && depth > 0 {
			out = append(out, v.shown(t, e.ID, depth-1)...)
		}
	}
	return out
}

// look asks for all that can be asked for; rows that are not ours are ErrDamaged and nothing worse.
func look(t *testing.T, v *View) {
	t.Helper()
	_, _, err1 := v.Totals()
	_, err2 := v.Conflicts()
	_, err3 := v.Writers()
	_, err4 := v.Tombstones(record.Root, "a")
	_, err5 := v.Empty(record.Root)
	errs := []error{err1, err2, err3, err4, err5}
	for _, id := range []record.ID{{}, {5}, {6}} {
		_, err1 := v.Inode(id)
		_, err2 := v.ReadDir(id)
		_, err3 := v.Lookup(id, "a")
		errs = append(errs, err1, err2, err3)
	}
	for _, err := range errs {
		if err != nil && !errors.Is(err, ErrNotExist) && !errors.Is(err, ErrDamaged) && !errors.Is(err, record.ErrInvalid) {
			t.Fatal(err)
		}
	}
}

// FuzzRow: a row that decodes encodes to the same, and whatever stands in one row of a view, asking it is answered or ErrDamaged.
func FuzzRow(f *testing.F) {
	s := samples()
	v, err := Open(NewMemory(), fuzzKeys, [32]byte{9}, nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	for i, plain := range s {
		feed, key := hypercore.Key{byte(1 + i%2)}, keyOf([]byte{0, 0, 0, 0, 2, 2, 3}[i], plain)
		sealed, err := fuzzKeys.Seal(feed, key, plain)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := v.Fold(f.Context(), feed, uint64(2+i), []Entry{{uint64(1 + i), key, sealed}}); err != nil {
			f.Fatal(err)
		}
	}
	type row struct{ key, plain []byte }
	var rows []row
	if err := v.read(func(t *txn) error {
		return t.scan(nil, func(key, plain []byte) (bool, error) {
			rows = append(rows, row{bytes.Clone(key), bytes.Clone(plain)})
			return true, nil
		})
	}); err != nil {
		f.Fatal(err)
	}
	for i, r := range rows {
		f.Add(uint8(i), r.plain)
	}
	f.Fuzz(func(t *testing.T, which uint8, plain []byte) {
		recode(t, dirents, plain)
		recode(t, inodes, plain)
		recode(t, writers, plain)
		if s, err := decodeSlot(place{}, plain); err == nil {
			if again, err := decodeSlot(place{}, s.encode()); err != nil || !bytes.Equal(again.encode(), s.encode()) {
				t.Fatalf("the slot %x became %x (%v)", s.encode(), again.encode(), err)
			}
		}
		if h, err := decodeHome(plain); err == nil {
			if again, err := decodeHome(h.encode()); err != nil || (h.dir || h.guest) && *again != *h {
				t.Fatalf("the home %+v became %+v (%v)", h, again, err)
			}
		}
		kv := NewMemory()
		if err := kv.Update(func(tx Tx) error {
			t := v.writer(tx)
			for _, r := range rows {
				t.put(r.key, r.plain)
			}
			t.put(rows[int(which)%len(rows)].key, append([]byte{}, plain...))
			return t.flush()
		}); err != nil {
			t.Fatal(err)
		}
		damaged, err := Open(kv, fuzzKeys, [32]byte{9}, nil, nil)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		look(t, damaged)
		key := keyOf(0, s[0])
		sealed, err := fuzzKeys.Seal(hypercore.Key{1}, key, s[0])
		if err != nil {
			t.Fatal(err)
		}
		_, _ = damaged.Fold(t.Context(), hypercore.Key{1}, 100, []Entry{{99, key, sealed}}) // may notice the damage
	})
}

func recode[R any](t *testing.T, c codec[R], plain []byte) {
	h, err := decodeHeads(c, record.Root, plain)
	if err != nil {
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, record.ErrInvalid) {
			t.Fatal(err)
		}
		return
	}
	h.winner(c)
	once := h.encode(c)
	again, err := decodeHeads(c, record.Root, once)
	if err != nil || !bytes.Equal(again.encode(c), once) {
		t.Fatalf("%x became %x (%v)", once, again.encode(c), err)
	}
}
