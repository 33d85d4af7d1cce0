package drive

import (
	"errors"
	"strings"
	"testing"

	"hyphafs.org/hyphafs/drive/record"
)

// mirrored is an open file, published before, and what it has to hold.
type mirrored struct {
	*File
	a    *world
	id   record.ID
	want []byte
}

func mirror(a *world, text string) *mirrored {
	a.t.Helper()
	m := &mirrored{a: a, id: a.put(record.Root, "f", text), want: []byte(text)}
	a.publishNow()
	m.open()
	return m
}

// open opens the file again, after a crash.
func (m *mirrored) open() {
	m.a.t.Helper()
	f, err := m.a.Open(m.a.t.Context(), m.id, true)
	if err != nil {
		m.a.t.Fatal(err)
	}
	m.File = f
}

// write writes text, repeated up to length bytes, at off.
func (m *mirrored) write(text string, length, off int) {
	m.a.t.Helper()
	p := strings.Repeat(text, length)[:length]
	mustWrite(m.a.t, m.File, p, int64(off))
	m.want = append(m.want, make([]byte, max(0, off+length-len(m.want)))...)
	copy(m.want[off:], p)
}

func (m *mirrored) check(when string) {
	m.a.t.Helper()
	if got, err := m.a.read(m.id); got != string(m.want) || err != nil {
		m.a.t.Fatalf("%s: %d bytes are not as they were written, %v", when, len(got), err)
	}
}

// TestPagesOfPublishedFile: whole pages written into a large published file are all that is kept of it here, whatever is read, published or killed meanwhile.
func TestPagesOfPublishedFile(t *testing.T) {
	a := newWorld(t, 1)
	f := mirror(a, strings.Repeat("0123456789abcdef", 20_000)) // 320,000 bytes, 4.9 blocks
	f.write("one", pageSize, 3*pageSize)
	f.write("two", 2*pageSize, 15*pageSize)                  // the end of a block and the begin of the next
	f.write("end", len(f.want)-78*pageSize, 78*pageSize)     // half a page at the end of the file
	f.write("in a page that is here", 100, 3*pageSize+1_000) // needs no block either
	if f.in.present != nil || f.in.pages.count() != 4 {
		t.Errorf("blocks %v, pages %v", f.in.present, f.in.pages)
	}
	f.check("written")
	if err := f.Sync(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	f.write("later", pageSize, 70*pageSize)
	a.crash("boot 1")
	f.check("killed")
	f.open()
	if f.in.present != nil || f.in.pages.count() != 5 {
		t.Errorf("blocks %v, pages %v", f.in.present, f.in.pages)
	}
	before := a.bytes.Len()
	a.publishNow()
	if n := a.bytes.Len() - before; n != 3 || f.in.pages != nil {
		t.Errorf("%d blocks published, not the 3 that changed; pages %v", n, f.in.pages)
	}
	f.check("published")
	f.write("again", pageSize, 4*pageSize) // onto what was published
	f.write("half", 10, 200_001)           // this one brings its block
	if f.in.present.count() != 1 {
		t.Errorf("blocks %v, pages %v", f.in.present, f.in.pages)
	}
	f.check("after a block was brought")
	if err := f.Sync(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	a.crash("boot 2")
	f.check("after a power loss")
	a.publishNow()
	f.check("published again")
}

// TestFsyncIsShort: fsync after fsync the journal takes what was written and no list of the file's extents, and a power loss leaves all of it.
func TestFsyncIsShort(t *testing.T) {
	const blocks = 400
	a := newWorld(t, 1)
	f := mirror(a, strings.Repeat("0123456789abcdef", blocks*blockSize/16))
	sync := func() int64 {
		t.Helper()
		before := a.journal.Size()
		if err := f.Sync(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		return a.journal.Size() - before
	}
	for n := 0; n < blocks; n += 2 {
		f.write("scattered", pageSize, n*blockSize)
	}
	a.publishNow()
	if n := len(f.in.rec.Extents); n < blocks/2 {
		t.Fatalf("%d extents", n)
	}
	f.write("a", pageSize, 5*blockSize)
	sync() // of the file itself
	f.write("b", pageSize, 7*blockSize)
	const more = 300 // around the bytes in the journal
	if first := sync(); first < pageSize+10*more {
		t.Fatalf("%d bytes say everything", first) // then what follows says nothing
	}
	for _, w := range []struct {
		length, off int
		journal     int64
	}{
		{pageSize, 9 * blockSize, pageSize},
		{pageSize, 9*blockSize + pageSize, pageSize},
		{10, 9*blockSize + 100, 10},                              // in a page that is here
		{10, 9*blockSize + 3*pageSize + 1, blockSize},            // brings the block
		{2 * blockSize, (blocks+1)*blockSize - 9, 2 * blockSize}, // behind a hole at the end
		{1, 11*blockSize + 5, blockSize},
	} {
		f.write("x", w.length, w.off)
		if got := sync(); got > w.journal+more {
			t.Errorf("%d bytes written at %d: %d into the journal", w.length, w.off, got)
		}
	}
	f.write("not fsynced", pageSize, 13*blockSize)
	copy(f.want[13*blockSize:], "0123456789abcdef"+strings.Repeat("0123456789abcdef", pageSize/16-1))
	a.crash("boot 2")
	f.check("after a power loss")
	f.open()
	f.write("x", pageSize, 15*blockSize)
	sync()
	f.write("y", pageSize, 17*blockSize)
	sync()
	f.write("z", pageSize, 19*blockSize)
	sync()
	if _, err := f.SetAttr(t.Context(), AttrChange{Size: new(uint64(18 * blockSize))}); err != nil {
		t.Fatal(err)
	}
	f.want = f.want[:18*blockSize]
	sync()
	f.write("w", pageSize, 3*blockSize)
	sync()
	a.crash("boot 3")
	f.check("cut, and after another power loss")
	a.publishNow()
	f.check("published")
}

// TestUnreadablePatchedBlock: a file a patched block of which went bad is not published; all others are.
func TestUnreadablePatchedBlock(t *testing.T) {
	a := newWorld(t, 1)
	id := a.put(record.Root, "f", strings.Repeat("x", 200_000))
	a.publishNow()
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, strings.Repeat("y", pageSize), 0)
	other := a.put(record.Root, "other", "o")
	data, err := a.feeds[a.bytes.DiscoveryKey().String()].Open("data")
	if err != nil {
		t.Fatal(err)
	}
	was := make([]byte, 1)
	if _, err := data.ReadAt(was, 30_000); err != nil {
		t.Fatal(err)
	}
	if _, err := data.WriteAt([]byte{was[0] ^ 1}, 30_000); err != nil {
		t.Fatal(err)
	}
	if err := a.Publish(t.Context()); !errors.Is(err, record.ErrSealed) {
		t.Errorf("published with %v", err)
	}
	if _, err := a.view.Inode(other); err != nil {
		t.Errorf("the other file: %v", err)
	}
	if !f.in.isDirty() {
		t.Error("the file is published, without its first block")
	}
	if _, err := data.WriteAt(was, 30_000); err != nil {
		t.Fatal(err)
	}
	a.publishNow()
	if got, err := a.read(id); got != strings.Repeat("y", pageSize)+strings.Repeat("x", 200_000-pageSize) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
