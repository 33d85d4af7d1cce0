package drive

import (
	"sync/atomic"
	"time"
)

// Publishing takes more of the processor than changing does. While changes come faster than fastPace, from a copy or a compiler, what is quiet waits until they end or
// it is overdue; a person's own saves, and a log that is written all the time, are slower.
const (
	fastPace   = 256                    // journal frames in a second; to make a small file takes three
	paceWindow = 200 * time.Millisecond // over which they are counted, at least
)

// pace is how fast the drive changes.
type pace struct {
	frames atomic.Uint64 // written to the journal since it was opened

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
