package drive

import (
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
