package replication

import (
	"sync"
	"time"
)

// fetch is what the sessions of a node share about one feed: who asked for which block, and what is news for whom.
type fetch struct {
	mu       sync.Mutex // taken after nothing, held over nothing but the channels' wake-ups
	flights  map[uint64]flight
	channels map[*channel]struct{}
	ahead    uint64              // length of our own feed that was last reported to be ahead of ours
	doubts   map[uint64]struct{} // blocks that came with a bad proof and did not come since
}

// flight is a block that a session asked for.
type flight struct {
	by *channel
	at time.Time
}

// A block that was asked for elsewhere is asked for again after this time: so one slow peer stalls nobody.
const (
	patience       = 4 * time.Second
	patienceUrgent = 2 * time.Second // when somebody waits for it
)

// take notes that c asks for seq; false if another session did a short while ago.
func (f *fetch) take(seq uint64, c *channel, now time.Time, wait time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old, ok := f.flights[seq]; ok && old.by != c && now.Sub(old.at) < wait {
		return false
	}
	f.flights[seq] = flight{c, now}
	return true
}

// flying reports whether another session asked for seq a short while ago.
func (f *fetch) flying(seq uint64, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl, ok := f.flights[seq]
	return ok && now.Sub(fl.at) < patience
}

// landed notes that seq is stored.
func (f *fetch) landed(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.flights, seq)
	delete(f.doubts, seq)
}

// maxDoubts bounds the blocks in doubt. One is enough to doubt the feed.
const maxDoubts = 64

// doubt notes that seq came with a bad proof.
func (f *fetch) doubt(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.doubts) < maxDoubts {
		f.doubts[seq] = struct{}{}
	}
}

// doubted reports whether proofs of the feed have to be whole: one that leaves out what is known here looks like a flipped bit when its feed
// is another history of ours, a whole one shows the fork.
func (f *fetch) doubted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.doubts) > 0
}

// release gives up what c asked for, seqs or everything, and lets the others look again.
func (f *fetch) release(c *channel, seqs ...uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if seqs == nil {
		for seq, fl := range f.flights {
			if fl.by == c {
				delete(f.flights, seq)
			}
		}
	}
	for _, seq := range seqs {
		if f.flights[seq].by == c {
			delete(f.flights, seq)
		}
	}
	for other := range f.channels {
		if other != c {
			other.rescan.Store(true)
			other.wake()
		}
	}
}

// join makes c hear of news.
func (f *fetch) join(c *channel) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.channels[c] = struct{}{}
}

// leave ends c's part.
func (f *fetch) leave(c *channel) {
	f.release(c)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.channels, c)
}

// span is the blocks from start to end, not including end.
type span struct{ start, end uint64 }

// maxNews bounds the list of news that a slow peer has not been told; beyond it the peer gets a bitfield.
const maxNews = 4096

// tell makes news of s for the channels of all sessions.
func (f *fetch) tell(news []span) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.channels {
		if len(c.news)+len(news) > maxNews {
			c.news, c.renew = nil, true
		} else {
			c.news = append(c.news, news...)
		}
		c.wake()
	}
}

// takeNews returns c's news and forgets them; renew: they were too many.
func (f *fetch) takeNews(c *channel) (news []span, renew bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	news, renew = c.news, c.renew
	c.news, c.renew = nil, false
	return news, renew
}

// reportAhead reports whether length is more than was reported of this feed.
func (f *fetch) reportAhead(length uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if length <= f.ahead {
		return false
	}
	f.ahead = length
	return true
}
