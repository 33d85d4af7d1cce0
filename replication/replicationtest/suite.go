package replicationtest

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
)

// deadline is when a test that waits is taken for stuck.
func deadline(testing.TB) <-chan time.Time { return time.After(30 * time.Second) }

// Suite is what every transport has to pass.
func Suite(t *testing.T, connect Connector) {
	t.Run("Download", func(t *testing.T) { download(t, connect) })
	t.Run("Live", func(t *testing.T) { live(t, connect) })
	t.Run("BothWays", func(t *testing.T) { bothWays(t, connect) })
	t.Run("OpenedOnTheFly", func(t *testing.T) { openedOnTheFly(t, connect) })
	t.Run("ManySmall", func(t *testing.T) { manySmall(t, connect) })
	t.Run("WantedFirst", func(t *testing.T) { wantedFirst(t, connect) })
	t.Run("Extension", func(t *testing.T) { extension(t, connect) })
	t.Run("Synced", func(t *testing.T) { synced(t, connect) })
	t.Run("OwnFeedComesBack", func(t *testing.T) { ownFeedComesBack(t, connect) })
	t.Run("OwnFeedHeldBack", func(t *testing.T) { ownFeedHeldBack(t, connect) })
	t.Run("OtherHypha", func(t *testing.T) { otherHypha(t, connect) })
}

func same(t testing.TB, a, b *hypercore.Feed) {
	t.Helper()
	if a.Root() != b.Root() {
		t.Errorf("roots differ: %d and %d blocks", a.Len(), b.Len())
	}
	for seq := range a.Len() {
		x, err := a.Block(seq)
		if err != nil {
			t.Fatal(err)
		}
		if y, err := b.Block(seq); err != nil || !bytes.Equal(x, y) {
			t.Fatalf("block %d differs: %v", seq, err)
		}
	}
	if err := b.Check(context.Background()); err != nil {
		t.Error(err)
	}
}

func download(t *testing.T, connect Connector) {
	w, r := Writer(t, 0, Blocks(100, 5000)...), Reader(t, 0)
	a, _ := Node(t, replication.Config{}, w)
	b, set := Node(t, replication.Config{}, r)
	Connect(t, connect, b, a)
	Wait(t, r, 100)
	same(t, w, r)
	if set.Calls() == 0 {
		t.Error("Stored was not called")
	}
}

func live(t *testing.T, connect Connector) {
	w, r := Writer(t, 0), Reader(t, 0)
	a, _ := Node(t, replication.Config{}, w)
	b, _ := Node(t, replication.Config{}, r)
	Connect(t, connect, a, b)
	for i, block := range Blocks(30, 100) {
		Append(t, w, block)
		if i%7 == 0 {
			Append(t, w, Blocks(9, 50)...)
		}
		Wait(t, r, w.Len())
	}
	same(t, w, r)
}

func bothWays(t *testing.T, connect Connector) {
	w0, r0 := Writer(t, 0, Blocks(50, 300)...), Reader(t, 0)
	w1, r1 := Writer(t, 1, Blocks(70, 9000)...), Reader(t, 1)
	a, _ := Node(t, replication.Config{}, w0, r1)
	b, _ := Node(t, replication.Config{}, r0, w1)
	Connect(t, connect, a, b)
	Wait(t, r0, 50)
	Wait(t, r1, 70)
	same(t, w0, r0)
	same(t, w1, r1)
}

func openedOnTheFly(t *testing.T, connect Connector) {
	w, r := Writer(t, 0, Blocks(3, 30)...), Reader(t, 0)
	a, setA := Node(t, replication.Config{}, w)
	b, setB := Node(t, replication.Config{}, r)
	Connect(t, connect, a, b)
	Wait(t, r, 3)
	for n := uint64(1); n < 6; n++ {
		wn, rn := Writer(t, n, Blocks(20, 100)...), Reader(t, n)
		if n%2 == 0 {
			setA.Add(wn)
			setB.Add(rn)
		} else {
			setB.Add(wn)
			setA.Add(rn)
		}
		Wait(t, rn, 20)
		Append(t, wn, Blocks(2, 10)...)
		Wait(t, rn, 22)
	}
}

func manySmall(t *testing.T, connect Connector) {
	w, r := Writer(t, 0, Blocks(20000, 100)...), Reader(t, 0)
	a, _ := Node(t, replication.Config{}, w)
	b, _ := Node(t, replication.Config{}, r)
	Connect(t, connect, a, b)
	Wait(t, r, 20000)
	same(t, w, r)
}

func wantedFirst(t *testing.T, connect Connector) {
	w, r := Writer(t, 0, Blocks(2000, 20000)...), Reader(t, 0)
	a, _ := Node(t, replication.Config{}, w)
	b, _ := Node(t, replication.Config{}, r)
	Connect(t, connect, a, b)
	got, err := r.Get(t.Context(), 1500)
	if err != nil || len(got) != 20000 {
		t.Fatal(len(got), err)
	}
	if have := r.Have(); have > 1400 {
		t.Errorf("%d blocks came before the one that was waited for", have)
	}
}

func extension(t *testing.T, connect Connector) {
	got, met := make(chan string, 10), make(chan replication.Peer, 2)
	w, r := Writer(t, 0), Reader(t, 0)
	a, _ := Node(t, replication.Config{Extension: func(_ replication.PeerID, p []byte) { got <- string(p) }}, w)
	b, _ := Node(t, replication.Config{OnPeer: func(p replication.Peer) { met <- p }}, r)
	Connect(t, connect, a, b)
	if p := <-met; !p.Encrypted || !p.Live || !p.Extension || p.Dialled {
		t.Errorf("peer %+v", p)
	}
	if n := b.Broadcast([]byte("let me in")); n != 1 {
		t.Errorf("%d peers", n)
	}
	if s := <-got; s != "let me in" {
		t.Errorf("got %q", s)
	}
	if n := b.Broadcast(make([]byte, 5000)); n != 0 {
		t.Errorf("a payload of 5 kB went to %d peers", n)
	}
}

func synced(t *testing.T, connect Connector) {
	w, r := Writer(t, 0, Blocks(500, 3000)...), Reader(t, 0)
	a, _ := Node(t, replication.Config{}, w)
	b, _ := Node(t, replication.Config{}, r)
	Connect(t, connect, a, b)
	for range 3 {
		if err := a.Synced(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r.Have() != w.Len() {
			t.Fatalf("synced with %d of %d blocks", r.Have(), w.Len())
		}
		Append(t, w, Blocks(100, 100)...)
	}
}

func ownFeedComesBack(t *testing.T, connect Connector) {
	storage := hypercore.NewMemory()
	lost, r := Open(t, storage, Key(1), Secret(1)), Reader(t, 1)
	w := Writer(t, 1, Blocks(40, 100)...)
	type ahead struct {
		length uint64
		proved bool
	}
	told := make(chan ahead, 100)
	source, mirror := Writer(t, 0), Reader(t, 0)
	a, _ := Node(t, replication.Config{}, source, w)
	b, _ := Node(t, replication.Config{}, mirror, r)
	first := Connect(t, connect, a, b)
	Wait(t, r, 40)
	first.Cut()
	c, _ := Node(t, replication.Config{OnAhead: func(_ hypercore.Key, n uint64, proved bool) { told <- ahead{n, proved} }}, Reader(t, 0), lost)
	Connect(t, connect, c, b)
	if got := <-told; got != (ahead{40, false}) {
		t.Errorf("told %+v", got)
	}
	if got := <-told; got != (ahead{40, true}) {
		t.Errorf("told %+v", got)
	}
	Wait(t, lost, 40)
	same(t, w, lost)
}

// ownFeedHeldBack keeps a node's own feed back until it is let go: the peer gets nothing of it before, and is never heard to have what it could only have from here.
func ownFeedHeldBack(t *testing.T, connect Connector) {
	own, mirror := Writer(t, 1, Blocks(40, 100)...), Reader(t, 1)
	source, copied := Reader(t, 0), Writer(t, 0, Blocks(300, 1000)...)
	var held atomic.Bool
	held.Store(true)
	ends := make(chan uint64, 100)
	a, _ := Node(t, replication.Config{
		Hold: func(key hypercore.Key) bool { return held.Load() && key == own.Key() },
		OnEnd: func(key hypercore.Key, length uint64) {
			if key == own.Key() && held.Load() {
				ends <- length
			}
		},
	}, source, own)
	b, _ := Node(t, replication.Config{}, copied, mirror)
	Connect(t, connect, a, b)
	if end := <-ends; end != 0 {
		t.Errorf("the peer has %d blocks", end)
	}
	Wait(t, source, 300) // the same connection carried all this meanwhile
	if n := mirror.Len(); n != 0 || len(ends) > 0 {
		t.Errorf("the peer got %d blocks and told of them %d times", n, len(ends))
	}
	held.Store(false)
	Append(t, own, []byte("one more"))
	Wait(t, mirror, 41)
	same(t, own, mirror)
}

func otherHypha(t *testing.T, connect Connector) {
	a, _ := Node(t, replication.Config{}, Writer(t, 0))
	b, _ := Node(t, replication.Config{}, Writer(t, 1))
	l := Connect(t, connect, a, b)
	<-l.A
	<-l.B
	if c := b.Counters(); c.OtherHypha != 1 {
		t.Errorf("%+v", c)
	}
}
