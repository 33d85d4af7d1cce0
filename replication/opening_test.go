package replication_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/replicationtest"
)

// meet lets a dial b with these options, waits until both shook hands or one gave up, and returns what each said.
func meet(t *testing.T, dialler, accepter replication.Options, allowClear bool) (encrypted bool, dialled, accepted error) {
	t.Helper()
	met := make(chan replication.Peer, 1)
	a, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Writer(t, 0, []byte("block")))
	b, _ := replicationtest.Node(t, replication.Config{AllowClear: allowClear, OnPeer: func(p replication.Peer) { met <- p }}, replicationtest.Reader(t, 0))
	ca, cb := replicationtest.Pipe(t)
	dialler.Dialled = true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var done sync.WaitGroup
	over := make(chan struct{}, 2)
	done.Go(func() { dialled = a.Serve(ctx, ca, dialler); over <- struct{}{} })
	done.Go(func() { accepted = b.Serve(ctx, cb, accepter); over <- struct{}{} })
	select {
	case p := <-met:
		encrypted = p.Encrypted
		cancel()
	case <-over: // the other one follows by itself
	}
	done.Wait()
	return encrypted, dialled, accepted
}

func TestClearOption(t *testing.T) {
	for name, c := range map[string]struct {
		dial, accept, allow bool
		encrypted           bool
		refused             error // by the accepting side
	}{
		"nobody says anything":       {false, false, false, true, context.Canceled},
		"in kind":                    {false, true, true, true, context.Canceled},
		"clear by the session":       {true, true, false, false, context.Canceled},
		"clear by the node":          {true, false, true, false, context.Canceled},
		"clear where nobody said so": {true, false, false, false, replication.ErrClear},
	} {
		encrypted, dialled, accepted := meet(t, replication.Options{Clear: c.dial}, replication.Options{Clear: c.accept}, c.allow)
		if encrypted != c.encrypted || !errors.Is(accepted, c.refused) {
			t.Errorf("%s: encrypted %v, dialler %v, accepter %v", name, encrypted, dialled, accepted)
		}
	}
}

// TestClearDiallerTakesNoCipher: who dialled in the clear, because the connection is private, is not talked into anything else.
func TestClearDiallerTakesNoCipher(t *testing.T) {
	n, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Reader(t, 0))
	mine, theirs := replicationtest.Pipe(t)
	defer mine.Close()
	if _, err := mine.Write(firstFrame(replicationtest.Key(0), true)); err != nil {
		t.Fatal(err)
	}
	if err := n.Serve(t.Context(), theirs, replication.Options{Dialled: true, Clear: true}); !errors.Is(err, replication.ErrEncrypts) {
		t.Error(err)
	}
}

// mute is a peer that takes everything and hangs up without a word.
type mute struct{ io.Writer }

func (mute) Read([]byte) (int, error) { return 0, io.EOF }
func (mute) Close() error             { return nil }

func TestHungUp(t *testing.T) {
	n, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Reader(t, 0))
	if err := n.Serve(t.Context(), mute{io.Discard}, replication.Options{Dialled: true}); !errors.Is(err, replication.ErrHungUp) {
		t.Error(err)
	}
}

// TestGreet chooses the node by what a peer says first; nothing of what it said is lost.
func TestGreet(t *testing.T) {
	nodes := map[hypercore.Key]*replication.Node{}
	for k := range uint64(3) {
		n, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Writer(t, k, replicationtest.Blocks(5, 50)...))
		nodes[hypercore.DiscoveryKey(replicationtest.Key(k))] = n
	}
	for k := range uint64(3) {
		reader := replicationtest.Reader(t, k)
		n, _ := replicationtest.Node(t, replication.Config{}, reader)
		ca, cb := replicationtest.Pipe(t)
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { _ = n.Serve(ctx, ca, replication.Options{Dialled: true}) })
		discovery, whole, err := replication.Greet(ctx, cb)
		if err != nil {
			t.Fatal(err)
		}
		done.Go(func() { _ = nodes[discovery].Serve(ctx, whole, replication.Options{}) })
		replicationtest.Wait(t, reader, 5)
		cancel()
		done.Wait()
	}
}

// TestGreetIsBounded: a peer that says nothing, or no first frame, costs ten seconds and a kilobyte.
func TestGreetIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine, theirs := replicationtest.Pipe(t)
		begun := time.Now()
		if _, _, err := replication.Greet(t.Context(), theirs); !errors.Is(err, replication.ErrSilent) || time.Since(begun) > 11*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		if _, err := mine.Write([]byte{1}); err == nil {
			t.Error("the connection is still open")
		}
	})
	mine, theirs := replicationtest.Pipe(t)
	if _, err := mine.Write([]byte("GET / HTTP/1.1\r\n\r\n and much more of that kind, until it cannot be a first frame any more")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := replication.Greet(t.Context(), theirs); err == nil {
		t.Error("nonsense is taken for a first frame")
	}
	if _, err := io.ReadAll(mine); err != nil {
		t.Error(err)
	}
}
