package replication

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"hyphafs.org/hyphafs/replication/wire"
)

// TestBlockSet compares a blockSet with a map over random operations around the borders of pages.
func TestBlockSet(t *testing.T) {
	const reach = 3 * pageBits
	rapid.Check(t, func(t *rapid.T) {
		used := 0
		set, model := blockSet{full: fullPage(), used: &used}, map[uint64]bool{}
		at := rapid.OneOf(rapid.Uint64Range(0, reach), rapid.Uint64Range(pageBits-9, pageBits+9), rapid.SampledFrom([]uint64{0, pageBits, 2 * pageBits, reach}))
		for range rapid.IntRange(1, 8).Draw(t, "operations") {
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0, 1:
				start, end, in := at.Draw(t, "start"), at.Draw(t, "end"), rapid.Bool().Draw(t, "in")
				set.fill(start, end, in)
				for n := start; n < end; n++ {
					model[n] = in
				}
			case 2:
				start, field := at.Draw(t, "start")/8*8, rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "field")
				set.copyBits(start, field)
				for i := range uint64(8 * len(field)) {
					model[start+i] = field[i/8]&(0x80>>(i%8)) != 0
				}
			}
		}
		last, any := uint64(0), false
		ours := make([]byte, reach/8)
		for n := range uint64(reach + 400) {
			if set.has(n) != model[n] {
				t.Fatalf("block %d: %v", n, set.has(n))
			}
			if model[n] {
				last, any = n, true
			} else if n < reach {
				ours[n/8] |= 0x80 >> (n % 8)
			}
		}
		if got, ok := set.last(); ok != any || got != last {
			t.Fatalf("last is %d %v, want %d %v", got, ok, last, any)
		}
		from := at.Draw(t, "from")
		want, there := from, false
		for ; want < reach+400 && !there; want++ {
			there = model[want]
		}
		if got, ok := set.next(from); ok != there || ok && got != want-1 {
			t.Fatalf("next behind %d is %d %v, want %d %v", from, got, ok, want-1, there)
		}
		var lacks uint64
		for n := range uint64(reach) {
			if !model[n] {
				lacks++
			}
		}
		if got := set.lacks(0, ours); got != lacks {
			t.Fatalf("lacks %d, want %d", got, lacks)
		}
	})
}

func TestBlockSetIsBounded(t *testing.T) {
	used := 0
	set := blockSet{full: fullPage(), used: &used}
	set.fill(0, wire.MaxNumber, true)
	if last, _ := set.last(); used != 0 || last != maxBlocks-1 {
		t.Errorf("%d pages, last %d", used, last)
	}
	for n := uint64(0); n < maxBlocks; n += pageBits {
		set.fill(n, n+1, false)
	}
	if used > maxPages {
		t.Errorf("%d pages", used)
	}
	set.fill(0, wire.MaxNumber, false)
	if _, ok := set.last(); ok || used != 0 {
		t.Errorf("%d pages are left", used)
	}
}

func TestSeenIsBounded(t *testing.T) {
	var s seen
	now := time.Unix(1_000_000, 0)
	for i := range 3 * seenMax {
		if !s.add([32]byte{byte(i), byte(i >> 8), byte(i >> 16)}, now) {
			t.Fatalf("%d was there", i)
		}
	}
	if len(s.at) > seenMax || len(s.order) > seenMax {
		t.Errorf("%d and %d", len(s.at), len(s.order))
	}
	if !s.has([32]byte{0xff, 0x2f}, now) || s.has([32]byte{0xff, 0x2f}, now.Add(seenAge+time.Second)) {
		t.Error("age")
	}
}

func TestWindow(t *testing.T) {
	w := newWindow()
	for range 1000 {
		w.block(200)
	}
	if n := w.requests(); n != maxFlying {
		t.Errorf("%d requests for small blocks", n)
	}
	for range 1000 {
		w.block(1 << 20)
	}
	if n := w.requests(); n != minFlying {
		t.Errorf("%d requests for large blocks", n)
	}
	for range 10 {
		w.measure(w.received) // nothing comes
	}
	if w.bytes != 256<<10 {
		t.Errorf("%d bytes", w.bytes)
	}
	if w.measure(w.received + 1<<30); w.bytes != 4<<20 {
		t.Errorf("%d bytes", w.bytes)
	}
}

// TestFetch walks through what sessions share about a block.
func TestFetch(t *testing.T) {
	s := &session{kick: make(chan struct{}, 1)}
	a, b := &channel{session: s}, &channel{session: s}
	f := &fetch{flights: map[uint64]flight{}, channels: map[*channel]struct{}{}}
	f.join(a)
	f.join(b)
	now := time.Unix(0, 0)
	if !f.take(1, a, now, patience) || f.take(1, b, now, patience) || !f.flying(1, now) {
		t.Error("a block is asked for twice")
	}
	if !f.take(1, b, now.Add(patience), patience) {
		t.Error("a stale request blocks others")
	}
	f.release(a, 1)
	if !f.flying(1, now.Add(patience)) {
		t.Error("released what another had taken")
	}
	f.leave(b)
	if f.flying(1, now.Add(patience)) || !a.rescan.Load() {
		t.Error("a session that left keeps its requests")
	}
	for range maxNews + 1 {
		f.tell([]span{{1, 2}})
	}
	if news, renew := f.takeNews(a); !renew || len(news) > maxNews {
		t.Errorf("%d news, %v", len(news), renew)
	}
	if news, renew := f.takeNews(a); renew || len(news) > 0 {
		t.Errorf("%d news again", len(news))
	}
}
