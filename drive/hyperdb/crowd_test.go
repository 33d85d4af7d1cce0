package hyperdb

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// crowd is writers of one database that all write a key of their own in each round, and of the others always know all but the last round.
type crowd struct {
	t     testing.TB
	nodes []*testNode
	round int
}

func newCrowd(t testing.TB, writers int) *crowd {
	t.Helper()
	c := &crowd{t: t}
	for i := range writers {
		c.nodes = append(c.nodes, &testNode{local: hypercore.Key{byte(i + 1), byte(i * 37), byte(i * 91)}, logs: map[hypercore.Key]*memoryLog{}})
		c.nodes[i].open(t, c.nodes[0].local, hypercore.Key{})
	}
	for _, n := range c.nodes[1:] {
		if err := c.nodes[0].db.Authorize(t.Context(), n.local); err != nil {
			t.Fatal(err)
		}
	}
	c.exchange()
	return c
}

// exchange gives everybody what everybody has.
func (c *crowd) exchange() {
	for _, from := range c.nodes {
		for _, to := range c.nodes {
			if l := from.log(from.local); from != to {
				to.log(from.local).blocks, to.log(from.local).limit = l.blocks, l.limit
			}
		}
	}
}

// write is count rounds.
func (c *crowd) write(count int) {
	c.t.Helper()
	for range count {
		c.round++
		for _, n := range c.nodes {
			if _, err := n.db.Batch(c.t.Context(), []Op{{Key: fmt.Sprintf("f/%x", n.local[:3]), Value: make([]byte, 300)}}); err != nil {
				c.t.Fatal(err)
			}
		}
		c.exchange()
	}
}

// TestTriesStayShort: what two write at once does not become longer and longer. In hyperdb's way there would be a pointer more in each round, and after 1,024 of them readers of
// versions before would refuse what is written.
func TestTriesStayShort(t *testing.T) {
	c := newCrowd(t, 2)
	last := func() int {
		l := c.nodes[1].log(c.nodes[1].local)
		return len(l.blocks[len(l.blocks)-1])
	}
	c.write(20)
	early := last()
	c.write(1180)
	if late := last(); late > early+50 { // numbers have more digits
		t.Errorf("an entry has %d bytes after 20 rounds and %d after 1,200", early, late)
	}
	reader := &testNode{logs: c.nodes[0].logs}
	reader.open(t, c.nodes[0].local, hypercore.Key{})
	for _, n := range c.nodes {
		for seq := uint64(1); seq < n.log(n.local).limit; seq++ {
			if _, err := reader.db.Entry(n.local, seq); err != nil {
				t.Fatalf("block %d: %v", seq, err)
			}
		}
	}
}

// throughTrie returns the entries of key that hyperdb's way through the tries of the heads comes by, all pointers followed, without those that another one has seen.
func throughTrie(db *DB, key string) (found []*Entry) {
	p := path(key, true)
	seen := map[step]bool{}
	var from func(i int, e *Entry)
	follow := func(i int, e *Entry, digit byte) {
		at, _ := e.trie().from(i).at(i)
		for _, l := range at {
			if l.digit == digit {
				if next, err := db.entry(db.byKey[e.list[l.feed]], l.seq); err == nil {
					from(i+1, next)
				}
			}
		}
	}
	from = func(i int, e *Entry) {
		if seen[step{i, e.Version}] {
			return
		}
		seen[step{i, e.Version}] = true
		for ; i < len(p); i++ {
			if way := e.digits(); i >= len(way) || way[i] != p[i] {
				follow(i, e, p[i])
				return
			}
		}
		if e.Key == key {
			found = append(found, e)
		}
		follow(len(p)-1, e, end)
	}
	for _, h := range db.heads() {
		from(0, h)
	}
	return current(found)
}

// TestThinnedTriesLeadEverywhere: whatever two to four writers put, delete and exchange, the tries lead to every current entry, of two keys that share a path as well, also when of each feed only the newest pointer is kept
// under every value and followed, by all of them or by some.
func TestThinnedTriesLeadEverywhere(t *testing.T) {
	keys := []string{"a", "a/", "b", "a/b", "a/c", "c/d/e", "c/d/f", "c/g"}
	for i := range 12 {
		keys = append(keys, fmt.Sprintf("d/%d", i))
	}
	rapid.Check(t, func(rt *rapid.T) {
		c := newCrowd(t, rapid.IntRange(2, 4).Draw(rt, "writers"))
		for _, n := range c.nodes {
			n.db.crowded = rapid.SampledFrom([]int{0, 1, 2, 1 << 20}).Draw(rt, "crowded") // the last is hyperdb's way
		}
		pass := func(from, to *testNode) { // with all that from has, as sessions do
			for k, l := range from.logs {
				if m := to.log(k); k != to.local && m.limit < l.limit {
					m.blocks, m.limit = slices.Clone(l.blocks), l.limit
				}
			}
		}
		for range rapid.IntRange(1, 60).Draw(rt, "ops") {
			n := rapid.SampledFrom(c.nodes).Draw(rt, "node")
			if other := rapid.SampledFrom(c.nodes).Draw(rt, "other"); other != n && rapid.Bool().Draw(rt, "pass") {
				pass(n, other)
				continue
			}
			var ops []Op
			for range rapid.IntRange(1, 3).Draw(rt, "batch") {
				ops = append(ops, Op{Key: rapid.SampledFrom(keys).Draw(rt, "key"), Value: []byte("v"), Delete: rapid.Bool().Draw(rt, "delete")})
			}
			if _, err := n.db.batch(t.Context(), nil, ops); err != nil {
				rt.Fatal(err)
			}
		}
		for _, n := range c.nodes {
			ix, err := n.db.Index(t.Context())
			if err != nil {
				rt.Fatal(err)
			}
			for _, k := range keys {
				got := throughTrie(n.db, k)
				if !slices.ContainsFunc(got, func(e *Entry) bool { return !e.Deleted }) {
					got = nil
				}
				if want := ix.Get(k); !slices.EqualFunc(got, want, func(a, b *Entry) bool { return a.Version == b.Version }) {
					rt.Fatalf("the tries lead to %v of %q, not to %v", got, k, want)
				}
			}
		}
	})
}

// BenchmarkRead is a reader that meets entries of 20 writers one by one, early and late in their logs.
func BenchmarkRead(b *testing.B) {
	c := newCrowd(b, 20)
	for _, rounds := range []int{20, 100} {
		c.write(rounds - c.round)
		length := c.nodes[1].log(c.nodes[1].local).limit
		b.Run(fmt.Sprintf("round%d", rounds), func(b *testing.B) {
			reader := &testNode{logs: map[hypercore.Key]*memoryLog{}}
			for k, l := range c.nodes[0].logs {
				reader.logs[k] = &memoryLog{key: k, blocks: l.blocks, limit: l.limit}
			}
			reader.open(b, c.nodes[0].local, hypercore.Key{})
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				reader.db.entries.Purge()
				for i := range uint64(5) {
					w := c.nodes[n%len(c.nodes)]
					if _, err := reader.db.Entry(w.local, length-1-i); err != nil {
						b.Fatal(err)
					}
					n++
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/entry")
		})
	}
}

// BenchmarkCrowd is puts of 20 writers that write at once, early and late in their logs.
func BenchmarkCrowd(b *testing.B) {
	for _, rounds := range []int{20, 100} {
		b.Run(fmt.Sprintf("round%d", rounds), func(b *testing.B) {
			c := newCrowd(b, 20)
			c.write(rounds)
			n := 0
			for b.Loop() {
				c.write(1)
				n += len(c.nodes)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/put")
		})
	}
}
