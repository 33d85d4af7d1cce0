package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"log/slog"
	"time"
)

// Sender hands a message to every peer and returns how many there were.
type Sender interface{ Broadcast(payload []byte) int }

// RequesterConfig of NewRequester. Rand, Now and Log have defaults.
type RequesterConfig struct {
	Identity   *Identity
	Writer     ed25519.PrivateKey // of the feed that asks to be written
	Name       string
	Sender     Sender
	Authorised <-chan struct{} // closed when the request was granted
	NewPeer    <-chan struct{} // a peer appeared: ask at once
	Rand       io.Reader
	Now        func() time.Time
	Log        *slog.Logger
}

// Requester asks for authorisation until it is granted.
type Requester struct{ cfg RequesterConfig }

// NewRequester returns a Requester.
func NewRequester(cfg RequesterConfig) *Requester {
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Requester{cfg}
}

// The times between two requests: the first, and the longest.
const (
	firstPause = 5 * time.Second
	lastPause  = time.Minute
)

// Run sends the request at once, then ever less often up to once a minute, and at once when a peer appears, each time with a fresh nonce. It returns nil
// when the request was granted or ctx ends.
func (r *Requester) Run(ctx context.Context) error {
	pause := firstPause
	for ctx.Err() == nil && !closed(r.cfg.Authorised) {
		if err := r.ask(); err != nil {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-r.cfg.Authorised:
			timer.Stop()
			return nil
		case _, ok := <-r.cfg.NewPeer:
			timer.Stop()
			pause = firstPause
			if !ok {
				r.cfg.NewPeer = nil // no more will be told
			}
		case <-timer.C:
			pause = min(2*pause, lastPause)
		}
	}
	return nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (r *Requester) ask() error {
	text, err := NewRequest(r.cfg.Identity.Source, r.cfg.Writer, r.cfg.Name, r.cfg.Now(), r.cfg.Rand)
	if err != nil {
		return err
	}
	message, err := SealMessage(r.cfg.Identity.Ephemeral(), text, r.cfg.Rand)
	if err != nil {
		return err
	}
	r.cfg.Log.Debug("asked to write", "peers", r.cfg.Sender.Broadcast(message))
	return nil
}
