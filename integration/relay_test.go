package integration

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/tcp"
	"hyphafs.org/hyphafs/replication/ws"
)

// listener is a peer in this process that hears what is relayed.
type listener struct {
	node *replication.Node

	mu    sync.Mutex // guards what follows
	heard map[string]int
}

// oneFeed is a set of feeds that never grows.
type oneFeed struct{ *hypercore.Feed }

func (o oneFeed) Source() hypercore.Key     { return o.Key() }
func (o oneFeed) Feeds() []replication.Feed { return []replication.Feed{o} }
func (o oneFeed) Stored(replication.Feed)   {}

// listen connects a peer of the Hypha of source to a, by WebSocket or TCP, until the test ends.
func listen(t *testing.T, a *always, source hypercore.Key, byWS bool) *listener {
	t.Helper()
	feed, err := hypercore.Open(hypercore.NewMemory(), source, hypercore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{heard: map[string]int{}}
	l.node, err = replication.New(replication.Config{Feeds: oneFeed{feed}, Extension: func(_ replication.PeerID, p []byte) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.heard[string(p)]++
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if byWS {
			_ = ws.Dial(ctx, l.node, a.ws(), source, nil) // ends with ctx
		} else {
			_ = tcp.Dial(ctx, l.node, a.tcp, nil)
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
		if err := feed.Close(); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the listener connected", func() bool { return len(l.node.Peers()) == 1 })
	return l
}

func (l *listener) times(payload string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard[payload]
}

// freePort returns a port of loopback that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestRelaysDoNotLoop: 2, 3 and 4 always-on nodes connected all to all pass a message on once each, and everybody hears it once. The relay of 2019 doubled or
// tripled it at every hop, for ever.
func TestRelaysDoNotLoop(t *testing.T) {
	source := identity(t).Source
	for n := 2; n <= 4; n++ {
		t.Run(fmt.Sprint(n, " nodes"), func(t *testing.T) { relayMesh(t, n, source) })
	}
}

func relayMesh(t *testing.T, n int, source hypercore.Key) {
	nodes := make([]*always, n)
	for i := range nodes {
		nodes[i] = newAlways(t, "--hypha", source.String())
		nodes[i].http, nodes[i].tcp = freePort(t), freePort(t)
		for j := range i {
			peer := nodes[j].byTCP()
			if (i+j)%2 == 0 {
				peer = nodes[j].ws()
			}
			nodes[i].flags = append(nodes[i].flags, "--peer", peer)
		}
		nodes[i].start()
	}
	for _, a := range nodes {
		eventually(t, "all relays connected with all", func() bool {
			return a.metric(`hyphafs_sessions{kind="tcp"}`)+a.metric(`hyphafs_sessions{kind="ws"}`) == float64(n-1)
		})
	}
	people := []*listener{listen(t, nodes[0], source, true), listen(t, nodes[n-1], source, false), listen(t, nodes[n/2], source, true)}
	const messages = 5
	for i := range messages {
		if got := people[i%3].node.Broadcast(fmt.Appendf(nil, "message %d", i)); got != 1 {
			t.Fatalf("sent to %d peers", got)
		}
	}
	for i := range messages {
		for who, l := range people {
			want := 1
			if who == i%3 {
				want = 0 // a relay does not echo
			}
			eventually(t, "everybody to hear everything", func() bool { return l.times(fmt.Sprintf("message %d", i)) >= want })
		}
	}
	relayed := func() (out []float64) {
		for _, a := range nodes {
			out = append(out, a.metric("hyphafs_ephemeral_relayed_total"))
		}
		return out
	}
	// Once each has passed on each, a loop would show as more of them, or as repeats that do not end.
	repeats := func() (sum float64) {
		for _, a := range nodes {
			sum += a.metric(`hyphafs_dropped_total{reason="ephemeral_repeated"}`)
		}
		return sum
	}
	settled := -1.0
	eventually(t, "the repeats to end", func() bool {
		before := settled
		settled = repeats()
		time.Sleep(200 * time.Millisecond) // a hop takes a millisecond
		return before == settled
	})
	for i, got := range relayed() {
		if got != messages {
			t.Errorf("node %d passed on %v of %d", i, got, messages)
		}
	}
	// Each node but the first sends on to all but the one it had it from: at most (n-1)(n-2) repeats a message.
	if most := float64(messages * (n - 1) * (n - 2)); settled > most {
		t.Errorf("%v repeats, at most %v are possible without a loop", settled, most)
	}
	for i := range messages {
		for who, l := range people {
			if got := l.times(fmt.Sprintf("message %d", i)); got > 1 || who == i%3 && got > 0 {
				t.Errorf("listener %d heard message %d %d times", who, i, got)
			}
		}
	}
}

// TestRelayLimits: a peer that floods is bounded, what is too long is dropped, and the next peer's message still comes through.
func TestRelayLimits(t *testing.T) {
	source := identity(t).Source
	a := startAlways(t, "--hypha", source.String())
	flooder, hearer, other := listen(t, a, source, true), listen(t, a, source, false), listen(t, a, source, true)
	for i := range 60 {
		flooder.node.Broadcast(fmt.Appendf(nil, "flood %d", i))
	}
	eventually(t, "the flood to be over", func() bool {
		return a.metric(`hyphafs_dropped_total{reason="ephemeral_limited"}`)+a.metric("hyphafs_ephemeral_relayed_total") == 60
	})
	if got := a.metric("hyphafs_ephemeral_relayed_total"); got > 20 {
		t.Errorf("%v of a flood of 60 were passed on", got)
	}
	other.node.Broadcast([]byte("let me in"))
	eventually(t, "the other one's message", func() bool { return hearer.times("let me in") == 1 })
}
