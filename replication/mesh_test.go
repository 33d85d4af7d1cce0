package replication_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/replicationtest"
)

// tally counts which payloads arrived how often.
type tally struct {
	mu  sync.Mutex
	got map[string]int
}

func (c *tally) handler(_ replication.PeerID, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got == nil {
		c.got = map[string]int{}
	}
	c.got[string(p)]++
}

func (c *tally) snapshot() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	for k, v := range c.got {
		out[k] = v
	}
	return out
}

// TestMeshOfRelays joins four relays, each with each, and a node at two of them. The npm relay triples every message at every hop here.
func TestMeshOfRelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var nodes [6]*replication.Node
		var tallies [6]tally
		for i := range nodes {
			nodes[i], _ = replicationtest.Node(t, replication.Config{Extension: tallies[i].handler}, replicationtest.Reader(t, 0))
		}
		var links []*replicationtest.Link
		join := func(i, j int) {
			links = append(links, replicationtest.Connect(t, replicationtest.Pipe, nodes[i], nodes[j]))
		}
		for i := range 4 {
			for j := range i {
				join(i, j)
			}
		}
		join(4, 0)
		join(5, 1)
		synctest.Wait()
		for k := range 3 {
			if n := nodes[4].Broadcast(fmt.Appendf(nil, "request %d", k)); n != 1 {
				t.Errorf("%d peers", n)
			}
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		for i := range tallies {
			got := tallies[i].snapshot()
			want := 3
			if i == 4 {
				want = 0 // the sender hears no echo
			}
			if len(got) != want {
				t.Errorf("node %d got %v", i, got)
			}
			for p, n := range got {
				if n != 1 {
					t.Errorf("node %d got %q %d times", i, p, n)
				}
			}
		}
		var repeated uint64
		for _, n := range nodes {
			repeated += n.Counters().ExtensionsRepeated
		}
		if repeated > 3*12 { // at most once over each link and direction
			t.Errorf("%d repetitions", repeated)
		}
		for _, l := range links {
			l.Cut()
		}
	})
}

func TestExtensionRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c tally
		a, _ := replicationtest.Node(t, replication.Config{Extension: c.handler}, replicationtest.Reader(t, 0))
		b, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Reader(t, 0))
		l := replicationtest.Connect(t, replicationtest.Pipe, b, a)
		synctest.Wait()
		for k := range 50 {
			b.Broadcast(fmt.Appendf(nil, "%d", k))
			synctest.Wait()
		}
		if n, limited := len(c.snapshot()), a.Counters().ExtensionsLimited; n != 8 || limited != 42 {
			t.Errorf("%d of a burst of 50 came through, %d dropped", n, limited)
		}
		time.Sleep(3 * time.Second)
		for k := range 10 {
			b.Broadcast(fmt.Appendf(nil, "later %d", k))
			synctest.Wait()
		}
		if n := len(c.snapshot()); n != 11 {
			t.Errorf("%d came through in all", n)
		}
		b.Broadcast([]byte("0")) // again after it was passed on, and again when that is forgotten
		time.Sleep(11 * time.Minute)
		b.Broadcast([]byte("0"))
		synctest.Wait()
		if got := c.snapshot(); got["0"] != 2 {
			t.Errorf("seen %d times", got["0"])
		}
		l.Cut()
	})
}

// TestSeveralPeers downloads from three peers at once, none of which has everything, one of which leaves in the middle.
func TestSeveralPeers(t *testing.T) {
	const count = 3000
	w := replicationtest.Writer(t, 0, replicationtest.Blocks(count, 1000)...)
	r := replicationtest.Reader(t, 0)
	n, _ := replicationtest.Node(t, replication.Config{}, r)
	var links []*replicationtest.Link
	for k := range 3 {
		part := replicationtest.Reader(t, 0)
		copyBlocks(t, w, part, func(seq uint64) bool { return seq%3 != uint64(k) && (k != 1 || seq < 300) }) // what leaves is not missed
		p, _ := replicationtest.Node(t, replication.Config{}, only{part})
		links = append(links, replicationtest.Connect(t, replicationtest.Pipe, n, p))
	}
	replicationtest.WaitHave(t, r, 5)
	links[1].Cut()
	replicationtest.Wait(t, r, count)
	for _, p := range n.Peers() {
		if p.Down < 100_000 {
			t.Errorf("peer %d gave %d bytes", p.PeerID, p.Down)
		}
	}
}

// only is a feed that asks for nothing.
type only struct{ *hypercore.Feed }

func (only) NextMissing(uint64) (uint64, bool) { return 0, false }

func copyBlocks(t *testing.T, from, to *hypercore.Feed, which func(seq uint64) bool) {
	t.Helper()
	var marks hypercore.Marks
	for seq := from.Len(); seq > 0; {
		seq--
		if !which(seq) {
			continue
		}
		p, err := from.Proof(seq, to.Digest(seq), &marks, false)
		if err != nil {
			t.Fatal(err)
		}
		b, err := from.Block(seq)
		if err != nil {
			t.Fatal(err)
		}
		if err := to.Put(t.Context(), seq, b, p); err != nil {
			t.Fatal(err)
		}
	}
}

// TestChain passes blocks through two relays while they are written.
func TestChain(t *testing.T) {
	w := replicationtest.Writer(t, 0)
	feeds := []*hypercore.Feed{w, replicationtest.Reader(t, 0), replicationtest.Reader(t, 0), replicationtest.Reader(t, 0)}
	var last *replication.Node
	for _, f := range feeds {
		n, _ := replicationtest.Node(t, replication.Config{}, f)
		if last != nil {
			replicationtest.Connect(t, replicationtest.Pipe, last, n)
		}
		last = n
	}
	for range 20 {
		replicationtest.Append(t, w, replicationtest.Blocks(50, 200)...)
	}
	replicationtest.Wait(t, feeds[3], 1000)
	if err := feeds[3].Check(t.Context()); err != nil {
		t.Error(err)
	}
}
