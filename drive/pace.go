package drive

import (
	"context"
	"sync/atomic"
	"time"
)

// Publishing takes more of the processor than changing does. While changes come faster than fastPace, from a copy or a compiler, what is quiet waits until they end or
// it is overdue; a person's own saves, and a log that is written all the time, are slower.
const (
	fastPace   = 256                    // journal frames in a second; to make a small file takes three
	paceWindow = 200 * time.Millisecond // over which they are counted, at least
)

// What is not published takes memory, and time at the next start. Whoever changes names faster than they are published, for longer than a minute or so, is slowed down to that.
const (
	mostBehind = 1 << 16              // names that wait; beyond that each change of one is delayed,
	mostDelay  = 2 * time.Millisecond // by this at twice as many and above
)

// pace is how fast the drive changes.
type pace struct {
	frames atomic.Uint64 // written to the journal since it was opened
	behind atomic.Int64  // names that wait while a full batch goes out; 0: all that is due goes out
	until  atomic.Int64  // nothing becomes due before, in ns since 1970, while what is quiet waits

	// Guarded by Drive.publishing.
	at   time.Time // of the last look, and the frames until then
	seen uint64
	fast bool
}

// look finds out whether changes come fast. Called with Drive.publishing held.
func (p *pace) look(now time.Time) {
	passed := now.Sub(p.at)
	if passed < paceWindow {
		return
	}
	frames := p.frames.Load()
	p.fast = float64(frames-p.seen) > fastPace*passed.Seconds()
	p.at, p.seen = now, frames
}

// nothingDue reports that a look found nothing that is due at now. While changes come fast that saves looking through all of them four times a second.
func (p *pace) nothingDue(now time.Time) bool { return now.UnixNano() < p.until.Load() }

// looked notes when the first of what waits is overdue, hurry that something is due before its time. Called with Drive.mu held.
func (p *pace) looked(overdue time.Time) { p.until.Store(overdue.UnixNano()) }
func (p *pace) hurry()                   { p.until.Store(0) }

// wait delays a change of a name while publishing is far behind, or until ctx ends. No lock is held.
func (p *pace) wait(ctx context.Context) {
	late := p.behind.Load() - mostBehind
	if late <= 0 {
		return
	}
	delay := time.NewTimer(min(time.Duration(late)*mostDelay/mostBehind, mostDelay))
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-ctx.Done():
	}
}
