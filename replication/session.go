package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication/wire"
)

// Times. The npm package sends a keepalive after 5 s without sending, gives a peer up after 7.6 s without a byte, and closes when its oldest request
// is not answered within 7.5 s.
const (
	openingTime    = 10 * time.Second // for the first frame and the handshake
	keepaliveTime  = 4 * time.Second
	silenceTime    = 20 * time.Second
	stallTime      = 20 * time.Second // nothing of what we send is taken
	releaseTime    = 8 * time.Second  // no answer at all: others may ask
	unansweredTime = 16 * time.Second // no answer at all: the peer is given up
	lateTime       = 30 * time.Second // one request, while others are answered: the peer may not have it; after the same time again it is asked
	rescanTicks    = 5                // seconds after which what is missing is looked for from the start
)

// session is one connection. Its owner, the goroutine in own, has all fields to itself unless a comment says otherwise.
type session struct {
	node   *Node
	id     PeerID
	conn   Conn
	opts   Options
	out    *outbox
	bucket bucket

	opened  chan bool        // the peer's first frame is good; true: it encrypts
	in      chan *wire.Batch // frames, from the reader
	free    chan *wire.Batch // cap 2: batches, back to the reader
	readErr error            // why in was closed; set before
	kick    chan struct{}    // cap 1: a channel is dirty, or a payload waits
	calls   chan func()      // to be run by the owner
	gone    chan struct{}    // closed when the owner has ended

	received  atomic.Uint64 // bytes
	heard     atomic.Int64  // when the last byte came; unix ns
	nonce     [24]byte
	open      bool  // our first frame is out
	shook     bool  // the peer's handshake is here
	live      bool  // of the peer
	theirs    []int // extension ids of the peer: our position or -1
	connected time.Time

	full       bool // this node stores no more
	toldFull   bool // the peer was told
	tellsLimit bool // the peer can be told

	channels  []*channel                 // in the order of our numbers
	byKey     map[hypercore.Key]*channel // by discovery key
	remotes   [wire.MaxChannels]*remote
	heldBytes int
	answers   answers
	flying    int       // requests without answer
	answered  time.Time // when the last answer came, or when flying became 1
	released  bool      // since answered, others may ask for what we asked for
	window    window
	used      int // pages of block sets
	ticks     int
	looked    []*channel // scratch of pump
	unasked   int

	mu       sync.Mutex // guards what follows; held over nothing
	info     Peer
	ready    bool // info is complete
	speaks   bool // the peer takes secure-ephemeral messages
	payloads [][]byte
}

// remote is a channel that the peer opened.
type remote struct {
	discovery hypercore.Key
	channel   *channel // nil: we have not opened that feed
	held      []wire.Frame
}

// A peer may send a few messages about a feed that we have not opened yet (hypercore-protocol 6.12: 17).
const (
	maxHeld      = 17
	maxHeldBytes = 256 << 10 // of a session
	maxUnasked   = 1024      // blocks nobody asked for, of a session
)

func newSession(n *Node, conn Conn, opts Options) *session {
	s := &session{node: n, conn: conn, opts: opts, out: newOutbox(), opened: make(chan bool), in: make(chan *wire.Batch),
		free: make(chan *wire.Batch, 2), kick: make(chan struct{}, 1), calls: make(chan func()), gone: make(chan struct{}),
		byKey: map[hypercore.Key]*channel{}, window: newWindow()}
	s.free <- new(wire.Batch)
	s.free <- new(wire.Batch)
	return s
}

// errOver ends the helpers of a session whose owner has ended.
var errOver = errors.New("session is over")

// run is the whole session: the owner in this goroutine, a reader, a writer, and one that closes the connection.
func (s *session) run(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	var tasks sync.WaitGroup
	now := s.node.cfg.Now()
	s.connected, s.answered = now, now
	s.heard.Store(now.UnixNano())
	s.out.progress.Store(now.UnixNano())
	tasks.Go(func() {
		<-ctx.Done()
		s.conn.Close() // nothing is lost by an error of Close: the session is over
	})
	tasks.Go(func() { s.read(ctx) })
	tasks.Go(func() {
		if err := s.out.write(ctx, s.conn, s.node.cfg.Now); err != nil {
			cancel(fmt.Errorf("write: %w", err))
		}
	})
	err := s.own(ctx, &tasks)
	cancel(errOver)
	close(s.gone)
	for _, c := range s.channels {
		c.fetch.leave(c)
	}
	tasks.Wait()
	if parent.Err() != nil {
		return parent.Err()
	}
	return err
}

// read is the reader.
func (s *session) read(ctx context.Context) {
	s.readErr = s.readAll(ctx)
	close(s.in)
}

func (s *session) readAll(ctx context.Context) error {
	r := wire.NewReader(heard{s})
	encrypted, err := s.readFirst(r)
	if err != nil {
		return err
	}
	select {
	case s.opened <- encrypted: // taken before the first batch is
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		var b *wire.Batch
		select {
		case b = <-s.free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := r.Read(b); err != nil {
			return err
		}
		select {
		case s.in <- b:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// heard is the connection as the reader sees it: it notes what comes.
type heard struct{ s *session }

func (h heard) Read(p []byte) (int, error) {
	n, err := h.s.conn.Read(p)
	if n > 0 {
		h.s.received.Add(uint64(n))
		h.s.heard.Store(h.s.node.cfg.Now().UnixNano())
	}
	return n, err
}

// own is the owner: everything that happens, one thing after the other.
func (s *session) own(ctx context.Context, tasks *sync.WaitGroup) error {
	grown, stop := s.node.cfg.Feeds.Watch()
	defer stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	if s.opts.Dialled {
		if err := s.begin(ctx, tasks, !s.opts.Clear); err != nil {
			return err
		}
	}
	for {
		if err := s.pump(ctx); err != nil {
			return err
		}
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case encrypted := <-s.opened:
			s.remotes[0] = &remote{discovery: hypercore.DiscoveryKey(s.node.source)}
			if !s.opts.Dialled {
				err = s.begin(ctx, tasks, encrypted)
			}
			s.attach(0)
		case b, ok := <-s.in:
			if !ok {
				return s.readErr
			}
			err = s.frames(ctx, b)
			s.free <- b
		case <-grown:
			err = s.openNew(ctx, tasks)
		case <-s.kick:
		case <-s.out.room:
		case call := <-s.calls:
			call()
		case <-tick.C:
			err = s.tick()
		}
		if err != nil {
			return err
		}
	}
}

// frames handles what one read brought.
func (s *session) frames(ctx context.Context, b *wire.Batch) error {
	for _, f := range b.Frames {
		if err := s.frame(ctx, f); err != nil {
			return err
		}
	}
	told := false
	for _, c := range s.channels {
		if len(c.arrived) > 0 {
			c.fetch.tell(c.arrived)
			c.arrived = c.arrived[:0]
			s.node.cfg.Feeds.Stored(c.feed)
		}
		told = told || c.told
		c.told = false
	}
	if told {
		s.node.progress()
	}
	return nil
}

// frame handles one frame.
func (s *session) frame(ctx context.Context, f wire.Frame) error {
	if f.Type == wire.TypeFeed {
		return s.remoteOpens(ctx, f)
	}
	r := s.remotes[f.Channel]
	if r == nil {
		return fmt.Errorf("message on channel %d, which is not open: %w", f.Channel, ErrProtocol)
	}
	switch {
	case f.Type == wire.TypeHandshake:
		return s.handshake(f)
	case f.Type == wire.TypeExtension:
		s.extension(r, f)
		return nil
	case f.Type > wire.TypeData:
		return nil
	case r.channel != nil:
		return r.channel.message(ctx, f)
	}
	if len(r.held) == maxHeld || s.heldBytes+len(f.Body) > maxHeldBytes {
		return fmt.Errorf("too many messages on a feed that is not open: %w", ErrProtocol)
	}
	s.heldBytes += len(f.Body)
	f.Body = append([]byte(nil), f.Body...)
	r.held = append(r.held, f)
	return nil
}

// extension handles an extension message: only on the source feed's channel, only of an extension that both list.
func (s *session) extension(r *remote, f wire.Frame) {
	var m wire.Extension
	if err := m.Decode(f.Body); err != nil {
		s.node.counts.malformed.Add(1)
		return
	}
	if m.ID >= uint64(len(s.theirs)) || s.theirs[m.ID] < 0 {
		return
	}
	if r.discovery != hypercore.DiscoveryKey(s.node.source) {
		s.node.counts.extensionsElsewhere.Add(1)
		return
	}
	if s.theirs[m.ID] == idLimit {
		s.onLimit(m.Payload)
		return
	}
	s.node.received(s, m.Payload)
}

// tick runs every second.
func (s *session) tick() error {
	now := s.node.cfg.Now()
	switch {
	case (!s.open || !s.shook) && now.Sub(s.connected) > openingTime:
		return fmt.Errorf("no handshake: %w", ErrSilent)
	case now.Sub(time.Unix(0, s.heard.Load())) > silenceTime:
		return ErrSilent
	case s.out.busy.Load() && now.Sub(time.Unix(0, s.out.progress.Load())) > stallTime:
		return fmt.Errorf("takes nothing: %w", ErrSilent)
	}
	if s.open && s.out.size() == 0 && !s.out.busy.Load() && now.Sub(time.Unix(0, s.out.progress.Load())) >= keepaliveTime {
		s.out.add(wire.AppendKeepalive)
	}
	s.window.measure(s.received.Load())
	s.ticks++
	for _, c := range s.channels {
		c.active = true
		if s.ticks%rescanTicks == 0 {
			c.rescan.Store(true) // a feed may have lost blocks
		}
	}
	return s.overdue(now)
}

// peer describes the session, once hands are shaken.
func (s *session) peer() (Peer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.info
	p.Down, p.Up = s.received.Load(), s.out.sent.Load()
	return p, s.ready
}

// lacks asks the owner how many of our blocks the peer has not told us it has. ok false: no handshake yet, or no session any more.
func (s *session) lacks(ctx context.Context) (blocks uint64, ok bool, err error) {
	done := make(chan struct{})
	call := func() {
		defer close(done)
		if ok = s.shook; ok {
			blocks = s.countLacking()
		}
	}
	select {
	case s.calls <- call:
	case <-s.gone:
		return 0, false, nil
	case <-ctx.Done():
		return 0, false, ctx.Err()
	}
	<-done
	return blocks, ok, nil
}

// countLacking also asks again where the peer lacks something: the npm package does not announce a block to the peer it came from.
func (s *session) countLacking() (blocks uint64) {
	now := s.node.cfg.Now()
	for _, feed := range s.node.cfg.Feeds.Feeds() {
		c := s.byKey[feed.DiscoveryKey()]
		set := &blockSet{}
		if c != nil {
			set = &c.has
		}
		probe := c != nil && c.remote >= 0 && c.wantsOpen == 0 && now.Sub(c.probed) >= probeTime
		for at, length := uint64(0), feed.Len(); at < length; at += wantWindow {
			lacks := set.lacks(at, feed.Bitfield(at, wantWindow))
			if blocks += lacks; lacks > 0 && probe && c.wantsOpen < maxWants {
				c.probed = now
				c.want(at)
			}
		}
	}
	return blocks
}
