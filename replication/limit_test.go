package replication_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/replicationtest"
	"hyphafs.org/hyphafs/replication/wire"
)

// small is a feed with room for max bytes of blocks.
type small struct {
	*hypercore.Feed
	max uint64

	mu   *sync.Mutex // guards what follows
	used *uint64
	full *bool
}

func newSmall(f *hypercore.Feed, max uint64) small {
	return small{f, max, new(sync.Mutex), new(uint64), new(bool)}
}

func (s small) Put(ctx context.Context, seq uint64, value []byte, p hypercore.Proof) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *s.used+uint64(len(value)) > s.max {
		*s.full = true
		return fmt.Errorf("block %d: %w", seq, replication.ErrFull)
	}
	*s.used += uint64(len(value))
	return s.Feed.Put(ctx, seq, value, p)
}

func (s small) limit() (replication.Limit, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return replication.Limit{Max: s.max, Used: *s.used}, *s.full
}

// TestFull: a node without room stores what fits, says so, still serves and relays, and goes on when it has room again.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := replicationtest.Writer(t, 0, replicationtest.Blocks(20, 1000)...), newSmall(replicationtest.Reader(t, 0), 12_500)
		var heard tally
		a, _ := replicationtest.Node(t, replication.Config{Extension: heard.handler}, w)
		b, _ := replicationtest.Node(t, replication.Config{Limit: r.limit}, r)
		first := replicationtest.Connect(t, replicationtest.Pipe, a, b)
		if err := a.Synced(t.Context()); !errors.Is(err, replication.ErrFull) {
			t.Fatal(err)
		}
		if p := a.Peers(); len(p) != 1 || p[0].Limit != (replication.Limit{Max: 12_500, Used: 12_000}) {
			t.Errorf("%+v", p)
		}
		if r.Have() != 12 || b.Counters().Full == 0 {
			t.Errorf("it has %d blocks, %+v", r.Have(), b.Counters())
		}
		third := replicationtest.Reader(t, 0)
		c, _ := replicationtest.Node(t, replication.Config{}, third)
		second := replicationtest.Connect(t, replicationtest.Pipe, c, b)
		synctest.Wait()
		if third.Have() != 12 {
			t.Errorf("it serves %d of 12 blocks", third.Have())
		}
		c.Broadcast([]byte("let me in"))
		synctest.Wait()
		if got := heard.snapshot(); got["let me in"] != 1 {
			t.Errorf("relayed %v", got)
		}
		r.mu.Lock()
		*r.used, *r.full = 0, false
		r.mu.Unlock()
		time.Sleep(2 * time.Second) // it looks every second
		if err := a.Synced(t.Context()); err != nil || r.Have() != 20 || third.Have() < 12 {
			t.Errorf("with room again: %v, %d blocks", err, r.Have())
		}
		if p := a.Peers(); p[0].Limit != (replication.Limit{}) {
			t.Errorf("%+v", p)
		}
		first.Cut()
		second.Cut()
	})
}

// TestFullIsToldToOurs: a peer that does not list the extension is told nothing of it and served all the same.
func TestFullIsToldToOurs(t *testing.T) {
	hostile(t, func(t *testing.T, feed *hypercore.Feed, _ *replication.Node, _ *script) {
		n, _ := replicationtest.Node(t, replication.Config{AllowClear: true, Limit: func() (replication.Limit, bool) { return replication.Limit{Max: 1, Used: 1}, true }}, feed)
		for _, listed := range [][]string{{"secure-ephemeral"}, {"secure-ephemeral", "x-hyphafs-limit"}} {
			s := play(t, n, feed.Key(), nil)
			s.greet(true, listed...)
			s.write(wire.Range{Length: 1 << 20}.Append(nil, 0, wire.TypeWant))
			told := false
			for f := s.next(wire.TypeHave, wire.TypeExtension); f.Type != wire.TypeHave; f = s.next(wire.TypeHave, wire.TypeExtension) {
				told = true
			}
			if told != (len(listed) == 2) {
				t.Errorf("%v: told %v", listed, told)
			}
		}
	})
}

// TestBadLimits: what does not decode is dropped and counted.
func TestBadLimits(t *testing.T) {
	hostile(t, func(t *testing.T, _ *hypercore.Feed, n *replication.Node, s *script) {
		s.greet(true, "x-hyphafs-limit")
		for _, payload := range []string{"", "\x05", "\x05\x05\x05", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x05"} {
			s.write(wire.Extension{ID: 0, Payload: []byte(payload)}.Append(nil, 0))
		}
		s.write(wire.Extension{ID: 0, Payload: []byte("\x05\x04")}.Append(nil, 0))
		s.alive()
		if c := n.Counters().Malformed; c != 4 {
			t.Errorf("%d malformed", c)
		}
		if p := n.Peers(); p[0].Limit != (replication.Limit{Max: 5, Used: 4}) {
			t.Errorf("%+v", p)
		}
	})
}
