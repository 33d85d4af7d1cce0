package hyperdb

import (
	"context"
	"errors"
	"fmt"
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
				tr.add(level, way[level], pointer{0, below})
				tr.add(level, way[level], pointer{0, below + 1})
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

func TestCrowdedTrieIsRefused(t *testing.T) {
	var tr trie
	for i := range uint64(maxShared + 1) {
		tr.add(0, 1, pointer{0, i + 1})
	}
	if _, err := decodeTrie(tr.encode(), 1); !errors.Is(err, ErrBadEntry) {
		t.Error(err)
	}
}
