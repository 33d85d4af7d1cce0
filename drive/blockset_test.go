package drive

import (
	"maps"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"hyphafs.org/hyphafs/drive/record"
)

func TestBlockset(t *testing.T) {
	if blockSize != record.BlockSize {
		t.Fatal("block sizes differ")
	}
	rapid.Check(t, func(t *rapid.T) {
		var s blockset
		model := map[uint64]bool{}
		for range rapid.IntRange(1, 40).Draw(t, "ops") {
			r := run{first: rapid.Uint64Range(0, 60).Draw(t, "first")}
			r.end = r.first + rapid.Uint64Range(0, 20).Draw(t, "count")
			add := rapid.Bool().Draw(t, "add")
			if add {
				s.add(r)
			} else {
				s.remove(r)
			}
			for n := r.first; n < r.end; n++ {
				model[n] = add
			}
			count := uint64(0)
			for n := range uint64(90) {
				if s.has(n) != model[n] {
					t.Fatalf("%v: block %d", s, n)
				}
				if model[n] {
					count++
				}
			}
			if s.count() != count {
				t.Fatalf("%v: count %d, want %d", s, s.count(), count)
			}
			for i := range s {
				if s[i].first >= s[i].end || i > 0 && s[i-1].end >= s[i].first {
					t.Fatalf("%v is not in order", s)
				}
			}
			missing := map[uint64]bool{}
			for _, m := range s.missing(run{5, 70}) {
				for n := m.first; n < m.end; n++ {
					missing[n] = true
				}
			}
			for n := uint64(5); n < 70; n++ {
				if missing[n] == model[n] {
					t.Fatalf("%v: block %d missing %v", s, n, missing[n])
				}
			}
		}
	})
}

func TestBlocksOf(t *testing.T) {
	for size, want := range map[uint64]uint64{0: 0, 1: 1, blockSize - 1: 1, blockSize: 1, blockSize + 1: 2, 10 * blockSize: 10} {
		if got := blocksOf(size); got != want {
			t.Errorf("%d bytes: %d blocks, want %d", size, got, want)
		}
	}
}

// TestAddExtents checks addExtents and clip against the blocks one by one.
func TestAddExtents(t *testing.T) {
	seqs := func(t *rapid.T, extents []record.Extent) map[uint64]uint64 {
		m := map[uint64]uint64{}
		for i, e := range extents {
			if e.Count == 0 || i > 0 && extents[i-1].Block+extents[i-1].Count > e.Block {
				t.Fatalf("%v is not in order", extents)
			}
			for k := range e.Count {
				m[e.Block+k] = e.Seq + k
			}
		}
		return m
	}
	draw := func(t *rapid.T, name string) (extents []record.Extent) {
		at := uint64(0)
		for range rapid.IntRange(0, 6).Draw(t, name) {
			e := record.Extent{Block: at + rapid.Uint64Range(0, 3).Draw(t, "gap"), Count: rapid.Uint64Range(1, 4).Draw(t, "count"), Seq: rapid.Uint64Range(0, 40).Draw(t, "seq")}
			extents, at = append(extents, e), e.Block+e.Count
		}
		return extents
	}
	rapid.Check(t, func(t *rapid.T) {
		extents, more := draw(t, "extents"), draw(t, "more")
		want := seqs(t, extents)
		maps.Copy(want, seqs(t, more))
		if got := seqs(t, addExtents(extents, more)); !maps.Equal(got, want) {
			t.Fatalf("%v with %v: %v, want %v", extents, more, got, want)
		}
		r := run{first: rapid.Uint64Range(0, 40).Draw(t, "first")}
		r.end = r.first + rapid.Uint64Range(0, 20).Draw(t, "length")
		want = seqs(t, extents)
		maps.DeleteFunc(want, func(n, _ uint64) bool { return !r.has(n) })
		if got := seqs(t, clip(extents, r)); !maps.Equal(got, want) {
			t.Fatalf("%v in %v: %v, want %v", extents, r, got, want)
		}
	})
}

// TestAllocated: the blocks of a file are counted once each, whether they are here, in a feed or both.
func TestAllocated(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var present blockset
		var rec record.Inode
		var has [100]bool
		for range rng.IntN(8) {
			first := rng.Uint64N(90)
			r := run{first, first + rng.Uint64N(10)}
			present.add(r)
			for n := r.first; n < r.end; n++ {
				has[n] = true
			}
		}
		for at := rng.Uint64N(20); at < 90; at += rng.Uint64N(20) {
			e := record.Extent{Block: at, Count: 1 + rng.Uint64N(9)}
			rec.Extents = append(rec.Extents, e)
			for range e.Count {
				has[at] = true
				at++
			}
		}
		var want uint64
		for _, h := range has {
			if h {
				want++
			}
		}
		if got := allocated(&rec, present); got != want {
			t.Fatalf("%d blocks, not %d: extents %v, present %v", got, want, rec.Extents, present)
		}
	}
}
