package hypercore

import (
	"bytes"
	"errors"
	"testing"
)

// stored returns the files of a feed of 9 blocks.
func stored(t testing.TB) (*Memory, *Feed) {
	t.Helper()
	w, r := pairOf(t, 9)
	st := NewMemory()
	f := open(t, st, r.Key(), nil)
	for seq := range w.Len() {
		copyBlock(t, w, f, seq)
	}
	if err := f.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return st, w
}

var fileNames = []string{"data", "tree", "signatures", "bitfield", "head", "fork"}

// FuzzFiles: whatever was done to one of a feed's files, it opens or is ErrDamaged; if it opens and Check finds nothing, every block is the one
// that was signed; and what it serves to another feed is right or refused there.
func FuzzFiles(f *testing.F) {
	st, w := stored(f)
	held := map[string][]byte{}
	for i, name := range fileNames {
		var err error
		if held[name], err = contents(st.files[name]); err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), uint16(0), held[name], false)
		f.Add(uint8(i), uint16(40), []byte{0xff, 0, 1}, true)
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint16, with []byte, cut bool) {
		damaged := NewMemory()
		for name, b := range held {
			damaged.files[name] = fileOf(b)
		}
		file := damaged.files[fileNames[int(which)%len(fileNames)]]
		if _, err := file.WriteAt(with, int64(at)); err != nil {
			t.Fatal(err)
		}
		if cut {
			if err := file.Truncate(int64(at) + int64(len(with))); err != nil {
				t.Fatal(err)
			}
		}
		feed, err := Open(damaged, w.Key(), Options{})
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		if feed.Len() > w.Len() {
			t.Fatalf("length %d, signed were %d", feed.Len(), w.Len())
		}
		clean := feed.Check(t.Context()) == nil
		reader := open(t, NewMemory(), w.Key(), nil)
		for seq := range feed.Len() {
			want, err := w.Block(seq)
			if err != nil {
				t.Fatal(err)
			}
			got, err := feed.Block(seq)
			if err != nil {
				continue
			}
			if clean && !bytes.Equal(got, want) {
				t.Fatalf("block %d is %q", seq, got)
			}
			p, err := feed.Proof(seq, reader.Digest(seq), &Marks{}, false)
			if err != nil {
				continue
			}
			if err := reader.Put(t.Context(), seq, got, p); err == nil && !bytes.Equal(got, want) {
				t.Fatalf("block %d was taken as %q", seq, got)
			}
		}
	})
}

// FuzzProof: whatever a peer says that it knows, it is answered; one that knows nothing gets what it needs.
func FuzzProof(f *testing.F) {
	w, r := pairOf(f, 21)
	f.Add(uint64(3), uint64(0), uint64(7), uint64(0), false)
	f.Add(uint64(0), uint64(0b1101), uint64(20), uint64(1), true)
	f.Add(uint64(1<<53), ^uint64(0), uint64(16), uint64(1)<<63, false)
	f.Fuzz(func(t *testing.T, first, digest, second, other uint64, hash bool) {
		var marks Marks
		for _, q := range []struct{ seq, digest uint64 }{{first, digest}, {second, other}} {
			if _, err := w.Proof(q.seq, q.digest, &marks, hash); err != nil && !errors.Is(err, ErrNotStored) {
				t.Fatal(err)
			}
		}
		r := open(t, NewMemory(), r.Key(), nil)
		for _, seq := range []uint64{first % w.Len(), second % w.Len()} {
			block, err := w.Block(seq)
			if err != nil {
				t.Fatal(err)
			}
			p, err := w.Proof(seq, r.Digest(seq), &Marks{}, false)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Put(t.Context(), seq, block, p); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzParseKey: a key that is taken is written the same, but for the case of its digits.
func FuzzParseKey(f *testing.F) {
	f.Add(Key{1, 2, 3}.String())
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKey(s)
		if again, err2 := ParseKey(k.String()); err == nil && (err2 != nil || again != k || len(s) != 64) {
			t.Fatalf("%q became %v, then %v (%v)", s, k, again, err2)
		}
	})
}
