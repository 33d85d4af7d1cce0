package drive

import (
	"bytes"
	"testing"

	"hyphafs.org/hyphafs/drive/record"
)

// TestWhole: only who has a small file open alone gets its bytes unasked, and only if a feed has all of them.
func TestWhole(t *testing.T) {
	w := newWorld(t, 1)
	open := func(id record.ID, write bool) *File {
		t.Helper()
		f, err := w.Open(t.Context(), id, write)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	expect := func(what string, f *File, want string) {
		t.Helper()
		if b, err := f.Whole(); string(b) != want || err != nil {
			t.Errorf("%s: %.20q, %v", what, b, err)
		}
	}
	shut := func(f *File) {
		t.Helper()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	id := w.put(record.Root, "f", "text")
	empty := w.put(record.Root, "empty", "")
	large := w.put(record.Root, "large", string(bytes.Repeat([]byte("x"), blockSize+1)))
	f := open(id, false)
	expect("not published", f, "")
	shut(f)
	w.publishNow()
	f = open(id, false)
	expect("published", f, "text")
	other := open(id, true)
	expect("open twice", f, "")
	shut(other)
	expect("open once again", f, "text")
	size := uint64(6)
	if _, err := w.SetAttr(t.Context(), id, AttrChange{Size: &size}); err != nil {
		t.Fatal(err)
	}
	expect("longer", f, "")
	w.publishNow()
	expect("longer and published", f, "text\x00\x00")
	shut(f)
	for what, id := range map[string]record.ID{"empty": empty, "large": large} {
		f := open(id, false)
		expect(what, f, "")
		shut(f)
	}
	f = open(id, false)
	defer shut(f)
	if e := f.in.rec.Extents; len(e) != 1 {
		t.Fatal(e)
	} else if w.cache.Purge(); w.bytes.Clear(t.Context(), e[0].Seq, e[0].Seq+1) != nil {
		t.Fatal("the block is not let go")
	}
	expect("not here", f, "")
}
