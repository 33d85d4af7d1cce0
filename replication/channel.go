package replication

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication/wire"
)

const (
	wantWindow = 1 << 20 // blocks of one Want
	wantAlign  = 8192
	maxWants   = 16          // without answer
	probeTime  = time.Second // between asking a peer again what it has
)

// channel is one feed on one connection. The session's owner has it to itself unless a comment says otherwise.
type channel struct {
	session *session
	feed    Feed
	fetch   *fetch
	number  uint64 // ours
	remote  int    // the peer's; -1: it has not opened the feed
	active  bool   // pump has to look at it

	dirty  atomic.Bool // the feed changed
	rescan atomic.Bool // blocks behind cursor may be asked for again

	news  []span // guarded by fetch.mu: what the peer was not told yet
	renew bool   // guarded by fetch.mu: too many to list

	has         blockSet // what the peer has
	heardHave   bool     // it answered our first Want
	withheld    bool     // blocks that are not kept yet were not told, for want of that
	uploading   bool     // the peer's last Info
	downloading bool
	wants       uint64    // windows asked for
	wantsOpen   int       // Wants not answered
	probed      time.Time // when the peer was asked again what it has

	wanted    bool   // the peer sent a Want
	announced uint64 // own feed: length that the peer was told of
	muted     bool   // own feed: it was kept back, and the peer has to be told of all of it
	marks     hypercore.Marks
	infoSent  wire.Info // not live: what it was told last
	informed  bool

	requests map[uint64]time.Time // asked for and not answered
	cursor   uint64               // where the search for missing blocks goes on
	growth   uint64               // block that was asked for to learn a greater length
	growing  bool                 // growth is under way
	forked   bool                 // nothing more is asked for
	late     map[uint64]time.Time // windows in which the peer left a request unanswered, and when it is asked again what it has of them

	arrived []span // stored, not yet told to other channels
	told    bool   // the peer told of blocks it has
}

func newChannel(s *session, feed Feed) *channel {
	c := &channel{session: s, feed: feed, fetch: s.node.fetch(feed.Key()), number: uint64(len(s.channels)), remote: -1, active: true}
	c.has = blockSet{full: s.node.all, used: &s.used}
	c.uploading, c.downloading = true, true
	c.requests, c.late = map[uint64]time.Time{}, map[uint64]time.Time{}
	return c
}

// reset forgets what the peer told, when it closes its channel.
func (c *channel) reset() {
	c.session.flying -= len(c.requests)
	clear(c.requests)
	clear(c.late)
	c.fetch.release(c)
	c.has.fill(0, maxBlocks, false)
	c.remote, c.wanted, c.growing, c.heardHave, c.withheld, c.informed = -1, false, false, false, false, false
	c.uploading, c.downloading, c.wants, c.wantsOpen, c.marks = true, true, 0, 0, hypercore.Marks{}
}

// watch wakes the owner when the feed changed.
func (c *channel) watch(ctx context.Context) {
	changed, stop := c.feed.Watch()
	defer stop()
	for {
		c.wake() // at first, too: what happened before the watch
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// wake makes the owner look at the channel. May be called by anybody.
func (c *channel) wake() {
	if !c.dirty.Swap(true) {
		signal(c.session.kick)
	}
}

// message handles one message about the feed.
func (c *channel) message(ctx context.Context, f wire.Frame) error {
	c.active = true
	var err error
	switch f.Type {
	case wire.TypeInfo:
		var m wire.Info
		if err = m.Decode(f.Body); err == nil {
			c.uploading, c.downloading = m.Uploading, m.Downloading
		}
	case wire.TypeHave:
		var m wire.Have
		if err = m.Decode(f.Body); err == nil {
			err = c.onHave(m)
		}
	case wire.TypeUnhave:
		var m wire.Range
		if err = m.Decode(f.Type, f.Body); err == nil {
			c.onUnhave(m)
		}
	case wire.TypeWant:
		var m wire.Range
		if err = m.Decode(f.Type, f.Body); err == nil && m.Start%wantAlign == 0 && m.Length%wantAlign == 0 {
			return c.session.answers.push(answer{channel: c, want: true, wants: m})
		}
	case wire.TypeRequest:
		var m wire.Request
		if err = m.Decode(f.Body); err == nil {
			return c.session.answers.push(answer{channel: c, request: m})
		}
	case wire.TypeData:
		var m wire.Data
		if err = m.Decode(f.Body); err == nil {
			return c.onData(ctx, m)
		}
	}
	if errors.Is(err, wire.ErrMessage) {
		c.session.node.counts.malformed.Add(1)
		return nil
	}
	return err
}

// onHave notes what the peer has.
func (c *channel) onHave(m wire.Have) error {
	switch {
	case m.Bitfield == nil:
		c.has.fill(m.Start, m.Start+max(m.Length, 1), true)
	case m.Start%8 == 0:
		bits, err := wire.DecodeBits(m.Bitfield, wantWindow/8)
		if err != nil {
			return err
		}
		c.has.copyBits(m.Start, bits)
		c.heardHave, c.wantsOpen = true, max(0, c.wantsOpen-1)
	}
	c.told = true
	if c.heardHave {
		c.tellWithheld()
	}
	c.rescan.Store(true)
	if c.feed.Writable() {
		c.tellEnd()
	}
	return nil
}

// tellEnd tells how much the peer has of a feed that this node writes.
func (c *channel) tellEnd() {
	cfg, end := &c.session.node.cfg, uint64(0)
	if last, ok := c.has.last(); ok {
		end = last + 1
	}
	if end > c.feed.Len() && c.fetch.reportAhead(end) && cfg.OnAhead != nil {
		cfg.OnAhead(c.feed.Key(), end, false)
	}
	if c.heardHave && cfg.OnEnd != nil {
		cfg.OnEnd(c.feed.Key(), end)
	}
}

// onUnhave notes what the peer has no more, or will not give.
func (c *channel) onUnhave(m wire.Range) {
	end := m.Start + max(m.Length, 1)
	c.has.fill(m.Start, end, false)
	for seq := range c.requests {
		if seq >= m.Start && seq < end {
			c.giveUp(seq)
		}
	}
}

// giveUp forgets a request, so that others may make it.
func (c *channel) giveUp(seq uint64) {
	delete(c.requests, seq)
	c.session.flying--
	c.growing = c.growing && c.growth != seq
	c.fetch.release(c, seq)
}

// onData stores a block that was asked for.
func (c *channel) onData(ctx context.Context, m wire.Data) error {
	s := c.session
	if _, asked := c.requests[m.Index]; !asked {
		s.node.counts.unasked.Add(1)
		if s.unasked++; s.unasked > maxUnasked {
			return fmt.Errorf("blocks that nobody asked for: %w", ErrProtocol)
		}
		if !c.feed.Has(m.Index) {
			s.out.add(func(b []byte) []byte {
				return wire.Range{Start: m.Index, Length: 1}.Append(b, c.number, wire.TypeUnhave)
			})
		}
		return nil
	}
	delete(c.requests, m.Index)
	s.flying--
	s.answered, s.released = s.node.cfg.Now(), false
	c.growing = c.growing && c.growth != m.Index
	s.window.block(len(m.Value))
	if m.Value == nil {
		return fmt.Errorf("block %d of feed %s without a value: %w", m.Index, c.feed.Key(), hypercore.ErrBadProof)
	}
	return c.put(ctx, m)
}

// put hands a block to the feed.
func (c *channel) put(ctx context.Context, m wire.Data) error {
	n := c.session.node
	p := hypercore.Proof{Nodes: make([]hypercore.Node, len(m.Nodes)), Signature: m.Signature}
	for i, node := range m.Nodes {
		p.Nodes[i] = hypercore.Node(node)
	}
	length := c.feed.Len()
	err := c.feed.Put(ctx, m.Index, m.Value, p)
	var fork *hypercore.ForkError
	switch {
	case err == nil:
	case errors.Is(err, hypercore.ErrFork):
		c.forked = true
		c.fetch.release(c)
		n.counts.forks.Add(1)
		errors.As(err, &fork)
		n.cfg.Log.Error("feed was signed twice", "feed", c.feed.Key(), "peer", c.session.opts.URL, "err", err)
		if n.cfg.OnFork != nil {
			n.cfg.OnFork(c.feed.Key(), fork)
		}
		return nil
	case errors.Is(err, ErrFull):
		n.counts.full.Add(1)
		c.fetch.release(c, m.Index)
		return nil
	default:
		if errors.Is(err, hypercore.ErrBadProof) {
			c.fetch.doubt(m.Index)
		}
		return fmt.Errorf("block %d of feed %s: %w", m.Index, c.feed.Key(), err)
	}
	c.fetch.landed(m.Index)
	if k := len(c.arrived); k > 0 && c.arrived[k-1].end == m.Index {
		c.arrived[k-1].end++
	} else {
		c.arrived = append(c.arrived, span{m.Index, m.Index + 1})
	}
	if now := c.feed.Len(); now > length && c.feed.Writable() && n.cfg.OnAhead != nil {
		n.cfg.OnAhead(c.feed.Key(), now, true)
	}
	return nil
}
