package hyperdb

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// keyLike returns a key in folder f whose path has digits behind that of the folder.
func keyLike(digits ...byte) string {
	for i := 0; ; i++ {
		key := fmt.Sprintf("f/%d", i)
		if string(path(key, true)[32:32+len(digits)]) == string(digits) {
			return key
		}
	}
}

// dryPut makes b's put of key over all heads, and tells what each of them, and thinning at the end, cost of maxWork.
func dryPut(b *batch, key string) (w *walk, work []int) {
	w = &walk{batch: b, entry: &Entry{Version: Version{b.db.local.Key, b.next}, Key: key, list: b.list}, path: path(key, true)}
	for _, h := range b.heads {
		w.left = maxWork
		w.from(0, h)
		work = append(work, maxWork-w.left)
	}
	w.left = maxWork
	w.thin()
	return w, append(work, maxWork-w.left)
}

// longest is how many pointers stand under one value at most.
func longest(t trie) (n int) {
	for len(t) > 0 {
		var under trie
		under, t = t.under()
		n = max(n, len(under))
	}
	return n
}

// TestGrowingTries: npm hyperdb's entries grow by a pointer a round where two write at once. They are read past 1,024 pointers under one value, and a put over them is short
// and looks neither at the older entries nor at what those hold.
func TestGrowingTries(t *testing.T) {
	const rounds = 1200
	c := newCrowd(t, 3)
	keys := []string{keyLike(0, 1), keyLike(1), keyLike(0, 2)}
	ours, others := c.nodes[2], c.nodes[:2]
	for _, n := range others {
		n.db.crowded = 1 << 20 // hyperdb's way
	}
	for range rounds {
		for i, n := range others {
			if _, err := n.db.Batch(t.Context(), []Op{{Key: keys[i], Value: []byte("v")}}); err != nil {
				t.Fatal(err)
			}
		}
		c.exchange()
	}
	ix, err := ours.db.Index(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range others {
		last := n.log(n.local).limit - 1
		e, err := ours.db.Entry(n.local, last)
		if err != nil {
			t.Fatal(err)
		}
		if k := longest(e.trie()); k < rounds-10 {
			t.Errorf("at most %d pointers under one value: the test shows nothing", k)
		}
		if got := ix.Get(keys[i]); len(got) != 1 || got[0].Version != e.Version {
			t.Errorf("%s: %v, want block %d", keys[i], got, last)
		}
	}
	w, work := dryPut(ours.db.begin(nil), keys[2])
	if len(w.trie) > 32 {
		t.Errorf("%d pointers", len(w.trie))
	}
	if slices.Max(work) > 8*rounds { // a few whole tries
		t.Errorf("a put over entries of %d pointers looks at %d links", rounds, work)
	}
	if _, err := ours.db.Batch(t.Context(), []Op{{Key: keys[2], Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	c.exchange()
	for i, n := range others {
		if got := throughTrie(ours.db, keys[i]); len(got) != 1 || got[0].Seq != n.log(n.local).limit-1 {
			t.Errorf("the new entry leads to %v of %s", got, keys[i])
		}
	}
}

// fullTries are tries of two writers with as many pointers as an entry may have, of which all but few lead nowhere. The newest entry points to width others, each of these to width of the next
// level, and so on along the way of a key; the pointers that lead nowhere stand at the same positions, or all at the first.
type fullTries struct {
	levels, width int
	first         bool
}

// node is one that has such writers besides itself.
func (f fullTries) node(t testing.TB, key string) *testNode {
	t.Helper()
	n := &testNode{local: hypercore.Key{1}, logs: map[hypercore.Key]*memoryLog{}}
	n.open(t, n.local, hypercore.Key{})
	for i := range byte(2) {
		if err := n.db.Authorize(t.Context(), hypercore.Key{2 + i}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range byte(2) {
		evil := n.log(hypercore.Key{2 + i})
		evil.blocks = [][]byte{header}
		for level := f.levels - 1; level >= 0; level-- {
			below := uint64(len(evil.blocks) - f.width)
			for k := range f.width {
				if level > 0 || k == 0 {
					evil.blocks = append(evil.blocks, f.entry(evil.key, n.local, path(key, true), level, uint64(len(evil.blocks)), below))
				}
			}
		}
		evil.limit = uint64(len(evil.blocks))
	}
	if err := n.db.Update(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// entry is block seq of feed, of which the next level begins at block below.
func (f fullTries) entry(feed, victim hypercore.Key, way []byte, level int, seq, below uint64) []byte {
	var tr trie
	if level < f.levels-1 {
		for k := range uint64(f.width) {
			tr = append(tr, link{int32(level), way[level], pointer{0, below + k}})
		}
	}
	position := level
	if f.first {
		position = 0
	}
	for k := len(tr); k < maxPointers; k++ {
		tr = append(tr, link{int32(position), (way[position] + byte(k%3) + 1) % 4, pointer{2, maxInteger - seq*maxPointers*2 - uint64(feed[0]%2)*maxPointers - uint64(k)}})
	}
	elsewhere := ""
	for k := 0; elsewhere == "" || path(elsewhere, true)[level] == way[level]; k++ {
		elsewhere = fmt.Sprintf("%d/%d", k, k)
	}
	r := rawEntry{key: elsewhere, trie: tr.sorted().encode(), clock: []uint64{seq + 1, 0, 0}, inflate: 1}
	if seq == 1 {
		r.feeds = []hypercore.Key{feed, victim, {9}}
	}
	return r.encode()
}

// TestFullTries: however much writers point to, a put looks at no more than its share, keeps no more than twice what may stay, and writes what every version reads.
func TestFullTries(t *testing.T) {
	for name, f := range map[string]fullTries{"deep": {12, 2, false}, "wide": {2, 32, false}, "only loaded": {2, 32, true}} {
		t.Run(name, func(t *testing.T) {
			const key = "f/key"
			n := f.node(t, key)
			w, work := dryPut(n.db.begin(nil), key)
			spent := 0
			for _, k := range work {
				if k >= maxWork {
					spent++
				}
				if k > maxWork+maxPointers { // the last trie or entry
					t.Errorf("a put looks at %d links of a head, of %d", k, maxWork)
				}
			}
			if spent < 2 {
				t.Errorf("two writers cost only %d", work)
			}
			if cap(w.trie) > 4*maxPointers {
				t.Errorf("room for %d pointers", cap(w.trie))
			}
			n.putReadable(t, key)
		})
	}
}

// TestLinksCount: every link that a put passes counts.
func TestLinksCount(t *testing.T) {
	n := fullTries{levels: 1, width: 1}.node(t, "f/key")
	if _, work := dryPut(n.db.begin(nil), "f/key"); work[1] != maxPointers {
		t.Errorf("%d of %d", work, maxPointers)
	}
}

// TestLoadsCount: a put is charged for values and for blocks that are no entries as well.
func TestLoadsCount(t *testing.T) {
	const key = "f/key"
	for name, block := range map[string][]byte{"no entries": {0xff}, "values": (&rawEntry{key: "a", value: make([]byte, maxWork/4), inflate: 1}).encode()} {
		t.Run(name, func(t *testing.T) {
			n := &testNode{local: hypercore.Key{1}, logs: map[hypercore.Key]*memoryLog{}}
			n.open(t, n.local, hypercore.Key{})
			if err := n.db.Authorize(t.Context(), hypercore.Key{2}); err != nil {
				t.Fatal(err)
			}
			evil, way := n.log(hypercore.Key{2}), path(key, true)
			evil.blocks = [][]byte{header, (&rawEntry{key: "a", inflate: 1, feeds: []hypercore.Key{evil.key, n.local}}).encode()}
			var tr trie
			for range 80 {
				tr = append(tr, link{0, way[0], pointer{0, uint64(len(evil.blocks))}})
				evil.blocks = append(evil.blocks, block)
			}
			evil.blocks = append(evil.blocks, (&rawEntry{key: "e/x", trie: tr.encode(), inflate: 1}).encode())
			evil.limit = uint64(len(evil.blocks))
			if err := n.db.Update(t.Context()); err != nil {
				t.Fatal(err)
			}
			b := n.db.begin(nil)
			if _, work := dryPut(b, key); work[len(b.heads)-1] < maxWork {
				t.Errorf("%d of %d", work, maxWork)
			}
		})
	}
}

// TestPointersTwice: a pointer that is there twice counts once, among few and among many.
func TestPointersTwice(t *testing.T) {
	for _, count := range []int{2, 2000} {
		var tr trie
		for i := range 2 * count {
			tr = append(tr, link{0, 1, pointer{0, uint64(i%count) + 1}})
		}
		got, err := decodeTrie(tr.encode(), 1)
		if err != nil || !slices.Equal(got, tr[:count]) {
			t.Errorf("%d of %d pointers, %v", len(got), count, err)
		}
	}
}

// TestNewestOfEachKey: of entries of two keys that share a path none is superfluous, not even of the empty key's.
func TestNewestOfEachKey(t *testing.T) {
	n := &testNode{local: hypercore.Key{1}, logs: map[hypercore.Key]*memoryLog{}}
	n.open(t, n.local, hypercore.Key{})
	if _, err := n.db.batch(t.Context(), nil, []Op{{Key: "/"}, {Key: ""}, {Key: ""}}); err != nil {
		t.Fatal(err)
	}
	w, _ := dryPut(n.db.begin(nil), "a")
	under := trie{{0, end, pointer{0, 1}}, {0, end, pointer{0, 2}}, {0, end, pointer{0, 3}}}
	if got := w.newest(w.entry, slices.Clone(under)); !slices.Equal(got, trie{under[0], under[2]}) {
		t.Errorf("%v", got)
	}
}

// TestLongestTrieFits: as many pointers as an entry may have, each as long as it can be and under a value of its own, are within the bound of bytes: what thin leaves is never refused.
func TestLongestTrieFits(t *testing.T) {
	tr := make(trie, maxPointers)
	for i := range tr {
		tr[i] = link{int32(1<<20 - maxPointers + i), 1, pointer{maxFeeds - 1, maxInteger}}
	}
	b := tr.encode()
	if len(b) > maxTrie {
		t.Errorf("%d bytes", len(b))
	}
	if got, err := decodeTrie(b, maxFeeds); err != nil || len(got) != maxPointers {
		t.Errorf("%d pointers, %v", len(got), err)
	}
	tr = append(tr, link{1 << 20, 1, pointer{0, 1}})
	if _, err := decodeTrie(tr.encode(), maxFeeds); !errors.Is(err, ErrBadEntry) {
		t.Errorf("one more: %v", err)
	}
}

// TestAddStaysNear: a link that belongs a few places further front goes there; one that belongs far in front does not move all that is there.
func TestAddStaysNear(t *testing.T) {
	var tr trie
	for _, position := range []int32{3, 2, 5, 4} {
		tr.add(link{position: position})
	}
	if !slices.IsSortedFunc(tr, compareLinks) {
		t.Errorf("%v", tr)
	}
	for position := int32(6); position < 1000; position++ {
		tr.add(link{position: position})
	}
	tr.add(link{position: 1})
	if slices.Contains(tr[:len(tr)-1-crowded], link{position: 1}) {
		t.Error("it went far")
	}
	for i, l := range tr.sorted() {
		if int(l.position) != i+1 {
			t.Fatalf("%d is at %d", l.position, i)
		}
	}
}

// BenchmarkWorstEntry is the longest trie that an entry may have: what it costs a reader, and a put to decode.
func BenchmarkWorstEntry(b *testing.B) {
	tr := make(trie, maxPointers)
	for i := range tr {
		tr[i] = link{0, 1, pointer{maxFeeds - 1, maxInteger - uint64(i)}}
	}
	encoded := tr.encode()
	b.ReportMetric(float64(len(encoded)), "bytes")
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			if err := eachLink(encoded, maxFeeds, func(link) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := decodeTrie(encoded, maxFeeds); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkFullTries is a put over two writers that use up maxWork.
func BenchmarkFullTries(b *testing.B) {
	n := fullTries{12, 2, false}.node(b, "f/key")
	for b.Loop() {
		dryPut(n.db.begin(nil), "f/key")
	}
}
