package auth

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// sent are the messages of a Requester and when they came.
type sent struct {
	t     *testing.T
	id    *Identity
	start time.Time
	at    []time.Duration
	asked []asked
}

func (s *sent) Broadcast(payload []byte) int {
	text, err := OpenMessage(s.id.Ephemeral(), payload)
	if err != nil {
		s.t.Error(err)
		return 0
	}
	a, err := parseRequest(s.id.Source, text)
	if err != nil {
		s.t.Error(err)
	}
	s.at, s.asked = append(s.at, time.Since(s.start)), append(s.asked, a)
	return 1
}

// requesterTest runs a Requester in a bubble.
func requesterTest(t *testing.T, body func(t *testing.T, s *sent, newPeer, authorised chan struct{}, cancel func())) {
	id := identityOf(t) // outside the bubble: it is shared
	synctest.Test(t, func(t *testing.T) {
		s := &sent{t: t, id: id, start: time.Now()}
		newPeer, authorised := make(chan struct{}), make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error)
		go func() {
			ended <- NewRequester(RequesterConfig{Identity: id, Writer: writerKey(1), Name: "Laptop", Sender: s, Authorised: authorised, NewPeer: newPeer}).Run(ctx)
		}()
		body(t, s, newPeer, authorised, cancel)
		n := len(s.at)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if len(s.at) != n {
			t.Error("asked after the end")
		}
	})
}

func TestRequesterRepeats(t *testing.T) {
	requesterTest(t, func(t *testing.T, s *sent, _, _ chan struct{}, cancel func()) {
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		var want []time.Duration
		for _, seconds := range []time.Duration{0, 5, 15, 35, 75, 135, 195, 255} {
			want = append(want, seconds*time.Second)
		}
		if !slices.Equal(s.at, want) {
			t.Errorf("asked at %v, want %v", s.at, want)
		}
		nonces := map[string]bool{}
		for i, a := range s.asked {
			nonces[a.nonce] = true
			if a.key != keyOf(writerKey(1)) || a.name != "Laptop" || a.proof != ProofSignature || !a.time.Equal(s.start.Add(s.at[i])) {
				t.Errorf("%+v", a)
			}
		}
		if len(nonces) != len(s.asked) {
			t.Error("a nonce came twice")
		}
		cancel()
		synctest.Wait()
	})
}

func TestRequesterNewPeer(t *testing.T) {
	requesterTest(t, func(t *testing.T, s *sent, newPeer, authorised chan struct{}, _ func()) {
		time.Sleep(100 * time.Second)
		newPeer <- struct{}{}
		synctest.Wait()
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if n := len(s.at); n != 7 || s.at[n-2] != 100*time.Second || s.at[n-1] != 105*time.Second {
			t.Error(s.at)
		}
		close(newPeer) // no more news is no reason to hurry
		synctest.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(s.at) > 12 {
			t.Errorf("%d requests", len(s.at))
		}
		close(authorised)
		synctest.Wait()
	})
}

func TestRequesterAuthorised(t *testing.T) {
	requesterTest(t, func(t *testing.T, s *sent, _, authorised chan struct{}, _ func()) {
		time.Sleep(time.Second)
		close(authorised)
		synctest.Wait()
		if len(s.at) != 1 {
			t.Error(s.at)
		}
	})
	s := &sent{t: t, id: identityOf(t)}
	authorised := make(chan struct{})
	close(authorised) // before it began
	if err := NewRequester(RequesterConfig{Identity: s.id, Writer: writerKey(1), Sender: s, Authorised: authorised}).Run(t.Context()); err != nil || len(s.at) != 0 {
		t.Error(err, s.at)
	}
}

func TestRequesterFails(t *testing.T) {
	broken := errors.New("no randomness")
	err := NewRequester(RequesterConfig{Identity: identityOf(t), Writer: writerKey(1), Sender: &sent{t: t}, Rand: iotest.ErrReader(broken)}).Run(t.Context())
	if !errors.Is(err, broken) {
		t.Error(err)
	}
}
