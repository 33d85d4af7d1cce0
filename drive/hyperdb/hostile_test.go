package hyperdb

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// TestWebOfPointers: two entries a digit, each pointing at both of the next digit on the way of another's key; walked one by one that
// would be 2^90 walkers.
func TestWebOfPointers(t *testing.T) {
	const victim, depth = "d/directory/token", 90
	way := path(victim, true)
	n := &testNode{local: hypercore.Key{1}, logs: map[hypercore.Key]*memoryLog{}}
	n.open(t, n.local, hypercore.Key{})
	evil := n.log(hypercore.Key{2})
	evil.blocks = [][]byte{header}
	for level := depth; level >= 0; level-- {
		below := uint64(len(evil.blocks)) - 2
		for range 2 {
			seq, tr := uint64(len(evil.blocks)), trie{}
			if level < depth {
				tr = trie{{int32(level), way[level], pointer{0, below}}, {int32(level), way[level], pointer{0, below + 1}}}
			}
			key := ""
			for k := 0; key == "" || path(key, true)[level] == way[level]; k++ {
				key = fmt.Sprintf("%d/%d/%d", k, k, k)
			}
			r := rawEntry{key: key, trie: tr.encode(), clock: []uint64{seq + 1, 0}, inflate: 1}
			if seq == 1 {
				r.feeds = []hypercore.Key{evil.key, n.local}
			}
			evil.blocks = append(evil.blocks, r.encode())
		}
	}
	evil.limit = uint64(len(evil.blocks))
	if err := n.db.Authorize(t.Context(), evil.key); err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq < evil.limit; seq++ {
		if _, err := n.db.Entry(evil.key, seq); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.db.Batch(t.Context(), []Op{{Key: victim, Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
}

// wideLog says it is 2^32 blocks long and stores the first few. It counts how often single blocks are asked for.
type wideLog struct {
	*memoryLog
	asked int
}

func (l *wideLog) Len() uint64 { return 1 << 32 }
func (l *wideLog) LastStored(below uint64) (uint64, bool) {
	return l.memoryLog.LastStored(below)
}
func (l *wideLog) NextMissing(from uint64) (uint64, bool) {
	return max(from, l.memoryLog.Len()), true
}
func (l *wideLog) Has(seq uint64) bool {
	if l.asked++; l.asked > 1000 {
		panic("the blocks of a long feed are asked for one by one")
	}
	return l.memoryLog.Has(seq)
}

func TestLongFeedOfFewBlocks(t *testing.T) {
	a := &testNode{local: hypercore.Key{1}, logs: map[hypercore.Key]*memoryLog{}}
	wide := &wideLog{memoryLog: &memoryLog{key: hypercore.Key{2}, blocks: [][]byte{header}, limit: 1}}
	db, err := Open(t.Context(), Config{Source: a.local, Local: a.log(a.local), Open: func(context.Context, hypercore.Key) (Log, error) { return wide, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Authorize(t.Context(), wide.key); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Batch(t.Context(), []Op{{Key: "k", Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
}

// TestFalsePointerDisplacesNothing: a writer points to blocks of another that are elsewhere in the tree, or nowhere; the good pointers beside them stay.
func TestFalsePointerDisplacesNothing(t *testing.T) {
	c := newCrowd(t, 3)
	c.write(2)
	for _, key := range []string{"elsewhere", "f"} {
		if _, err := c.nodes[1].db.Batch(t.Context(), []Op{{Key: key, Value: []byte("v")}}); err != nil {
			t.Fatal(err)
		}
	}
	c.exchange()
	n, liar := c.nodes[0], c.nodes[2]
	honest := c.nodes[1].local
	liar.db.crowded = 1 << 20
	if _, err := liar.db.Batch(t.Context(), []Op{{Key: fmt.Sprintf("f/%x", liar.local[:3]), Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	log := liar.log(liar.local)
	last := &log.blocks[len(log.blocks)-1]
	raw, err := decodeEntry(*last)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := decodeTrie(raw.trie, maxFeeds)
	if err != nil {
		t.Fatal(err)
	}
	var good link
	feed := slices.Index(liar.db.list, honest)
	for _, l := range tr {
		if l.feed == feed && l.digit != end && l.position >= 32 && l.seq > good.seq {
			good = l
		}
	}
	if good.seq == 0 {
		t.Fatalf("no pointer to %v in %v", honest, tr)
	}
	length := n.log(honest).limit
	for _, seq := range []uint64{length - 1, length - 2, length + 5, 1 << 40} {
		tr = append(tr, link{good.position, good.digit, pointer{feed, seq}})
	}
	raw.trie = tr.sorted().encode()
	*last = raw.encode()
	c.exchange()
	n.db.crowded = 0
	key := ""
	for i := 0; key == "" || path(key, true)[good.position] == good.digit; i++ {
		key = fmt.Sprintf("f/%d", i)
	}
	if _, err := n.db.Batch(t.Context(), []Op{{Key: key, Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	written := n.db.local.head
	if !slices.ContainsFunc(written.trie(), func(l link) bool {
		return written.list[l.feed] == honest && l.seq == good.seq && l.position == good.position && l.digit == good.digit
	}) {
		t.Errorf("the pointer to block %d is gone: %v", good.seq, written.trie())
	}
}

// TestFalsePointersInAll: more pointers than readers take, in all, each value with few of them, or under one value, lose those that lead nowhere.
func TestFalsePointersInAll(t *testing.T) {
	n := &testNode{local: hypercore.Key{1}, logs: map[hypercore.Key]*memoryLog{}}
	n.open(t, n.local, hypercore.Key{})
	if err := n.db.Authorize(t.Context(), hypercore.Key{2}); err != nil {
		t.Fatal(err)
	}
	good, err := n.db.Batch(t.Context(), []Op{{Key: "a", Value: []byte("v")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		positions int32
		pointers  uint64 // under a value
	}{"in all": {32, maxWritten - 1}, "under one value": {1, maxWritten + 1}} {
		t.Run(name, func(t *testing.T) {
			b := n.db.begin(nil)
			w := walk{batch: b, entry: &Entry{Version: Version{n.local, b.next}, Key: "b", list: b.list}, path: path("b", true), left: maxWork}
			for position := range c.positions {
				for digit := range byte(end) {
					for seq := range c.pointers {
						w.trie = append(w.trie, link{position, digit, pointer{1, 1<<40 + seq}})
					}
					if position == 0 && digit == path("a", true)[0] {
						w.trie = append(w.trie, link{position, digit, pointer{0, good}})
					}
				}
			}
			w.thin()
			if len(w.trie) != 1 || w.trie[0].seq != good {
				t.Errorf("%d pointers are left", len(w.trie))
			}
		})
	}
}

// TestFalsePointersSpoilNoEntry: two writers point to blocks that are not there, one to come from the writer itself, others so many that a put that takes over all would be refused by
// readers of versions before.
func TestFalsePointersSpoilNoEntry(t *testing.T) {
	for name, c := range map[string]struct {
		positions int
		pointers  uint64 // under a value
	}{"ahead": {1, 0}, "under one value": {1, maxWritten * 2 / 3}} {
		t.Run(name, func(t *testing.T) {
			n := &testNode{local: hypercore.Key{1}, logs: map[hypercore.Key]*memoryLog{}}
			n.open(t, n.local, hypercore.Key{})
			for i := range uint64(2) {
				evil, tr := n.log(hypercore.Key{byte(2 + i)}), trie{}
				for position := range int32(c.positions) {
					for digit := range byte(end) {
						for k := range c.pointers {
							tr = append(tr, link{position, digit, pointer{2, 1<<40 + c.pointers*i + k}})
						}
						tr = append(tr, link{position, digit, pointer{1, 1 << 40}})
					}
				}
				r := rawEntry{key: "a/b", trie: tr.encode(), clock: []uint64{2, 0}, inflate: 1, feeds: []hypercore.Key{evil.key, n.local, {9}}}
				evil.blocks, evil.limit = [][]byte{header, r.encode()}, 2
				if err := n.db.Authorize(t.Context(), evil.key); err != nil {
					t.Fatal(err)
				}
				if _, err := n.db.Entry(evil.key, 1); err != nil {
					t.Fatal(err)
				}
			}
			n.putReadable(t, "a/c")
		})
	}
}

// putReadable puts key and demands that readers take the entry, those of earlier versions as well.
func (n *testNode) putReadable(t *testing.T, key string) {
	t.Helper()
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
