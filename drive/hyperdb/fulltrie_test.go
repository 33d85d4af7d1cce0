package hyperdb

import (
	"fmt"
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

// dryPut makes b's put of key over all heads, and tells what it cost of maxWork.
func dryPut(b *batch, key string) (w *walk, work int) {
	w = &walk{batch: b, entry: &Entry{Version: Version{b.db.local.Key, b.next}, Key: key, list: b.list}, path: path(key, true)}
	for _, h := range b.heads {
		w.left = maxWork
		w.from(0, h)
		work += maxWork - w.left
	}
	w.left = maxWork
	w.thin()
	return w, work + maxWork - w.left
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
	if work > 16*rounds { // a few whole tries
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

// fullTries is a node with a few entries of its own, and two writers whose newest entries, and all that these lead to along the way of key, have as many pointers as an entry may. Each
// level is a digit further on, and each entry points to both of the next level.
func fullTries(t testing.TB, key string, levels int) *testNode {
	t.Helper()
	n := &testNode{local: hypercore.Key{1}, logs: map[hypercore.Key]*memoryLog{}}
	n.open(t, n.local, hypercore.Key{})
	for i := range 2 {
		if err := n.db.Authorize(t.Context(), hypercore.Key{byte(2 + i)}); err != nil {
			t.Fatal(err)
		}
	}
	way := path(key, true)
	for i := range 2 {
		evil := n.log(hypercore.Key{byte(2 + i)})
		evil.blocks = [][]byte{header}
		for level := levels - 1; level >= 0; level-- {
			for range 2 {
				tr, seq := trie{}, uint64(len(evil.blocks))
				for k := 0; len(tr) < maxPointers-2; k++ {
					tr = append(tr, link{int32(level), (way[level] + byte(k%3) + 1) % 4, pointer{2, 1<<40 + uint64(i+2)*seq*maxPointers + uint64(k)}})
				}
				if level < levels-1 {
					below := seq - 2 + seq%2
					tr = append(tr, link{int32(level), way[level], pointer{0, below - 1}}, link{int32(level), way[level], pointer{0, below}})
				}
				elsewhere := ""
				for k := 0; elsewhere == "" || path(elsewhere, true)[level] == way[level]; k++ {
					elsewhere = fmt.Sprintf("%d/%d", k, k)
				}
				r := rawEntry{key: elsewhere, trie: tr.sorted().encode(), clock: []uint64{seq + 1, 0, 0}, inflate: 1}
				if seq == 1 {
					r.feeds = []hypercore.Key{evil.key, n.local, {9}}
				}
				evil.blocks = append(evil.blocks, r.encode())
			}
		}
		evil.limit = uint64(len(evil.blocks))
		for seq := uint64(1); seq < evil.limit; seq++ {
			if _, err := n.db.Entry(evil.key, seq); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := n.db.Update(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFullTries: however much writers point to, a put looks at no more than its share, keeps no more than twice what may stay, and writes what every version reads.
func TestFullTries(t *testing.T) {
	const levels = 12
	key := "f/key"
	n := fullTries(t, key, levels)
	b := n.db.begin(nil)
	if len(b.heads) != 3 {
		t.Fatalf("heads %v", b.heads)
	}
	w, work := dryPut(b, key)
	if work < maxWork {
		t.Errorf("only %d links: the test shows nothing", work)
	}
	if most := len(b.heads)*(maxWork+maxPointers) + maxWork; work > most {
		t.Errorf("a put looks at %d links, of %d", work, most)
	}
	if cap(w.trie) > 4*maxPointers {
		t.Errorf("room for %d pointers", cap(w.trie))
	}
	seq, err := n.db.Batch(t.Context(), []Op{{Key: key, Value: []byte("v")}})
	if err != nil {
		t.Fatal(err)
	}
	n.db.entries.Purge()
	e, err := n.db.Entry(n.local, seq)
	if err != nil {
		t.Fatal(err)
	}
	if k := longest(e.trie()); k > maxWritten {
		t.Errorf("%d pointers under one value", k)
	}
}

// TestAddStaysNear: a link that belongs far in front does not move all that is there.
func TestAddStaysNear(t *testing.T) {
	var tr trie
	for i := range int32(1000) {
		tr.add(link{position: i + 1})
	}
	tr.add(link{})
	for i, l := range tr {
		if l.position == 0 && i < len(tr)-1-crowded {
			t.Errorf("it went to %d", i)
		}
	}
	for i, l := range tr.sorted() {
		if int(l.position) != i {
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
	key := "f/key"
	n := fullTries(b, key, 12)
	for b.Loop() {
		dryPut(n.db.begin(nil), key)
	}
}
