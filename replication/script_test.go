package replication_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"sync"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/replicationtest"
	"hyphafs.org/hyphafs/replication/wire"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		*h = nil
		return err
	}
	out, err := hex.DecodeString(*s)
	*h = out
	return err
}

// load reads vectors; those that packages share lie with the lowest of them.
func load(t testing.TB, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

// script is the other end of a session, played by a test frame by frame. It speaks in the clear unless it was given a nonce.
type script struct {
	t      testing.TB
	conn   replication.Conn
	send   *wire.Cipher
	frames chan wire.Frame    // what the node sent, keepalives left out; closed with the connection
	Err    chan error         // what Serve returned
	key    hypercore.Key      // source
	passed []wire.Frame       // read by next and not looked for
	wishes map[[2]uint64]bool // channel and block of the requests that were read
}

// play lets n serve a scripted peer. nonce: of an encrypting peer. The peer's Feed is sent; the node's is read.
func play(t testing.TB, n *replication.Node, source hypercore.Key, nonce *[24]byte) *script {
	t.Helper()
	mine, theirs := replicationtest.Pipe(t)
	s := &script{t: t, conn: mine, frames: make(chan wire.Frame, 100_000), Err: make(chan error, 1), key: source, wishes: map[[2]uint64]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { s.Err <- n.Serve(ctx, theirs, replication.Options{URL: "test://script"}) })
	done.Go(func() { s.read() })
	t.Cleanup(func() { cancel(); mine.Close(); done.Wait() })
	first := wire.Feed{DiscoveryKey: hypercore.DiscoveryKey(source)}
	if nonce != nil {
		first.Nonce = nonce[:]
	}
	s.write(first.Append(nil, 0))
	if nonce != nil {
		s.send = wire.NewCipher((*[32]byte)(&source), nonce)
	}
	return s
}

// read collects the node's frames.
func (s *script) read() {
	defer close(s.frames)
	r := wire.NewReader(s.conn)
	first, err := r.First()
	if err != nil {
		return
	}
	var feed wire.Feed
	if err := feed.Decode(first.Body); err != nil {
		s.t.Error(err)
		return
	}
	first.Body = append([]byte(nil), first.Body...)
	s.frames <- first
	if feed.Nonce != nil {
		r.Decrypt(wire.NewCipher((*[32]byte)(&s.key), (*[24]byte)(feed.Nonce)))
	}
	var b wire.Batch
	for r.Read(&b) == nil {
		for _, f := range b.Frames {
			f.Body = append([]byte(nil), f.Body...)
			s.frames <- f
		}
	}
}

// write sends plain bytes; a node that has closed is no error.
func (s *script) write(plain []byte) {
	out := append([]byte(nil), plain...)
	if s.send != nil {
		s.send.XOR(out)
	}
	_, _ = s.conn.Write(out)
}

// greet sends a handshake.
func (s *script) greet(live bool, extensions ...string) {
	s.write(wire.Handshake{ID: []byte("a scripted peer, 32 bytes long .."), Live: live, Extensions: extensions}.Append(nil, 0))
}

// next returns the node's next frame of one of the types.
func (s *script) next(types ...wire.Type) wire.Frame {
	s.t.Helper()
	return s.nextWithin(20*time.Second, types...)
}

// nextWithin is next with patience.
func (s *script) nextWithin(patience time.Duration, types ...wire.Type) wire.Frame {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case f, ok := <-s.frames:
			if !ok {
				s.t.Fatalf("the node closed (%v) before it sent %v", <-s.Err, types)
			}
			s.passed = append(s.passed, f)
			var m wire.Request
			if f.Type == wire.TypeRequest && m.Decode(f.Body) == nil {
				s.wishes[[2]uint64{f.Channel, m.Index}] = true
			}
			for _, want := range types {
				if f.Type == want {
					return f
				}
			}
		case <-timeout:
			s.t.Fatalf("the node does not send %v", types)
		}
	}
}

// ended returns what Serve returned, once it has.
func (s *script) ended() error {
	s.t.Helper()
	select {
	case err := <-s.Err:
		s.Err <- err
		return err
	case <-time.After(30 * time.Second):
		s.t.Fatal("the session goes on")
		return nil
	}
}

// alive checks that the session still answers.
func (s *script) alive() {
	s.t.Helper()
	s.write(wire.Range{Start: 8192, Length: 8192}.Append(nil, 0, wire.TypeWant))
	for {
		var m wire.Have
		f := s.next(wire.TypeHave)
		if err := m.Decode(f.Body); err != nil {
			s.t.Fatal(err)
		}
		if m.Start == 8192 && m.Length == 8192 {
			return
		}
	}
}

// asked waits until the node has asked for block seq on its channel.
func (s *script) asked(channel, seq uint64) {
	s.t.Helper()
	for !s.wishes[[2]uint64{channel, seq}] {
		s.next(wire.TypeRequest)
	}
	delete(s.wishes, [2]uint64{channel, seq})
}

// early returns a channel with what next passed over, if anything, else that with what comes.
func (s *script) early() <-chan wire.Frame {
	if len(s.passed) == 0 {
		return s.frames
	}
	out := make(chan wire.Frame, 1)
	out <- s.passed[0]
	s.passed = s.passed[1:]
	return out
}

// firstFrame is what opens a direction of the Hypha with this source, with a nonce or without.
func firstFrame(source hypercore.Key, encrypts bool) []byte {
	first := wire.Feed{DiscoveryKey: hypercore.DiscoveryKey(source)}
	if encrypts {
		first.Nonce = make([]byte, 24)
	}
	return first.Append(nil, 0)
}
