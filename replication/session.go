package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	lateTime       = 30 * time.Second // one request, while others are answered
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

	mu       sync.Mutex // guards what follows; taken after Node.mu, held over nothing
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

// readFirst reads the frame that opens the peer's direction and makes r decrypt what follows.
func (s *session) readFirst(r *wire.Reader) (encrypted bool, err error) {
	f, err := r.First()
	if err != nil {
		return false, fmt.Errorf("first frame: %w", err)
	}
	var feed wire.Feed
	if f.Type != wire.TypeFeed || f.Channel != 0 {
		return false, fmt.Errorf("first frame of type %d on channel %d: %w", f.Type, f.Channel, ErrProtocol)
	}
	if err := feed.Decode(f.Body); err != nil {
		return false, fmt.Errorf("first frame: %w", errors.Join(err, ErrProtocol))
	}
	if feed.DiscoveryKey != hypercore.DiscoveryKey(s.node.source) {
		return false, ErrOtherHypha
	}
	if feed.Nonce == nil {
		if s.opts.Dialled || !s.node.cfg.AllowClear {
			return false, ErrClear
		}
		return false, nil
	}
	r.Decrypt(wire.NewCipher((*[32]byte)(&s.node.source), (*[24]byte)(feed.Nonce)))
	return true, nil
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
		if err := s.begin(ctx, tasks, true); err != nil {
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

// begin sends our first frame and handshake and opens the channels.
func (s *session) begin(ctx context.Context, tasks *sync.WaitGroup, encrypted bool) error {
	feeds := s.node.cfg.Feeds.Feeds()
	if len(feeds) == 0 || feeds[0].Key() != s.node.source {
		return errors.New("the source feed is not open")
	}
	first := wire.Feed{DiscoveryKey: feeds[0].DiscoveryKey()}
	var cipher *wire.Cipher
	if encrypted {
		if _, err := io.ReadFull(s.node.cfg.Rand, s.nonce[:]); err != nil {
			return fmt.Errorf("make a nonce: %w", err)
		}
		first.Nonce = s.nonce[:]
		cipher = wire.NewCipher((*[32]byte)(&s.node.source), &s.nonce)
	}
	s.out.begin(first.Append(nil, 0), cipher)
	s.open = true
	s.mu.Lock()
	s.info.Encrypted = encrypted
	s.mu.Unlock()
	s.out.add(func(b []byte) []byte {
		return wire.Handshake{ID: s.node.cfg.ID[:], Live: true, Extensions: []string{extension}}.Append(b, 0)
	})
	return s.openNew(ctx, tasks)
}

// openNew opens channels for the feeds that have none yet.
func (s *session) openNew(ctx context.Context, tasks *sync.WaitGroup) error {
	if !s.open {
		return nil
	}
	for _, feed := range s.node.cfg.Feeds.Feeds() {
		dk := feed.DiscoveryKey()
		if s.byKey[dk] != nil {
			continue
		}
		if len(s.channels) == wire.MaxChannels {
			s.node.cfg.Log.Warn("more feeds than a stream carries", "peer", s.opts.URL, "feeds", len(s.channels))
			return nil
		}
		c := newChannel(s, feed)
		if len(s.channels) > 0 {
			s.out.add(func(b []byte) []byte { return wire.Feed{DiscoveryKey: dk}.Append(b, c.number) })
		}
		s.channels = append(s.channels, c)
		s.byKey[dk] = c
		c.fetch.join(c)
		tasks.Go(func() { c.watch(ctx) })
		for number, r := range s.remotes {
			if r != nil && r.discovery == dk {
				if err := s.resume(ctx, uint64(number)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// resume joins the peer's channel with ours and handles the messages that were held for it.
func (s *session) resume(ctx context.Context, number uint64) error {
	s.attach(number)
	r := s.remotes[number]
	held := r.held
	r.held = nil
	for _, f := range held {
		s.heldBytes -= len(f.Body)
		if err := r.channel.message(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// attach joins the peer's channel with ours, if we have one for that feed.
func (s *session) attach(number uint64) {
	r := s.remotes[number]
	c := s.byKey[r.discovery]
	if c == nil {
		return
	}
	if c.remote >= 0 && uint64(c.remote) != number {
		s.remotes[c.remote] = nil // the peer opened the feed again under another number
		c.reset()
	}
	r.channel, c.remote = c, int(number)
	c.active = true
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

// remoteOpens handles a Feed message. A number that is in use is closed first.
func (s *session) remoteOpens(ctx context.Context, f wire.Frame) error {
	var m wire.Feed
	if err := m.Decode(f.Body); err != nil {
		return fmt.Errorf("feed message: %w", errors.Join(err, ErrProtocol))
	}
	if old := s.remotes[f.Channel]; old != nil {
		for _, h := range old.held {
			s.heldBytes -= len(h.Body)
		}
		if old.channel != nil {
			old.channel.reset()
		}
	}
	s.remotes[f.Channel] = &remote{discovery: m.DiscoveryKey}
	s.attach(f.Channel)
	return nil
}

// handshake handles the peer's first Handshake; later ones are ignored.
func (s *session) handshake(f wire.Frame) error {
	var m wire.Handshake
	if s.shook {
		return nil
	}
	if err := m.Decode(f.Body); err != nil {
		s.node.counts.malformed.Add(1)
		return nil
	}
	var id [32]byte
	if copy(id[:], m.ID); id == s.node.cfg.ID {
		return ErrSelf
	}
	s.shook, s.live = true, m.Live
	s.theirs = wire.MatchExtensions([]string{extension}, m.Extensions)
	speaks := false
	for _, ours := range s.theirs {
		speaks = speaks || ours == 0
	}
	s.mu.Lock()
	s.info = Peer{PeerID: s.id, URL: s.opts.URL, Kind: s.opts.Kind, Fingerprint: s.opts.Fingerprint, Dialled: s.opts.Dialled,
		ID: id, Encrypted: s.info.Encrypted, Live: m.Live, Extension: speaks, Connected: s.connected}
	s.ready, s.speaks = true, speaks
	info := s.info
	s.mu.Unlock()
	for _, c := range s.channels {
		c.active = true
	}
	if s.node.cfg.OnPeer != nil {
		s.node.cfg.OnPeer(info)
	}
	return nil
}

// extension handles an extension message: only on the source feed's channel, only of an extension that both list.
func (s *session) extension(r *remote, f wire.Frame) {
	var m wire.Extension
	if err := m.Decode(f.Body); err != nil {
		s.node.counts.malformed.Add(1)
		return
	}
	if m.ID >= uint64(len(s.theirs)) || s.theirs[m.ID] != 0 {
		return
	}
	if r.discovery != hypercore.DiscoveryKey(s.node.source) {
		s.node.counts.extensionsElsewhere.Add(1)
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
