// Package redial keeps a connection to a peer: it dials, waits when that fails or the session ended, and dials again. It knows neither sockets nor URLs; the transports
// tcp and ws hand it a function that makes one session.
package redial

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"hyphafs.org/hyphafs/replication"
)

// DialTime is how long a transport gives a connection to come about.
const DialTime = 15 * time.Second

const (
	firstWait = 500 * time.Millisecond
	longWait  = 60 * time.Second
	goodTime  = 30 * time.Second // a session that lasted that long makes the next wait short again
)

// Run calls session, which connects once and returns when that connection has ended, again and again until ctx ends. Between two calls it waits as Backoff
// says; a session of half a minute or more makes the wait short again. A connection to the node itself ends it with replication.ErrSelf.
func Run(ctx context.Context, log *slog.Logger, session func(context.Context) error) error {
	var wait Backoff
	for {
		begun := time.Now()
		err := session(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, replication.ErrSelf):
			return err
		case time.Since(begun) >= goodTime:
			wait.Reset()
		}
		pause := wait.Next()
		log.Info("not connected", "err", err, "again_in", pause.Round(time.Millisecond))
		if !Sleep(ctx, pause) {
			return ctx.Err()
		}
	}
}

// Backoff says how long to wait before the next try. The zero value is ready. Not safe for concurrent use.
type Backoff struct{ next time.Duration }

// Next returns the time to wait: half a second at first, doubling up to a minute, give or take a quarter, so that the nodes of a Hypha do not come
// back all at the same moment.
func (b *Backoff) Next() time.Duration {
	wait := max(b.next, firstWait)
	b.next = min(2*wait, longWait)
	return wait*3/4 + rand.N(wait/2)
}

// Reset makes the next wait the first again.
func (b *Backoff) Reset() { b.next = 0 }

// Sleep waits; false: ctx ended.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
