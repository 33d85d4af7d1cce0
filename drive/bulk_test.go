package drive

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"hyphafs.org/hyphafs/drive/record"
)

// TestReadInBulk: what is read at once out of many blocks, holes, and pages and blocks that changed since, is what was written, wherever a read begins and ends.
func TestReadInBulk(t *testing.T) {
	a := newWorld(t, 1)
	want := make([]byte, 30*blockSize+777)
	rand.NewChaCha8([32]byte{1}).Read(want)
	id := a.put(record.Root, "f", string(want))
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Allocate(t.Context(), punchHole|keepSize, 12*blockSize, 3*blockSize); err != nil {
		t.Fatal(err)
	}
	clear(want[12*blockSize : 15*blockSize])
	a.publishNow()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	a.stop()
	a.start()
	if f, err = a.Open(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	check := func(off, length int) {
		t.Helper()
		got := make([]byte, length)
		n, err := f.ReadAt(t.Context(), got, int64(off))
		if end := min(off+length, len(want)); err != nil || n != end-off || !bytes.Equal(got[:n], want[off:end]) {
			t.Fatalf("%d bytes at %d: %d, %v", length, off, n, err)
		}
	}
	all := func() {
		t.Helper()
		rng := rand.New(rand.NewPCG(1, 2))
		check(0, len(want))
		for range 200 {
			check(rng.IntN(len(want)), 1+rng.IntN(12*blockSize))
			check(rng.IntN(30)*blockSize, (1+rng.IntN(10))*blockSize)
		}
	}
	all()
	text := bytes.Repeat([]byte("changed "), blockSize/8)
	for _, w := range []struct{ off, length int }{{2*blockSize + pageSize, pageSize}, {5 * blockSize, blockSize}, {20*blockSize + 100, 50}} {
		mustWrite(t, f, string(text[:w.length]), int64(w.off))
		copy(want[w.off:], text[:w.length])
	}
	all()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReadOfBadBlock: one bit that is wrong in any of the blocks that are read at once fails the read, until it is mended.
func TestReadOfBadBlock(t *testing.T) {
	a := newWorld(t, 1)
	id := a.put(record.Root, "f", string(make([]byte, 6*blockSize)))
	a.publishNow()
	f, err := a.Open(t.Context(), id, false)
	if err != nil {
		t.Fatal(err)
	}
	data, err := a.feeds[a.bytes.DiscoveryKey().String()].Open("data")
	if err != nil {
		t.Fatal(err)
	}
	size, err := data.Size()
	if err != nil {
		t.Fatal(err)
	}
	for n := range int64(6) {
		b, at := make([]byte, 1), size/6*n+size/12
		flip := func() {
			if _, err := data.ReadAt(b, at); err != nil {
				t.Fatal(err)
			}
			if _, err := data.WriteAt([]byte{b[0] ^ 1}, at); err != nil {
				t.Fatal(err)
			}
		}
		flip()
		if _, err := f.ReadAt(t.Context(), make([]byte, 6*blockSize), 0); !errors.Is(err, record.ErrSealed) {
			t.Errorf("block %d: %v", n, err)
		}
		flip()
		if _, err := f.ReadAt(t.Context(), make([]byte, 6*blockSize), 0); err != nil {
			t.Errorf("block %d mended: %v", n, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
