package hypercore

import (
	"testing"

	"pgregory.net/rapid"
)

func TestBitsetLast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := bitset{}
		in := map[uint64]bool{}
		for range rapid.IntRange(0, 20).Draw(t, "count") {
			n := rapid.Uint64Range(0, 40000).Draw(t, "n")
			in[n] = rapid.Bool().Draw(t, "in")
			s.set(n, in[n])
		}
		below := rapid.Uint64Range(0, 40001).Draw(t, "below")
		got, ok := s.last(below)
		want, found := uint64(0), false
		for n, set := range in {
			if set && n < below && (!found || n > want) {
				want, found = n, true
			}
		}
		if got != want || ok != found {
			t.Fatalf("below %d: %d %v, want %d %v", below, got, ok, want, found)
		}
	})
}
