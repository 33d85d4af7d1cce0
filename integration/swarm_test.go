package integration

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/hyperdb"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/tcp"
	"hyphafs.org/hyphafs/replication/ws"
)

// swarm is the nodes of one Hypha in this process and in memory, as light as can be, so that hundreds of them meet at one always-on node: each has its own feeds, its own database that
// learns of writers from them, and its own connection.
type swarm struct {
	t      *testing.T
	source hypercore.Key
	nodes  []*swarmer // the origin, the other writers, the readers

	mu   sync.Mutex // guards what follows
	sent map[hypercore.Key][]time.Time
}

// swarmer is one node of a swarm.
type swarmer struct {
	swarm *swarm
	feeds *drive.FeedSet
	own   *hypercore.Feed // nil: it only reads
	db    *hyperdb.DB
	node  *replication.Node
	wake  chan struct{} // cap 1

	seen map[hypercore.Key]uint64 // blocks whose lag was taken; of the session
	lags []time.Duration          // how long blocks took from their append to here; of the session
}

// newSwarm makes an origin and further nodes, of which the first writers-1 ask to write.
func newSwarm(t *testing.T, writers, readers int) *swarm {
	t.Helper()
	s := &swarm{t: t, sent: map[hypercore.Key][]time.Time{}}
	for i := range writers + readers {
		var secret ed25519.PrivateKey
		if i < writers {
			var err error
			if _, secret, err = ed25519.GenerateKey(rand.Reader); err != nil {
				t.Fatal(err)
			}
		}
		if i == 0 {
			s.source = hypercore.Key(secret.Public().(ed25519.PublicKey))
		}
		s.nodes = append(s.nodes, s.newNode(secret))
	}
	return s
}

func (s *swarm) newNode(secret ed25519.PrivateKey) *swarmer {
	s.t.Helper()
	n := &swarmer{swarm: s, wake: make(chan struct{}, 1), seen: map[hypercore.Key]uint64{}}
	n.feeds = drive.NewFeedSet(s.source, func(key hypercore.Key) (*hypercore.Feed, error) {
		options := hypercore.Options{Cache: 64}
		if secret != nil && key == hypercore.Key(secret.Public().(ed25519.PublicKey)) {
			options.Secret = secret
		}
		return hypercore.Open(hypercore.NewMemory(), key, options)
	})
	config := hyperdb.Config{Source: s.source, OnWriter: n.feeds.Add, Open: func(_ context.Context, key hypercore.Key) (hyperdb.Log, error) { return n.feeds.Get(key) }}
	config.Cache = 64
	var err error
	if secret != nil {
		config.Cache = 1024
		if n.own, err = n.feeds.Get(hypercore.Key(secret.Public().(ed25519.PublicKey))); err != nil {
			s.t.Fatal(err)
		}
		config.Local = n.own
	}
	if n.db, err = hyperdb.Open(s.t.Context(), config); err != nil {
		s.t.Fatal(err)
	}
	if n.node, err = replication.New(replication.Config{Feeds: n}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := n.feeds.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return n
}

// Source, Feeds, Watch and Stored are replication.Feeds.
func (n *swarmer) Source() hypercore.Key            { return n.swarm.source }
func (n *swarmer) Watch() (<-chan struct{}, func()) { return n.feeds.Watch() }
func (n *swarmer) Feeds() (out []replication.Feed) {
	for _, f := range n.feeds.List() {
		out = append(out, f)
	}
	return out
}

// Stored notes how long blocks took.
func (n *swarmer) Stored(f replication.Feed) {
	now, key := time.Now(), f.Key()
	for seq := n.seen[key]; seq < f.Len() && f.Has(seq); seq++ {
		n.seen[key] = seq + 1
		if sent := n.swarm.sentAt(key, seq); !sent.IsZero() {
			n.lags = append(n.lags, now.Sub(sent))
		}
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// sentAt is when a block was appended; zero for headers.
func (s *swarm) sentAt(feed hypercore.Key, seq uint64) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sent := s.sent[feed]; seq < uint64(len(sent)) {
		return sent[seq]
	}
	return time.Time{}
}

// put appends count entries to the feed of a node, one append each.
func (n *swarmer) put(ctx context.Context, count int) error {
	for range count {
		key, at := n.own.Key(), n.own.Len()
		n.swarm.mu.Lock()
		sent := n.swarm.sent[key]
		for uint64(len(sent)) < at {
			sent = append(sent, time.Time{})
		}
		n.swarm.sent[key] = append(sent, time.Now())
		n.swarm.mu.Unlock()
		if _, err := n.db.Batch(ctx, []hyperdb.Op{{Key: fmt.Sprintf("f/%x/%d", key[:3], at%50), Value: make([]byte, 300)}}); err != nil {
			return err
		}
	}
	return nil
}

// fold learns of writers until ctx ends.
func (n *swarmer) fold(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
			if err := n.db.Update(ctx); err != nil && ctx.Err() == nil {
				n.swarm.t.Error(err)
			}
		}
	}
}

// connect connects every node with a, half of them by WebSocket. leave ends that.
func (s *swarm) connect(a *always) (leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i, n := range s.nodes {
		running.Go(func() { n.fold(ctx) })
		running.Go(func() {
			if i%2 == 0 {
				_ = ws.Dial(ctx, n.node, a.ws(), s.source, nil) // ends with ctx
			} else {
				_ = tcp.Dial(ctx, n.node, a.tcp, nil)
			}
		})
	}
	leave = sync.OnceFunc(func() { cancel(); running.Wait() })
	s.t.Cleanup(leave)
	return leave
}

// authorise lets the writers write, and waits until each knows that it may.
func (s *swarm) authorise(writers int) {
	s.t.Helper()
	for _, n := range s.nodes[1:writers] {
		if err := s.nodes[0].db.Authorize(s.t.Context(), n.own.Key()); err != nil {
			s.t.Fatal(err)
		}
	}
	waits := func() string {
		for i, n := range s.nodes[:writers] {
			if n.db.Authorized(n.own.Key()) {
				continue
			}
			f, err := n.feeds.Get(s.source)
			if err != nil {
				s.t.Fatal(err)
			}
			return fmt.Sprintf("node %d has %d and knows of %d of %d blocks of the source; its peers: %+v; it dropped: %+v; heads %v", i, f.Have(), f.Len(), s.nodes[0].own.Len(), n.node.Peers(), n.node.Counters(), n.db.Heads())
		}
		return ""
	}
	eventuallyElse(s.t, "all writers authorised", func() bool { return waits() == "" }, func() { s.t.Log(waits()) })
}

// complete waits until every node has every block of every writer.
func (s *swarm) complete(writers int) {
	s.t.Helper()
	lacks := func() string {
		for i, n := range s.nodes {
			for _, w := range s.nodes[:writers] {
				f, err := n.feeds.Get(w.own.Key())
				if err != nil {
					s.t.Fatal(err)
				}
				if f.Have() < w.own.Len() {
					return fmt.Sprintf("node %d has %d and knows of %d of %d blocks of a writer, and of %d writers; its peers: %+v; it dropped: %+v", i, f.Have(), f.Len(), w.own.Len(), len(n.db.Writers()), n.node.Peers(), n.node.Counters())
				}
			}
		}
		return ""
	}
	eventuallyElse(s.t, "every block on every node", func() bool { return lacks() == "" }, func() { s.t.Log(lacks()) })
}

// readable demands that a reader takes every entry of every writer.
func (s *swarm) readable(writers int) {
	s.t.Helper()
	reader := s.nodes[len(s.nodes)-1]
	for _, w := range s.nodes[:writers] {
		for seq := uint64(1); seq < w.own.Len(); seq++ {
			if _, err := reader.db.Entry(w.own.Key(), seq); err != nil {
				s.t.Errorf("entry %d of writer %s: %v", seq, w.own.Key(), err)
			}
		}
	}
}

// TestSwarm: 200 nodes are connected with one always-on node at once, 20 of them write: nothing is lost, no goroutine stays, and how far behind the slowest node was is told. For HYPHAFS_TEST_SWARM, or
// some seconds.
func TestSwarm(t *testing.T) {
	const nodes, writers = 200, 20
	long := duration(t, "HYPHAFS_TEST_SWARM", 10*time.Second)
	s := newSwarm(t, writers, nodes-writers)
	a := startAlways(t, "--hypha", s.source.String())
	idle := a.metric("go_goroutines")
	leave := s.connect(a)
	eventually(t, "all connected", func() bool {
		return a.metric(`hyphafs_sessions{kind="ws"}`)+a.metric(`hyphafs_sessions{kind="tcp"}`) == nodes
	})
	s.authorise(writers)
	cpu, nodesCPU := processCPU(t, a.cmd.Process.Pid), processCPU(t, os.Getpid())
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var writing sync.WaitGroup
	for _, n := range s.nodes[:writers] {
		writing.Go(func() {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					if err := n.put(t.Context(), 1); err != nil && !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				}
			}
		})
	}
	writing.Wait()
	s.complete(writers)
	s.readable(writers)
	if missing := a.metric("hyphafs_blocks_missing"); missing != 0 {
		t.Errorf("the always-on node lacks %v blocks", missing)
	}
	cpu, nodesCPU = processCPU(t, a.cmd.Process.Pid)-cpu, processCPU(t, os.Getpid())-nodesCPU
	peak := memoryOf(t, a.cmd.Process.Pid, "VmHWM")
	leave()
	eventually(t, "no goroutine of a connection left", func() bool { return a.metric("go_goroutines") <= idle+10 })
	s.report(long, cpu, nodesCPU, peak)
}

// report tells how far behind nodes were, and refuses more than two seconds in a long run, which needs a machine that does nothing else.
func (s *swarm) report(long, cpu, nodesCPU time.Duration, peak uint64) {
	var all []time.Duration
	worst := 0
	for i, n := range s.nodes {
		all = append(all, n.lags...)
		if len(n.lags) > 0 && slices.Max(n.lags) >= slices.Max(append(s.nodes[worst].lags, 0)) {
			worst = i
		}
	}
	slices.Sort(all)
	if len(all) == 0 {
		s.t.Fatal("no block was measured")
	}
	at := func(share float64) time.Duration { return all[int(share*float64(len(all)-1))].Round(time.Millisecond) }
	s.t.Logf("%v with %d nodes: %d blocks came to nodes; behind: median %v, 99%% %v, 99.9%% %v, slowest %v (node %d); CPU time: all nodes %v, which is %v a block, always-on node %v, which had %d MiB at most",
		long, len(s.nodes), len(all), at(0.5), at(0.99), at(0.999), at(1), worst, nodesCPU.Round(time.Millisecond), (nodesCPU / time.Duration(len(all))).Round(time.Microsecond), cpu.Round(time.Millisecond), peak>>20)
	if long >= 5*time.Minute && all[len(all)-1] > 2*time.Second {
		s.t.Errorf("the slowest node was %v behind", all[len(all)-1])
	}
}
