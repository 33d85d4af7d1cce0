package drive

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"hyphafs.org/hyphafs/drive/record"
)

// fewPages lets pages begin early, as if files had many more extents.
func fewPages(ws ...*world) {
	for _, w := range ws {
		w.inline, w.perPage = 8, 4
	}
}

// scatter writes byte i into block n of a file for each n of blocks in that order, so that no two that follow each other in the feed do so in the file.
func (w *world) scatter(id record.ID, blocks []uint64) {
	w.t.Helper()
	f, err := w.Open(w.t.Context(), id, true)
	if err != nil {
		w.t.Fatal(err)
	}
	for i, n := range blocks {
		if _, err := f.WriteAt(w.t.Context(), []byte{byte(i%255 + 1)}, int64(n<<blockShift), false); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// atBlocks reads the first byte of each of the first n blocks.
func (w *world) atBlocks(id record.ID, n int) []byte {
	w.t.Helper()
	f, err := w.Open(w.t.Context(), id, false)
	if err != nil {
		w.t.Fatal(err)
	}
	out := make([]byte, n)
	for i := range out {
		if _, err := f.ReadAt(w.t.Context(), out[i:i+1], int64(i)<<blockShift); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// TestManyExtents writes every second block of a file, so that each is an extent. The other node sees the same, edits it, and a small change
// writes a small part of the extents.
func TestManyExtents(t *testing.T) {
	const n = 100
	a, b := twoNodes(t)
	fewPages(a, b)
	id := a.put(record.Root, "f", "x")
	var odd []uint64
	for i := range n {
		odd = append(odd, uint64(2*i+1))
	}
	a.scatter(id, odd)
	meet(t, a, b)
	if s, err := b.view.Inode(id); err != nil || len(s.Pages) < n/4 || len(s.Extents) > 0 {
		t.Fatalf("%d pages, %d extents in the record, %v", len(s.Pages), len(s.Extents), err)
	}
	want := a.atBlocks(id, 2*n)
	if !bytes.Equal(b.atBlocks(id, 2*n), want) {
		t.Error("the other node reads something else")
	}
	x, err := a.Attr(t.Context(), id)
	y, err2 := b.Attr(t.Context(), id)
	if err != nil || err2 != nil || x.Blocks != y.Blocks || x.Blocks < n*100 {
		t.Errorf("%d and %d blocks, %v, %v", x.Blocks, y.Blocks, err, err2)
	}
	if err := b.Rename(t.Context(), record.Root, "f", record.Root, "g", 0); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		before := b.own.Bytes()
		b.scatter(id, []uint64{uint64(10 * round)})
		meet(t, a, b)
		grown := b.own.Bytes() - before
		t.Logf("one block changed: %d bytes of records", grown)
		if round > 0 && grown > 4<<10 {
			t.Errorf("one block changed: %d bytes of records", grown)
		}
	}
	b.stop()
	b.start()
	fewPages(b)
	if got := a.atBlocks(id, 2*n); !bytes.Equal(b.atBlocks(id, 2*n), got) || bytes.Equal(got, want) {
		t.Error("after the change they read something else")
	}
	if _, err := a.SetAttr(t.Context(), id, AttrChange{Size: new(uint64)}); err != nil {
		t.Fatal(err)
	}
	meet(t, a, b)
	if x, err := b.Attr(t.Context(), id); err != nil || x.Blocks != 0 || x.Size != 0 {
		t.Errorf("cut to nothing: %+v, %v", x, err)
	}
	if err := b.Remove(t.Context(), record.Root, "g", false); err != nil {
		t.Fatal(err)
	}
	meet(t, a, b)
}

// TestPagesModel changes a file in many pieces at random, on two nodes by turns, with crashes; both read what was written.
func TestPagesModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := twoNodes(t)
		fewPages(a, b)
		id := a.put(record.Root, "f", "x")
		const blocks = 50
		rng := rand.New(rand.NewPCG(uint64(rapid.IntRange(1, 1<<30).Draw(rt, "seed")), 1))
		model := make([]byte, blocks)
		model[0] = 'x'
		write := func(w *world, list []uint64) {
			w.scatter(id, list)
			for i, n := range list {
				model[n] = byte(i%255 + 1)
			}
		}
		var all []uint64
		for _, n := range rng.Perm(blocks) {
			all = append(all, uint64(n))
		}
		write(a, append(all[:blocks-blocks/8], blocks-1))
		meet(t, a, b)
		for range rapid.IntRange(1, 3).Draw(rt, "rounds") {
			w := []*world{a, b}[rng.IntN(2)]
			switch rng.IntN(4) {
			case 0:
				from := rng.IntN(blocks)
				count := min(rng.IntN(blocks), blocks-from)
				var run []uint64
				for i := range count {
					run = append(run, uint64(from+i))
				}
				write(w, run)
			case 1:
				f, err := w.Open(t.Context(), id, true)
				if err != nil {
					rt.Fatal(err)
				}
				from := rng.IntN(blocks)
				count := min(1+rng.IntN(blocks), blocks-from)
				if err := f.Allocate(t.Context(), punchHole|keepSize, int64(from)<<blockShift, int64(count)<<blockShift); err != nil {
					rt.Fatal(err)
				}
				if err := f.Close(); err != nil {
					rt.Fatal(err)
				}
				clear(model[from : from+count])
			default:
				var list []uint64
				for range rng.IntN(20) {
					list = append(list, uint64(rng.IntN(blocks)))
				}
				write(w, list)
			}
			if rng.IntN(3) == 0 {
				if err := w.flush(t.Context()); err != nil {
					rt.Fatal(err)
				}
				w.crash("boot 1")
				fewPages(w)
			}
			meet(t, a, b)
			for _, w := range []*world{a, b} {
				if got := w.atBlocks(id, blocks); !bytes.Equal(got, model) {
					rt.Fatalf("node %d reads\n%x\nwant\n%x", w.n, got, model)
				}
			}
		}
		for _, w := range []*world{a, b} {
			w.stop()
		}
		if t.Failed() {
			rt.Fatal("the nodes differ")
		}
	})
}
