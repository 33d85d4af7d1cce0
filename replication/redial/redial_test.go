package redial_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/redial"
)

func TestBackoff(t *testing.T) {
	var b redial.Backoff
	want := 500 * time.Millisecond
	for range 12 {
		if got := b.Next(); got < want*3/4 || got > want*5/4 {
			t.Errorf("wait of %v, want about %v", got, want)
		}
		want = min(2*want, time.Minute)
	}
	b.Reset()
	if got := b.Next(); got > time.Second {
		t.Errorf("wait of %v after a reset", got)
	}
}

// TestRun: failures make the waits longer, a long session makes them short again, and the end of the context ends it.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var tries []time.Time
		lasts := func(try int) time.Duration {
			if try == 6 {
				return time.Minute
			}
			return 0
		}
		err := redial.Run(ctx, slog.New(slog.DiscardHandler), func(ctx context.Context) error {
			tries = append(tries, time.Now())
			time.Sleep(lasts(len(tries)))
			if len(tries) == 8 {
				cancel()
			}
			return errors.New("gone")
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		for i := 1; i < len(tries); i++ {
			wait := tries[i].Sub(tries[i-1]) - lasts(i)
			want := 500 * time.Millisecond << (i - 1)
			if i >= 6 {
				want = 500 * time.Millisecond << (i - 6)
			}
			if wait < want*3/4 || wait > want*5/4 {
				t.Errorf("wait %d took %v, want about %v", i, wait, want)
			}
		}
	})
}

func TestRunEndsAtItself(t *testing.T) {
	err := redial.Run(t.Context(), slog.New(slog.DiscardHandler), func(context.Context) error { return replication.ErrSelf })
	if !errors.Is(err, replication.ErrSelf) {
		t.Error(err)
	}
}
