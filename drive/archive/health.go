package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// ErrAway is returned when the bucket does not answer.
var ErrAway = errors.New("the bucket does not answer")

// health says whether the bucket answers. After a request without an answer the next ones fail at once, for a time that grows from try to try: a
// reader whose bucket is away must not wait for a timeout for each block.
type health struct {
	log *slog.Logger

	mu    sync.Mutex // guards what follows; held over nothing
	fails int        // in a row
	since time.Time  // when the first of them was
	next  time.Time  // when the next try may be made

	down atomic.Bool // fails > 0
}

const maxBackoff = 5 * time.Second

// backoff is how long to wait after n tries in a row that failed: 0.2 s, doubled each time, at most 5 s, less up to a half by chance.
func backoff(n int) time.Duration {
	d := min(100*time.Millisecond<<min(n, 10), maxBackoff)
	return d/2 + rand.N(d/2)
}

// try makes one request, unless the bucket did not answer a moment ago.
func (h *health) try(ctx context.Context, timeout time.Duration, request func(ctx context.Context) error) error {
	h.mu.Lock()
	wait := time.Until(h.next)
	if h.fails > 0 && wait <= 0 {
		h.next = time.Now().Add(backoff(h.fails)) // one asks, the others wait for what comes of it
	}
	h.mu.Unlock()
	if wait > 0 {
		return ErrAway
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := request(limited)
	if ctx.Err() != nil && !answered(err) {
		return err // the caller gave up: it says nothing about the bucket
	}
	h.note(err)
	if answered(err) || errors.Is(err, ErrUnusable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrAway, err)
}

// note takes up what came of a request.
func (h *health) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if answered(err) {
		if h.fails > 0 {
			h.log.Info("the bucket can be used again", "elapsed", time.Since(h.since).Round(time.Second))
		}
		h.fails, h.next = 0, time.Time{}
		h.down.Store(false)
		return
	}
	if h.fails == 0 {
		h.since = time.Now()
		h.log.Warn("the bucket cannot be used now: serving what is cached", "err", err)
	}
	h.fails++
	h.down.Store(true)
	h.next = time.Now().Add(backoff(h.fails))
}

// away returns since when the bucket does not answer, 0 if it does.
func (h *health) away() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fails == 0 {
		return 0
	}
	return time.Since(h.since)
}

// wait returns how long no request is made.
func (h *health) wait() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(0, time.Until(h.next))
}
