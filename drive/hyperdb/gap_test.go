package hyperdb

import (
	"fmt"
	"slices"
	"testing"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// TestPutsOverGaps: a put covers by its clock only what it came by, so that hyperdb's readers also find what lies behind a block that had not arrived.
func TestPutsOverGaps(t *testing.T) {
	const theirs = 8
	for i := range 32 { // keys whose ways part from the others' at different places
		c := newCrowd(t, 2)
		a, b := c.nodes[0], c.nodes[1]
		for i := range theirs {
			if _, err := b.db.Batch(t.Context(), []Op{{Key: fmt.Sprint("f/", i), Value: []byte("v")}}); err != nil {
				t.Fatal(err)
			}
		}
		from, to := b.log(b.local), a.log(b.local)
		to.blocks, to.limit = slices.Clone(from.blocks), from.limit
		to.blocks[from.limit-1-uint64(1+i%(theirs-1))] = nil
		ours := fmt.Sprint("f/ours", i)
		if _, err := a.db.Batch(t.Context(), []Op{{Key: ours, Value: []byte("v")}}); err != nil {
			t.Fatal(err)
		}
		reader := &testNode{logs: map[hypercore.Key]*memoryLog{a.local: a.log(a.local), b.local: from}}
		reader.open(t, a.local, hypercore.Key{})
		keys := []string{ours}
		for i := range theirs {
			keys = append(keys, fmt.Sprint("f/", i))
		}
		for _, key := range keys {
			if len(throughTrie(reader.db, key)) != 1 {
				t.Errorf("the tries do not lead to %s over %s", key, ours)
			}
		}
	}
}
