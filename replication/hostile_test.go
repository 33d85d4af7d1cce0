package replication_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/replicationtest"
	"hyphafs.org/hyphafs/replication/wire"
)

// hostile plays a peer against a fresh reader of one feed, in a bubble of fake time.
func hostile(t *testing.T, f func(t *testing.T, feed *hypercore.Feed, n *replication.Node, s *script)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		feed := replicationtest.Reader(t, 0)
		n, _ := replicationtest.Node(t, replication.Config{AllowClear: true}, feed)
		s := play(t, n, feed.Key(), &[24]byte{3})
		f(t, feed, n, s)
	})
}

func TestSilentPeerIsGivenUp(t *testing.T) {
	hostile(t, func(t *testing.T, _ *hypercore.Feed, _ *replication.Node, s *script) {
		begun := time.Now()
		if err := s.ended(); !errors.Is(err, replication.ErrSilent) { // it never shakes hands
			t.Error(err)
		}
		if took := time.Since(begun); took > 12*time.Second {
			t.Errorf("after %v", took)
		}
	})
	hostile(t, func(t *testing.T, _ *hypercore.Feed, _ *replication.Node, s *script) {
		s.greet(true)
		begun := time.Now()
		if err := s.ended(); !errors.Is(err, replication.ErrSilent) {
			t.Error(err)
		}
		if took := time.Since(begun); took < 19*time.Second || took > 23*time.Second {
			t.Errorf("after %v", took)
		}
	})
}

func TestKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Writer(t, 0))
		b, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Reader(t, 0))
		l := replicationtest.Connect(t, replicationtest.Pipe, a, b)
		time.Sleep(10 * time.Minute) // of fake time
		if len(a.Peers()) != 1 || len(b.Peers()) != 1 {
			t.Error("idle peers parted")
		}
		if p := a.Peers()[0]; p.Up < 100 || p.Up > 400 {
			t.Errorf("%d bytes in ten idle minutes", p.Up)
		}
		l.Cut()
	})
}

func TestWithholderIsGivenUp(t *testing.T) {
	hostile(t, func(t *testing.T, feed *hypercore.Feed, n *replication.Node, s *script) {
		s.greet(true)
		s.write(wire.Have{Start: 0, Length: 100}.Append(nil, 0))
		s.asked(0, 99)
		for range 3 {
			time.Sleep(4 * time.Second)
			s.write(wire.AppendKeepalive(nil))
		}
		begun := time.Now()
		if err := s.ended(); !errors.Is(err, replication.ErrUnanswered) {
			t.Error(err)
		}
		if took := time.Since(begun); took > 8*time.Second || n.Counters().Unanswered == 0 {
			t.Errorf("after %v, %+v", took, n.Counters())
		}
	})
}

// TestWithholderStallsNobody lets a peer announce everything and answer nothing while an honest one comes later.
func TestWithholderStallsNobody(t *testing.T) {
	hostile(t, func(t *testing.T, feed *hypercore.Feed, n *replication.Node, s *script) {
		w := replicationtest.Writer(t, 0, replicationtest.Blocks(1000, 100)...)
		honest, _ := replicationtest.Node(t, replication.Config{}, w)
		s.greet(true)
		s.write(wire.Have{Start: 0, Length: 1000}.Append(nil, 0))
		s.asked(0, 999)
		begun := time.Now()
		l := replicationtest.Connect(t, replicationtest.Pipe, honest, n)
		replicationtest.Wait(t, feed, 1000)
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("after %v", took)
		}
		l.Cut()
	})
}

func TestFloods(t *testing.T) {
	repeat := func(frame []byte, n int) []byte {
		var out []byte
		for range n {
			out = append(out, frame...)
		}
		return out
	}
	for _, c := range []struct {
		name  string
		bytes []byte
		err   error // nil: goes on
	}{
		{"answers nobody asked for", repeat(wire.Data{Index: 5, Value: []byte{1}}.Append(nil, 0), 2000), replication.ErrProtocol},
		{"feeds nobody knows", manyFeeds(), nil},
		{"messages on a feed nobody knows", append(manyFeeds(), repeat(wire.Info{}.Append(nil, 9), 20)...), replication.ErrProtocol},
		{"large messages on feeds nobody knows", append(manyFeeds(), manyLarge()...), replication.ErrProtocol},
		{"announces everything", wire.Have{Start: 0, Length: wire.MaxNumber}.Append(nil, 0), nil},
		{"announces the last block of all", wire.Have{Start: wire.MaxNumber, Length: wire.MaxNumber}.Append(nil, 0), nil},
		{"a run of 2^50 bytes", wire.Have{Start: 0, Length: 1 << 20, Bitfield: []byte{0x83, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x04}}.Append(nil, 0), nil},
		{"a bitfield at an odd place", wire.Have{Start: 3, Length: 1 << 20, Bitfield: []byte{2, 0xff}}.Append(nil, 0), nil},
		{"wants beyond the end of the world", repeat(wire.Range{Start: 1 << 40, Length: 1 << 33}.Append(nil, 0, wire.TypeWant), 100), nil},
		{"wants everything, as old peers do", wire.Range{}.Append(nil, 0, wire.TypeWant), nil},
		{"loses everything", wire.Range{Start: 0, Length: wire.MaxNumber}.Append(nil, 0, wire.TypeUnhave), nil},
		{"asks for what is not there", repeat(wire.Request{Index: 1 << 45, Nodes: wire.MaxNumber}.Append(nil, 0, wire.TypeRequest), 100), nil},
		{"asks for bytes and hashes", repeat(wire.Request{Index: 0, Bytes: 7, Hash: true}.Append(nil, 0, wire.TypeRequest), 10), nil},
		{"a huge handshake", wire.Handshake{Extensions: make([]string, 1000)}.Append(nil, 0), nil},
		{"closes the source's channel", wire.Feed{DiscoveryKey: [32]byte{1}}.Append(nil, 0), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			feed := replicationtest.Reader(t, 0)
			n, _ := replicationtest.Node(t, replication.Config{}, feed)
			s := play(t, n, feed.Key(), &[24]byte{3})
			s.greet(true)
			s.write(c.bytes)
			if c.err != nil {
				if err := s.ended(); !errors.Is(err, c.err) {
					t.Errorf("ended with %v", err)
				}
				return
			}
			s.write(wire.Feed{DiscoveryKey: feed.DiscoveryKey()}.Append(nil, 0)) // opens the channel again
			s.alive()
		})
	}
}

// manyFeeds opens channels 1 to 255 for feeds that nobody knows.
func manyFeeds() (out []byte) {
	for i := 1; i < 256; i++ {
		out = wire.Feed{DiscoveryKey: [32]byte{byte(i)}}.Append(out, uint64(i))
	}
	return out
}

func manyLarge() (out []byte) {
	for i := 1; i < 20; i++ {
		out = wire.Data{Index: 1, Value: make([]byte, 100_000)}.Append(out, uint64(i))
	}
	return out
}

// TestScatteredHaves announces every other block of a great many: the memory for that is bounded.
func TestScatteredHaves(t *testing.T) {
	feed := replicationtest.Reader(t, 0)
	n, _ := replicationtest.Node(t, replication.Config{}, feed)
	s := play(t, n, feed.Key(), &[24]byte{3})
	s.greet(true)
	field := make([]byte, 1<<17)
	for i := range field {
		field[i] = 0x55
	}
	code := wire.EncodeBits(field)
	for start := uint64(0); start < 1<<28; start += 1 << 23 {
		s.write(wire.Have{Start: start, Length: 1 << 20, Bitfield: code}.Append(nil, 0))
	}
	s.alive()
}

// TestReorderAndDuplicate lets a peer answer in reverse and twice.
func TestReorderAndDuplicate(t *testing.T) {
	w := replicationtest.Writer(t, 0, replicationtest.Blocks(64, 100)...)
	feed := replicationtest.Reader(t, 0)
	n, _ := replicationtest.Node(t, replication.Config{}, feed)
	s := play(t, n, feed.Key(), &[24]byte{3})
	s.greet(true)
	s.write(wire.Have{Start: 0, Length: 64}.Append(nil, 0))
	var marks hypercore.Marks
	give := func(seq, digest uint64) []byte {
		p, err := w.Proof(seq, digest, &marks, false)
		if err != nil {
			t.Fatal(err)
		}
		value, err := w.Block(seq)
		if err != nil {
			t.Fatal(err)
		}
		m := wire.Data{Index: seq, Value: value, Signature: p.Signature}
		for _, node := range p.Nodes {
			m.Nodes = append(m.Nodes, wire.Node(node))
		}
		return m.Append(nil, 0)
	}
	s.asked(0, 63)
	s.write(give(63, 0))
	for left := 63; left > 0; {
		var answers [][]byte
		for range min(left, 4) { // as many as it surely has under way
			var m wire.Request
			if err := m.Decode(s.next(wire.TypeRequest).Body); err != nil {
				t.Fatal(err)
			}
			answers = append(answers, give(m.Index, m.Nodes))
		}
		left -= len(answers)
		for i := len(answers) - 1; i >= 0; i-- {
			s.write(answers[i])
			s.write(answers[i])
		}
	}
	replicationtest.Wait(t, feed, 64)
	if err := feed.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLateIsAskedAgain: a peer that leaves one request unanswered, while it answers others, is asked later what it has: it may have been busy, and may be the only one.
func TestLateIsAskedAgain(t *testing.T) {
	hostile(t, func(t *testing.T, feed *hypercore.Feed, n *replication.Node, s *script) {
		w := replicationtest.Writer(t, 0, replicationtest.Blocks(2, 100)...)
		var marks hypercore.Marks
		give := func(seq uint64) {
			t.Helper()
			s.asked(0, seq)
			p, err := w.Proof(seq, 0, &marks, false)
			if err != nil {
				t.Fatal(err)
			}
			m := wire.Data{Index: seq, Value: replicationtest.Blocks(int(w.Len()), 100)[seq], Signature: p.Signature}
			for _, node := range p.Nodes {
				m.Nodes = append(m.Nodes, wire.Node(node))
			}
			s.write(m.Append(nil, 0))
		}
		s.greet(true)
		s.next(wire.TypeWant)
		s.write(wire.Have{Start: 0, Length: 2}.Append(nil, 0))
		give(1)
		s.asked(0, 0) // and not answered
		for seq := uint64(2); seq < 10; seq++ {
			time.Sleep(5 * time.Second)
			replicationtest.Append(t, w, replicationtest.Blocks(int(seq)+1, 100)[seq])
			s.write(wire.Have{Start: seq, Length: 1}.Append(nil, 0))
			give(seq)
		}
		synctest.Wait()
		if feed.Has(0) || n.Counters().Unanswered != 1 {
			t.Errorf("%+v", n.Counters())
		}
		asked := make(chan struct{})
		var alive sync.WaitGroup
		alive.Go(func() {
			for {
				select {
				case <-asked:
					return
				case <-time.After(5 * time.Second):
					s.write(wire.AppendKeepalive(nil))
				}
			}
		})
		for begun := time.Now(); ; {
			var m wire.Range
			if f := s.nextWithin(time.Minute, wire.TypeWant); m.Decode(f.Type, f.Body) == nil && m.Start == 0 {
				if took := time.Since(begun); took > 40*time.Second {
					t.Errorf("asked after %v", took)
				}
				break
			}
		}
		close(asked)
		alive.Wait()
		s.write(wire.Have{Start: 0, Length: 1 << 20, Bitfield: wire.EncodeBits(w.Bitfield(0, 10))}.Append(nil, 0))
		give(0)
		replicationtest.Wait(t, feed, 10)
	})
}

// TestUnhave takes back what was announced: another peer is asked.
func TestUnhave(t *testing.T) {
	w, feed := replicationtest.Writer(t, 0, replicationtest.Blocks(10, 100)...), replicationtest.Reader(t, 0)
	n, _ := replicationtest.Node(t, replication.Config{}, feed)
	s := play(t, n, feed.Key(), &[24]byte{3})
	s.greet(true)
	s.write(wire.Have{Start: 0, Length: 10}.Append(nil, 0))
	s.asked(0, 9)
	honest, _ := replicationtest.Node(t, replication.Config{}, w)
	s.write(wire.Range{Start: 0, Length: 10}.Append(nil, 0, wire.TypeUnhave))
	replicationtest.Connect(t, replicationtest.Pipe, honest, n)
	replicationtest.Wait(t, feed, 10)
}

// broken fails on every write of a block.
type broken struct{ *hypercore.Feed }

var errDisk = errors.New("disk is gone")

func (broken) Put(context.Context, uint64, []byte, hypercore.Proof) error { return errDisk }

func TestDiskFailureIsTold(t *testing.T) {
	w := replicationtest.Writer(t, 0, replicationtest.Blocks(10, 100)...)
	a, _ := replicationtest.Node(t, replication.Config{}, w)
	b, _ := replicationtest.Node(t, replication.Config{}, broken{replicationtest.Reader(t, 0)})
	l := replicationtest.Connect(t, replicationtest.Pipe, a, b)
	if err := <-l.B; !errors.Is(err, errDisk) {
		t.Error(err)
	}
	if c := b.Counters(); c.BadProofs != 0 {
		t.Error("the peer is blamed")
	}
}

// FuzzSession sends arbitrary bytes behind a proper opening: the session must end or go on, and hold nothing.
func FuzzSession(f *testing.F) {
	f.Add(wire.Have{Start: 0, Length: 9}.Append(nil, 0), true)
	f.Add(wire.Data{Index: 3, Value: []byte{1}, Nodes: []wire.Node{{Index: 1}}, Signature: make([]byte, 64)}.Append(nil, 0), true)
	f.Add(wire.Request{Index: 1, Nodes: 9}.Append(wire.Range{Length: 8192}.Append(nil, 0, wire.TypeWant), 0, wire.TypeRequest), false)
	f.Add(manyFeeds(), false)
	f.Add([]byte{0x82, 0x80, 0, 2, 8}, false)
	f.Fuzz(func(t *testing.T, odd []byte, writer bool) {
		feed := replicationtest.Reader(t, 0)
		if writer {
			feed = replicationtest.Writer(t, 1, replicationtest.Blocks(9, 20)...)
		}
		n, _ := replicationtest.Node(t, replication.Config{AllowClear: true}, feed)
		s := play(t, n, feed.Key(), nil)
		s.greet(true, "secure-ephemeral")
		s.write(odd)
		s.conn.Close()
		if err := s.ended(); err != nil && err.Error() == "" {
			t.Error(fmt.Sprint(err))
		}
		if feed.Len() > 9 {
			t.Error("blocks from nowhere")
		}
	})
}

// FuzzOpening: whatever a connection begins with, the session ends without a block from nowhere, and the node serves the next peer.
func FuzzOpening(f *testing.F) {
	source := replicationtest.Reader(f, 0).Key()
	discovery := hypercore.DiscoveryKey(source)
	clear := wire.Feed{DiscoveryKey: discovery}.Append(nil, 0)
	sealed := wire.Feed{DiscoveryKey: discovery, Nonce: make([]byte, 24)}.Append(nil, 0)
	shake := wire.Handshake{ID: make([]byte, 32), Live: true, Extensions: []string{"secure-ephemeral"}}.Append(nil, 0)
	f.Add(clear, shake, true)
	f.Add(sealed, append(shake, have(3)...), false)
	f.Add(wire.Feed{DiscoveryKey: hypercore.Key{1}}.Append(nil, 0), []byte{}, true)
	f.Add([]byte{0, 0, 0xff, 0xff, 0xff, 0x7f}, manyFeeds(), true)
	f.Fuzz(func(t *testing.T, first, rest []byte, allowClear bool) {
		feed := replicationtest.Reader(t, 0)
		n, _ := replicationtest.Node(t, replication.Config{AllowClear: allowClear}, feed)
		mine, theirs := replicationtest.Pipe(t)
		ended := make(chan error, 1)
		var all sync.WaitGroup
		all.Go(func() { ended <- n.Serve(t.Context(), theirs, replication.Options{URL: "test://fuzz"}) })
		all.Go(func() { _, _ = io.Copy(io.Discard, mine) })
		rest = bytes.Clone(rest)
		if bytes.Equal(first, sealed) { // so that what comes out is what was meant
			wire.NewCipher((*[32]byte)(&source), new([24]byte)).XOR(rest)
		}
		_, _ = mine.Write(append(bytes.Clone(first), rest...)) // a node that has closed is no error
		_ = mine.Close()
		if err := <-ended; err != nil && err.Error() == "" {
			t.Error(err)
		}
		all.Wait()
		if feed.Len() > 0 {
			t.Error("blocks from nowhere")
		}
	})
}

func have(seq uint64) []byte { return wire.Have{Start: seq, Length: 1}.Append(nil, 0) }

func nonsense(seq uint64) []byte {
	return wire.Data{Index: seq, Value: []byte("lie"), Nodes: []wire.Node{{Index: 9, Size: 4}, {Index: 3, Size: 4}}, Signature: make([]byte, 64)}.Append(nil, 0)
}

// TestForkBelowTheProof lets a reader meet a writer's second history, in which a block that the reader has is another one. What the proofs leave out, since the
// reader said that it knows it, is what differs: the first session ends with a bad proof, and the next one must tell the fork. If the first block of the second
// history that came was not the one behind what the reader has, the second history was taken up: the feed is a fork all the same.
func TestForkBelowTheProof(t *testing.T) {
	for _, length := range []int{6, 8, 9, 40} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			forks := make(chan *hypercore.ForkError, 1)
			feed := replicationtest.Reader(t, 0)
			n, _ := replicationtest.Node(t, replication.Config{OnFork: func(_ hypercore.Key, f *hypercore.ForkError) { forks <- f }}, feed)
			first, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Writer(t, 0, replicationtest.Blocks(5, 100)...))
			l := replicationtest.Connect(t, replicationtest.Pipe, first, n)
			replicationtest.Wait(t, feed, 5)
			l.Cut()

			other := replicationtest.Blocks(length, 100)
			other[4][50] ^= 1
			second, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Writer(t, 0, other...))
			l = replicationtest.Connect(t, replicationtest.Pipe, second, n)
			if err := <-l.B; !errors.Is(err, hypercore.ErrBadProof) {
				t.Fatalf("the first session ended with %v", err)
			}
			l.Cut()
			l = replicationtest.Connect(t, replicationtest.Pipe, second, n)
			select {
			case f := <-forks:
				if f.Ours.Length != 5 || f.Theirs.Length != uint64(length) {
					t.Errorf("%+v", f)
				}
			case err := <-l.B:
				t.Fatalf("no fork was told, the session ended with %v", err)
			}
			l.Cut()
			if feed.Forked() == nil || feed.Len() != 5 && feed.Len() != uint64(length) {
				t.Errorf("length %d, fork %v", feed.Len(), feed.Forked())
			}
		})
	}
}

// TestDoubtEnds lets a peer send a broken block and an honest one the whole feed: then proofs are short again.
func TestDoubtEnds(t *testing.T) {
	w := replicationtest.Writer(t, 0, replicationtest.Blocks(64, 100)...)
	feed := replicationtest.Reader(t, 0)
	n, _ := replicationtest.Node(t, replication.Config{}, feed)
	s := play(t, n, feed.Key(), &[24]byte{3})
	s.greet(true)
	s.write(wire.Have{Start: 0, Length: 64}.Append(nil, 0))
	s.asked(0, 63)
	s.write(wire.Data{Index: 63, Value: []byte("broken")}.Append(nil, 0))
	if err := s.ended(); !errors.Is(err, hypercore.ErrBadProof) {
		t.Fatal(err)
	}
	honest, _ := replicationtest.Node(t, replication.Config{}, w)
	l := replicationtest.Connect(t, replicationtest.Pipe, honest, n)
	replicationtest.Wait(t, feed, 64)
	l.Cut()
	replicationtest.Append(t, w, replicationtest.Blocks(1, 100)...)
	s = play(t, n, feed.Key(), &[24]byte{4})
	s.greet(true)
	s.write(wire.Have{Start: 64, Length: 1}.Append(nil, 0))
	var m wire.Request
	if err := m.Decode(s.next(wire.TypeRequest).Body); err != nil || m.Index != 64 || m.Nodes == 0 {
		t.Errorf("the request does not say what is known here: %+v, %v", m, err)
	}
}
