package replication

import (
	"crypto/sha256"
	"sync"
	"time"
)

const (
	ephemeral = "secure-ephemeral"

	maxPayload = 4 << 10 // bytes
	seenMax    = 4096
	seenAge    = 10 * time.Minute

	maxQueued = 64 // payloads that wait for one peer

	// Payloads that are passed on, of one connection that was accepted and of all together. What comes in seenAge fits into seenMax: nothing is forgotten early and passed on again.
	connectionRate, connectionBurst = 1, 8 // a second; at once
	hyphaRate, hyphaBurst           = 5, 64
)

// extensions lists those of a handshake, sorted; their ids are their positions.
func extensions() []string { return []string{ephemeral, limitExtension} }

const (
	idEphemeral = 0
	idLimit     = 1
)

// seen remembers the payloads of the last ten minutes, at most seenMax, by their hashes.
type seen struct {
	mu    sync.Mutex
	at    map[[32]byte]time.Time
	order [][32]byte // oldest first
	flow  bucket     // of what peers sent, all together
}

// has reports whether a payload is remembered.
func (s *seen) has(hash [32]byte, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	_, ok := s.at[hash]
	return ok
}

// add remembers a payload; false if it was remembered already.
func (s *seen) add(hash [32]byte, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remember(hash, now)
}

// admit is add for a payload that a peer sent; limited: there were too many of all peers together, and it is not remembered.
func (s *seen) admit(hash [32]byte, now time.Time) (added, limited bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.at[hash]; ok {
		return false, false
	}
	if !s.flow.take(now, hyphaRate, hyphaBurst) {
		return false, true
	}
	return s.remember(hash, now), false
}

// remember is add with mu held.
func (s *seen) remember(hash [32]byte, now time.Time) bool {
	s.forget(now)
	if _, ok := s.at[hash]; ok {
		return false
	}
	if s.at == nil {
		s.at = map[[32]byte]time.Time{}
	}
	s.at[hash] = now
	s.order = append(s.order, hash)
	return true
}

// forget drops what is old or too much. Called with mu held.
func (s *seen) forget(now time.Time) {
	n := 0
	for n < len(s.order) && (len(s.order)-n >= seenMax || now.Sub(s.at[s.order[n]]) > seenAge) {
		delete(s.at, s.order[n])
		n++
	}
	if n > 0 {
		s.order = append(s.order[:0], s.order[n:]...)
	}
}

// bucket is a token bucket. The zero value is full at its first use.
type bucket struct {
	tokens float64
	last   time.Time
}

// take takes a token, if there is one.
func (b *bucket) take(now time.Time, perSecond, burst float64) bool {
	if b.last.IsZero() {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+now.Sub(b.last).Seconds()*perSecond)
	}
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// received handles a payload that came from s: once to the handler and once to every other peer, never back.
func (n *Node) received(s *session, payload []byte) {
	if len(payload) > maxPayload {
		n.counts.extensionsTooLong.Add(1)
		return
	}
	now, hash := n.cfg.Now(), sha256.Sum256(payload)
	if n.seen.has(hash, now) {
		n.counts.extensionsRepeated.Add(1)
		return
	}
	perSecond, burst := float64(connectionRate), float64(connectionBurst)
	if s.opts.Dialled { // a peer that was chosen: what comes from it may be everybody's
		perSecond, burst = hyphaRate, hyphaBurst
	}
	if !s.bucket.take(now, perSecond, burst) {
		n.counts.extensionsLimited.Add(1)
		return
	}
	added, limited := n.seen.admit(hash, now)
	if limited {
		n.counts.extensionsLimited.Add(1)
	}
	if !added {
		return // too many, or another peer was a moment faster
	}
	payload = append([]byte(nil), payload...)
	n.counts.relayed.Add(1)
	n.spread(s, payload)
	if n.cfg.Extension != nil {
		n.cfg.Extension(s.id, payload)
	}
}

// spread queues a payload for all peers that understand it but not from, and returns how many those are.
func (n *Node) spread(from *session, payload []byte) (count int) {
	for _, s := range n.list() {
		if s != from && s.queue(payload) {
			count++
		}
	}
	return count
}

// queue makes the session send payload; false if its peer does not understand it or takes nothing any more.
func (s *session) queue(payload []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.speaks {
		return false
	}
	if len(s.payloads) >= maxQueued {
		s.node.counts.extensionsDropped.Add(1)
		return false
	}
	s.payloads = append(s.payloads, payload)
	signal(s.kick)
	return true
}

// takePayloads returns what queue collected.
func (s *session) takePayloads() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.payloads
	s.payloads = nil
	return out
}
