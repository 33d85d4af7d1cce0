package hyperdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// TestIndexProperty: whatever two or three writers put, delete and exchange, in whatever order, the index of a node that has everything holds
// exactly the entries that no other entry for the same key has seen.
func TestIndexProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		names := []hypercore.Key{{1}, {2}, {3}}
		nodes := make([]*testNode, rapid.IntRange(1, 3).Draw(rt, "writers"))
		for i := range nodes {
			nodes[i] = &testNode{local: names[i], logs: map[hypercore.Key]*memoryLog{}}
			nodes[i].open(t, names[0], hypercore.Key{})
		}
		exchange := func(a, b *testNode) {
			for _, k := range names[:len(nodes)] {
				x, y := a.log(k), b.log(k)
				if len(x.blocks) < len(y.blocks) {
					x, y = y, x
				}
				y.blocks, y.limit = slices.Clone(x.blocks), x.limit
			}
		}
		for i := range nodes[1:] {
			if err := nodes[0].db.Authorize(t.Context(), names[i+1]); err != nil {
				rt.Fatal(err)
			}
		}
		for _, n := range nodes { // who does not know a writer yet has not seen its entries, even if it has them
			exchange(nodes[0], n)
		}
		seen := map[Version]map[Version]bool{} // entry -> everything its writer had
		knows := make([]map[Version]bool, len(nodes))
		for i := range knows {
			knows[i] = map[Version]bool{}
		}
		keys := map[Version]string{}
		for range rapid.IntRange(1, 25).Draw(rt, "ops") {
			i := rapid.IntRange(0, len(nodes)-1).Draw(rt, "node")
			if j := rapid.IntRange(0, len(nodes)-1).Draw(rt, "other"); j != i && rapid.Bool().Draw(rt, "exchange") {
				exchange(nodes[i], nodes[j])
				for v := range knows[i] {
					knows[j][v] = true
				}
				for v := range knows[j] {
					knows[i][v] = true
				}
				continue
			}
			k := rapid.SampledFrom([]string{"a", "b", "a/b", "c/d/e"}).Draw(rt, "key")
			seq, err := nodes[i].db.Batch(t.Context(), []Op{{Key: k, Value: []byte("v"), Delete: rapid.Bool().Draw(rt, "delete")}})
			if err != nil {
				rt.Fatal(err)
			}
			v := Version{names[i], seq}
			keys[v], seen[v] = k, map[Version]bool{}
			for w := range knows[i] {
				seen[v][w] = true
			}
			knows[i][v] = true
		}
		for range 2 {
			for i := range nodes {
				exchange(nodes[0], nodes[i])
			}
		}
		ix, err := nodes[0].db.Index(t.Context())
		if err != nil {
			rt.Fatal(err)
		}
		for v, k := range keys {
			current := true
			for w := range keys {
				current = current && (keys[w] != k || !seen[w][v])
			}
			got := slices.ContainsFunc(ix.current[k], func(e *Entry) bool { return e.Version == v })
			if current != got && len(ix.current[k]) > 0 {
				rt.Fatalf("%v of %q: current %v, index says %v", v, k, current, got)
			}
		}
	})
}

// TestKnownWriters: a list that only an older entry had is not forgotten, and writers of earlier runs come back at once.
func TestKnownWriters(t *testing.T) {
	n := &testNode{local: hypercore.Key{1}, logs: map[hypercore.Key]*memoryLog{}}
	n.open(t, n.local, hypercore.Key{9})
	for _, k := range []hypercore.Key{{2}, {3}} {
		if err := n.db.Authorize(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	want := []Writer{{Key: hypercore.Key{1}, Content: hypercore.Key{9}}, {Key: hypercore.Key{2}, By: hypercore.Key{1}}, {Key: hypercore.Key{3}, By: hypercore.Key{1}}}
	if got := n.db.Writers(); !slices.Equal(got, want) {
		t.Errorf("writers %v", got)
	}
	again := &testNode{logs: n.logs}
	again.open(t, n.local, hypercore.Key{})
	if got := again.db.Writers(); !slices.Equal(got, want) {
		t.Errorf("after opening again: %v", got)
	}
	db, err := Open(t.Context(), Config{Source: hypercore.Key{1}, Known: []hypercore.Key{{7}}, Open: func(_ context.Context, k hypercore.Key) (Log, error) { return again.log(k), nil }})
	if err != nil || !db.Authorized(hypercore.Key{7}) {
		t.Errorf("a known writer was forgotten: %v", err)
	}
	if _, err := db.Batch(t.Context(), []Op{{Key: "a"}}); err == nil {
		t.Error("a node without a feed wrote")
	}
}

func TestKeysThatShareAPathAreRefused(t *testing.T) {
	n := &testNode{local: hypercore.Key{1}, logs: map[hypercore.Key]*memoryLog{}}
	n.open(t, n.local, hypercore.Key{})
	for _, k := range []string{"", "/", "a/", "//a"} {
		if _, err := n.db.Batch(t.Context(), []Op{{Key: k, Value: []byte("x")}}); err == nil {
			t.Errorf("%q was taken", k)
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	for _, sc := range scenarios(f, "hyperdb.json") {
		for _, blocks := range sc.Feeds {
			for _, b := range blocks {
				f.Add([]byte(b))
				f.Add(append([]byte{0x0a, 3, '/', '/', 'a', 0x22, 0}, b...))
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		raw, err := decodeEntry(b)
		if err != nil {
			return
		}
		if got, want := digits(raw.key), len(path(raw.key, true)); got != want {
			t.Fatalf("the path of %q has %d digits, said were %d", raw.key, want, got)
		}
		again, err := decodeEntry(raw.encode())
		if err != nil || string(again.encode()) != string(raw.encode()) {
			t.Fatalf("%+v\n%+v %v", raw, again, err)
		}
		if tr, err := decodeTrie(raw.trie, 3); err == nil {
			if again, err := decodeTrie(tr.encode(), 3); err != nil || string(again.encode()) != string(tr.encode()) {
				t.Fatalf("trie %v %v", tr, err)
			}
		}
	})
}

// FuzzDecodeTrie: a trie that is taken has no more pointers than it may, to feeds that are there, and encodes to one that is taken as well.
func FuzzDecodeTrie(f *testing.F) {
	for _, sc := range scenarios(f, "hyperdb.json") {
		for _, blocks := range sc.Feeds {
			for _, b := range blocks {
				if raw, err := decodeEntry([]byte(b)); err == nil {
					f.Add(raw.trie, uint8(len(sc.Feeds)))
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, feeds uint8) {
		tr, err := decodeTrie(b, int(feeds))
		var links int
		if also := eachLink(b, int(feeds), func(link) error { links++; return nil }); (also == nil) != (err == nil) || err == nil && links < len(tr) {
			t.Fatalf("decoded: %v; checked: %v, %d links of %d", err, also, links, len(tr))
		}
		if err != nil {
			if !errors.Is(err, ErrBadEntry) {
				t.Fatal(err)
			}
			return
		}
		for _, l := range tr {
			if l.feed >= int(feeds) || l.seq == 0 {
				t.Fatalf("%v", l)
			}
		}
		if again, err := decodeTrie(tr.encode(), int(feeds)); err != nil || string(again.encode()) != string(tr.encode()) || len(tr) > maxPointers {
			t.Fatalf("%d pointers, trie %v (%v)", len(tr), tr, err)
		}
	})
}

// FuzzHostileWriter: a second writer's feed holds two arbitrary blocks; the first goes on writing, and its value is there.
func FuzzHostileWriter(f *testing.F) {
	f.Add([]byte{0x0a, 1, 'q', 0x22, 0, 0x28, 3, 0x28, 3, 0x30, 1}, []byte{0xff})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		n := &testNode{local: hypercore.Key{1}, logs: map[hypercore.Key]*memoryLog{}}
		n.open(t, n.local, hypercore.Key{})
		evil := n.log(hypercore.Key{2})
		evil.blocks, evil.limit = [][]byte{header, one, two}, 3
		if err := n.db.Authorize(t.Context(), evil.key); err != nil {
			t.Fatal(err)
		}
		if _, err := n.db.Batch(t.Context(), []Op{{Key: "k", Value: []byte("v")}}); err != nil {
			t.Fatal(err)
		}
		ix, err := n.db.Index(t.Context())
		if err != nil || !slices.ContainsFunc(ix.Get("k"), func(e *Entry) bool { return string(e.Value) == "v" }) {
			t.Fatalf("%v %v", ix.Get("k"), err)
		}
	})
}

func BenchmarkBatch1000(b *testing.B) {
	n := &testNode{local: hypercore.Key{1}, logs: map[hypercore.Key]*memoryLog{}}
	n.open(b, n.local, hypercore.Key{})
	k := 0
	for b.Loop() {
		ops := make([]Op, 1000)
		for i := range ops {
			ops[i] = Op{Key: fmt.Sprintf("f/%016x", k*7919), Value: make([]byte, 150)}
			k++
		}
		if _, err := n.db.Batch(b.Context(), ops); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(k)/b.Elapsed().Seconds(), "puts/s")
}

// dark is a Log whose blocks are there and cannot be read for a while, as those of a bucket that does not answer.
type dark struct {
	*memoryLog
	off bool
}

func (d *dark) Block(seq uint64) ([]byte, error) {
	if d.off {
		return nil, hypercore.ErrNotStored
	}
	return d.memoryLog.Block(seq)
}

// TestUnreadable: entries that cannot be read for a while are looked at again.
func TestUnreadable(t *testing.T) {
	n := &testNode{local: hypercore.Key{1}, logs: map[hypercore.Key]*memoryLog{}}
	n.open(t, n.local, hypercore.Key{9})
	if err := n.db.Authorize(t.Context(), hypercore.Key{2}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.db.Batch(t.Context(), []Op{{Key: "a"}, {Key: "b"}}); err != nil {
		t.Fatal(err)
	}
	log := &dark{n.log(n.local), true}
	reader, err := Open(t.Context(), Config{Source: n.local, Open: func(_ context.Context, k hypercore.Key) (Log, error) {
		if k == n.local {
			return log, nil
		}
		return n.log(k), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := reader.Writers(); len(got) != 1 {
		t.Fatalf("in the dark there are %v", got)
	}
	log.off = false
	if err := reader.Update(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := reader.Writers(), n.db.Writers(); !slices.Equal(got, want) {
		t.Errorf("there are %v, want %v", got, want)
	}
}
