package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication/wire"
)

const (
	maxFlying  = 512 // requests of a session
	minFlying  = 4
	spareWish  = 64 // above maxFlying, for blocks that somebody waits for
	fairShare  = 32 // requests a channel makes before the next one's turn
	maxAnswers = 4096

	spareAnswers = 64 // room of the queue that is kept when it is empty
)

// window says how many requests a session may have under way: what the connection carries in about two seconds, from 256 KiB to 4 MiB.
type window struct {
	bytes    uint64 // the window
	average  uint64 // size of a block, in 1/16 bytes
	received uint64 // bytes at the last measurement
}

func newWindow() window { return window{bytes: 256 << 10, average: 16 * 64 << 10} }

// block takes up the size of a block.
func (w *window) block(size int) { w.average += uint64(size) - w.average/16 }

// measure takes up how much came in the last second.
func (w *window) measure(received uint64) {
	w.bytes = min(max(2*(received-w.received), w.bytes/2, 256<<10), 4<<20)
	w.received = received
}

// requests is the greatest number of requests.
func (w *window) requests() int {
	return int(min(max(w.bytes/max(w.average/16, 1), minFlying), maxFlying))
}

// answer is something the peer asked for.
type answer struct {
	channel *channel
	want    bool
	wants   wire.Range
	request wire.Request
}

// answers is the queue of what a peer asked for.
type answers struct{ queue []answer }

func (a *answers) push(it answer) error {
	if len(a.queue) >= maxAnswers {
		return fmt.Errorf("more than %d requests at once: %w", maxAnswers, ErrProtocol)
	}
	a.queue = append(a.queue, it)
	return nil
}

// pump sends whatever there is to be sent and may be sent now.
func (s *session) pump(ctx context.Context) error {
	if !s.open {
		return nil
	}
	now := s.node.cfg.Now()
	s.sendLimit()
	looked := s.looked[:0]
	for _, c := range s.channels {
		if c.dirty.Swap(false) || c.active {
			c.active = false
			looked = append(looked, c)
			c.sendWants()
			c.sendNews()
			c.askUrgent(now)
		}
	}
	s.looked = looked
	for more := true; more; {
		more = false
		for _, c := range looked {
			more = c.ask(now) || more
		}
	}
	for _, c := range looked {
		c.inform()
	}
	for _, payload := range s.takePayloads() {
		s.out.add(func(b []byte) []byte { return wire.Extension{ID: idEphemeral, Payload: payload}.Append(b, 0) })
	}
	return s.answer()
}

// answer serves the queue while the outbox has room.
func (s *session) answer() error {
	n := 0
	for n < len(s.answers.queue) && s.out.size() < highWater {
		a := s.answers.queue[n]
		n++
		var err error
		if a.want {
			a.channel.tellHave(a.wants)
		} else {
			err = a.channel.serve(a.request)
		}
		if err != nil {
			return err
		}
	}
	s.answers.queue = s.answers.queue[:copy(s.answers.queue, s.answers.queue[n:])]
	if len(s.answers.queue) == 0 && cap(s.answers.queue) > spareAnswers {
		s.answers.queue = nil
	}
	return nil
}

// tellHave answers a Want.
func (c *channel) tellHave(m wire.Range) {
	if c.held() {
		c.wanted, c.muted = true, true
		c.send(wire.Have{Start: m.Start, Length: min(m.Length, wantWindow), Bitfield: wire.EncodeBits(make([]byte, wantAlign/8))})
		return
	}
	length := c.feed.Len()
	if !c.wanted {
		c.wanted, c.announced = true, length
		if length > 0 && c.feed.Has(length-1) && len(c.tellable(span{length - 1, length})) > 0 {
			c.send(wire.Have{Start: length - 1, Length: 1})
		}
	}
	reach := min(m.Length, wantWindow)
	have := wire.Have{Start: m.Start, Length: reach}
	if m.Length == 0 {
		reach = wantWindow // peers of old versions mean everything
	}
	bits := c.feed.Bitfield(m.Start, reach)
	c.withhold(m.Start, bits)
	have.Bitfield = wire.EncodeBits(bits)
	c.send(have)
}

func (c *channel) send(m wire.Have) {
	c.session.out.add(func(b []byte) []byte { return m.Append(b, c.number) })
}

// held reports whether this node's own feed is kept back.
func (c *channel) held() bool {
	hold := c.session.node.cfg.Hold
	return hold != nil && c.feed.Writable() && hold(c.feed.Key())
}

// serve answers a Request. Requests by byte offset are answered for the index they name, as the npm package does when it cannot seek.
func (c *channel) serve(m wire.Request) error {
	var value []byte
	var p hypercore.Proof
	err := hypercore.ErrNotStored
	if !c.held() {
		p, err = c.feed.Proof(m.Index, m.Nodes, &c.marks, m.Hash)
	}
	if err == nil && !m.Hash {
		value, err = c.feed.Block(m.Index)
	}
	if errors.Is(err, hypercore.ErrNotStored) {
		c.session.out.add(func(b []byte) []byte {
			return wire.Range{Start: m.Index, Length: 1}.Append(b, c.number, wire.TypeUnhave)
		})
		return nil
	}
	if err != nil {
		return fmt.Errorf("serve block %d of feed %s: %w", m.Index, c.feed.Key(), err)
	}
	d := wire.Data{Index: m.Index, Value: value, Signature: p.Signature, Nodes: make([]wire.Node, len(p.Nodes))}
	for i, node := range p.Nodes {
		d.Nodes[i] = wire.Node(node)
	}
	c.session.out.add(func(b []byte) []byte { return d.Append(b, c.number) })
	return nil
}

// sendWants asks what the peer has: the first window, and those that reach up to the last block it told of. One Want may be sent before the
// peer has opened the feed.
func (c *channel) sendWants() {
	if !c.session.shook {
		return
	}
	need := uint64(1)
	if last, ok := c.has.last(); ok && c.remote >= 0 {
		need = last/wantWindow + 1
	}
	for ; c.wants < need && c.wantsOpen < maxWants; c.wants++ {
		c.want(c.wants * wantWindow)
	}
}

// want asks what the peer has of the window at start.
func (c *channel) want(start uint64) {
	c.wantsOpen++
	m := wire.Range{Start: start, Length: wantWindow}
	c.session.out.add(func(b []byte) []byte { return m.Append(b, c.number, wire.TypeWant) })
}

// sendNews announces new blocks to a peer that asked.
func (c *channel) sendNews() {
	if !c.wanted || c.session.out.size() >= highWater {
		c.active = c.active || c.wanted
		if !c.wanted {
			c.fetch.takeNews(c) // the answer to its Want will tell
		}
		return
	}
	news, renew := c.fetch.takeNews(c)
	if c.held() {
		c.muted, c.active = true, true
		return
	}
	renew, c.muted = renew || c.muted, false
	length := c.feed.Len()
	if c.feed.Writable() && length > c.announced {
		news = append(news, span{c.announced, length})
	}
	c.announced = max(c.announced, length)
	if renew {
		for at := uint64(0); at < length; at += wantWindow {
			c.tellHave(wire.Range{Start: at, Length: wantWindow})
		}
		return
	}
	for _, n := range news {
		for _, s := range c.tellable(n) {
			c.send(wire.Have{Start: s.start, Length: s.end - s.start})
		}
	}
}

// asking reports whether requests may be made on the channel.
func (c *channel) asking() bool {
	return c.session.shook && !c.session.full && c.remote >= 0 && c.uploading && !c.forked
}

// askUrgent asks for blocks that somebody waits for, and for one that makes a greater length known that the peer has.
func (c *channel) askUrgent(now time.Time) {
	if !c.asking() {
		return
	}
	for _, seq := range c.feed.Wanted() {
		if c.session.flying >= c.session.window.requests()+spareWish {
			break
		}
		if c.has.has(seq) && !c.feed.Has(seq) {
			c.request(seq, now, patienceUrgent)
		}
	}
	if seq, ok := c.grow(); ok && !c.growing && c.request(seq, now, patienceUrgent) {
		c.growing, c.growth = true, seq
	}
}

// grow chooses the block that makes a greater length known: the first behind ours, since everything that our length stands on takes part in its
// proof, so that another history of the feed shows; the peer's last if it does not have that one, or if nothing is known yet.
func (c *channel) grow() (uint64, bool) {
	last, ok := c.has.last()
	length := c.feed.Len()
	switch {
	case !ok || last < length:
		return 0, false
	case length > 0 && c.has.has(length):
		return length, true
	}
	return last, true
}

// ask asks for some of the blocks that are missing and reports whether there may be more to ask for.
func (c *channel) ask(now time.Time) bool {
	if !c.asking() {
		return false
	}
	for range fairShare {
		if c.session.flying >= c.session.window.requests() {
			return false
		}
		seq, ok := c.next(now)
		if !ok {
			return false
		}
		c.request(seq, now, patience)
	}
	return true
}

// next finds a block that is missing here, that the peer has, and that nobody was asked for a short while ago.
func (c *channel) next(now time.Time) (uint64, bool) {
	for {
		at, ok := c.lacking(c.cursor)
		for ; ok; at, ok = c.lacking(at + 1) {
			if _, asked := c.requests[at]; !asked && !c.fetch.flying(at, now) {
				c.cursor = at + 1
				return at, true
			}
			c.cursor = at + 1
		}
		if !c.rescan.Swap(false) {
			return 0, false
		}
		c.cursor = 0
	}
}

// lacking finds the first block at or behind from that is missing here and that the peer has.
func (c *channel) lacking(from uint64) (uint64, bool) {
	for {
		missing, ok := c.feed.NextMissing(from)
		if !ok {
			return 0, false
		}
		there, ok := c.has.next(missing)
		if !ok || there == missing {
			return there, ok
		}
		from = there
	}
}

// request asks for a block unless that has been done.
func (c *channel) request(seq uint64, now time.Time, wait time.Duration) bool {
	if _, asked := c.requests[seq]; asked || !c.fetch.take(seq, c, now, wait) {
		return false
	}
	if c.session.flying++; c.session.flying == 1 {
		c.session.answered, c.session.released = now, false
	}
	c.requests[seq] = now
	m := wire.Request{Index: seq}
	if !c.fetch.doubted() {
		m.Nodes = c.feed.Digest(seq)
	}
	c.session.out.add(func(b []byte) []byte { return m.Append(b, c.number, wire.TypeRequest) })
	return true
}

// inform tells a peer that is not live that we have all it has, and, once it said the same, that this was it: then it leaves. Like the npm
// package, the writer of a feed waits for the peer to say so.
func (c *channel) inform() {
	if c.session.live || !c.session.shook || c.remote < 0 || len(c.requests) > 0 || c.downloading && (c.feed.Writable() || !c.heardHave) {
		return
	}
	if last, ok := c.has.last(); ok && !c.forked && c.uploading {
		if _, missing := c.lacking(0); missing || last >= c.feed.Len() {
			return
		}
	}
	m := wire.Info{Uploading: c.downloading}
	if c.informed && (m == c.infoSent || m.Uploading) {
		return
	}
	c.informed, c.infoSent = true, m
	c.session.out.add(func(b []byte) []byte { return m.Append(b, c.number) })
}

// overdue looks after requests that are not answered.
func (s *session) overdue(now time.Time) error {
	for _, c := range s.channels {
		for seq, at := range c.requests {
			if now.Sub(at) > lateTime {
				c.has.fill(seq, seq+1, false)
				c.late[seq/wantWindow] = now.Add(lateTime)
				s.node.counts.unanswered.Add(1)
				c.giveUp(seq)
			}
		}
		for window, again := range c.late {
			if now.After(again) && c.wantsOpen < maxWants {
				delete(c.late, window)
				c.want(window * wantWindow)
			}
		}
	}
	switch since := now.Sub(s.answered); {
	case s.flying == 0:
	case since > unansweredTime:
		s.node.counts.unanswered.Add(uint64(s.flying))
		return ErrUnanswered
	case since > releaseTime && !s.released:
		s.released = true
		for _, c := range s.channels {
			if len(c.requests) > 0 {
				c.fetch.release(c)
			}
		}
	}
	return nil
}
