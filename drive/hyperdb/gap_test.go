package hyperdb

import (
	"context"
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

// lateLog is a log whose last block arrives while the database looks for the newest one.
type lateLog struct {
	*memoryLog
	late []byte
}

func (l *lateLog) LastStored(below uint64) (uint64, bool) {
	seq, ok := l.memoryLog.LastStored(below)
	if l.late != nil {
		l.blocks[l.limit-1], l.late = l.late, nil
	}
	return seq, ok
}

// TestBlockThatArrivesMeanwhile: a block that is stored while the database looks at its feed is found at the next Update, and covered by no clock before.
func TestBlockThatArrivesMeanwhile(t *testing.T) {
	c := newCrowd(t, 2)
	a, b := c.nodes[0], c.nodes[1]
	for range 2 {
		if _, err := b.db.Batch(t.Context(), []Op{{Key: "theirs", Value: []byte("v")}}); err != nil {
			t.Fatal(err)
		}
	}
	from := b.log(b.local)
	late := &lateLog{&memoryLog{key: b.local, blocks: slices.Clone(from.blocks), limit: from.limit}, nil}
	late.blocks[from.limit-1] = nil
	own := a.log(a.local)
	db, err := Open(t.Context(), Config{Source: a.local, Local: own, Open: func(context.Context, hypercore.Key) (Log, error) { return late, nil }})
	if err != nil {
		t.Fatal(err)
	}
	late.late = from.blocks[from.limit-1]
	if err := db.Update(t.Context()); err != nil || late.late != nil {
		t.Fatal("the block did not arrive: ", err)
	}
	if seen := db.Clock()[b.local]; seen != from.limit-1 {
		t.Errorf("%d blocks are seen before the last of %d was looked at", seen, from.limit)
	}
	if err := db.Update(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := (Version{b.local, from.limit - 1}); db.Clock()[b.local] != from.limit || !slices.Contains(db.Heads(), want) {
		t.Errorf("heads %v, clock %v, without block %d", db.Heads(), db.Clock(), want.Seq)
	}
}
