package replication

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// The errors that end a session. Those of the feeds (hypercore.ErrBadProof) come wrapped.
var (
	ErrClear      = errors.New("peer does not encrypt, and clear peers are not allowed")
	ErrEncrypts   = errors.New("peer encrypts where both were to be in the clear")
	ErrOtherHypha = errors.New("peer serves another Hypha")
	ErrHungUp     = errors.New("peer hung up without a word: it may not know this Hypha")
	ErrSelf       = errors.New("connected to myself")
	ErrProtocol   = errors.New("peer breaks the protocol")
	ErrSilent     = errors.New("peer is silent")
	ErrUnanswered = errors.New("peer does not answer requests")
)

// PeerID names a session of a Node: 1 for its first, and so on.
type PeerID uint64

// Conn is a connection to a peer: an ordered stream of bytes. Close must end a Read and a Write that wait.
type Conn = io.ReadWriteCloser

// Config of New. Only Feeds is needed.
type Config struct {
	Feeds Feeds
	// ID tells this node's sessions from others in handshakes; zero: a random one.
	ID [32]byte
	// Extension gets each secure-ephemeral payload, at most 4 kB, once for all peers. It owns payload but must not change it. It is called by
	// the goroutine that reads from the peer and must not wait long.
	Extension func(peer PeerID, payload []byte)
	// AllowClear makes the accepting side answer peers that do not encrypt, also without Options.Clear.
	AllowClear bool
	// OnAhead tells that a peer has more of a feed that this node writes than this node. proved false: it says so; true: the feed now holds, or knows
	// the signature of, length blocks. Nothing may be appended in between that contradicts.
	OnAhead func(feed hypercore.Key, length uint64, proved bool)
	// Hold reports whether a feed that this node writes is kept back for now: peers are told that nothing of it is here. It must not wait.
	Hold func(feed hypercore.Key) bool
	// OnEnd tells how many blocks of a feed that this node writes a peer says it has, each time it says something; 0 if it has none.
	OnEnd func(feed hypercore.Key, length uint64)
	// OnFork tells that the writer of a feed signed two histories; evidence may be nil.
	OnFork func(feed hypercore.Key, evidence *hypercore.ForkError)
	// Limit tells whether this node stores no more: then nothing is asked for, and peers of ours are told the limit. It must not wait. nil: there is none.
	Limit func() (limit Limit, full bool)
	// OnPeer tells that a peer shook hands: from now on a Broadcast reaches it.
	OnPeer func(Peer)
	Log    *slog.Logger     // nil: none
	Now    func() time.Time // nil: time.Now
	Rand   io.Reader        // nil: crypto/rand
}

// Options of one session.
type Options struct {
	// Dialled: this side made the connection. It encrypts, unless Clear, and speaks first.
	Dialled bool
	// Clear does without the stream cipher, for connections that hide themselves what it would hide, or whose address named its key already: a side that dialled
	// speaks in the clear, one that accepted answers a peer in the clear that does so, whatever Config.AllowClear says.
	Clear bool
	// URL of the peer, for people.
	URL string
	// Kind of the connection, for people: "tcp", "ws".
	Kind string
	// Fingerprint is what the transport proved of the peer; empty: nothing.
	Fingerprint string
}

// Peer describes a session that shook hands.
type Peer struct {
	PeerID      PeerID
	URL         string
	Kind        string
	ID          [32]byte // as the peer claims
	Fingerprint string   // Options.Fingerprint
	Dialled     bool
	Encrypted   bool
	Live        bool  // false: it leaves when it has everything
	Extension   bool  // it takes secure-ephemeral messages
	Limit       Limit // of a peer that stores no more; zero: it does
	Connected   time.Time
	Down, Up    uint64 // bytes
}

// Traffic is what came and went since the Node was made.
type Traffic struct {
	Received, Sent uint64 // bytes
	Relayed        uint64 // secure-ephemeral payloads that were passed on, each counted once
}

// Counters count what was dropped since the Node was made.
type Counters struct {
	Malformed           uint64 // messages that do not decode
	Unasked             uint64 // blocks that nobody asked for
	BadProofs           uint64 // peers dropped for one
	Forks               uint64
	ClearRefused        uint64 // peers that do not encrypt
	OtherHypha          uint64 // peers of another one
	Unanswered          uint64 // requests given up
	Full                uint64 // blocks for which there was no room
	ExtensionsTooLong   uint64 // secure-ephemeral payloads
	ExtensionsLimited   uint64 // above the rate of a connection or of the Hypha
	ExtensionsRepeated  uint64
	ExtensionsDropped   uint64 // for a peer that does not take them off
	ExtensionsElsewhere uint64 // not on the source feed's channel
}

type counts struct {
	relayed                                                                                          atomic.Uint64
	malformed, unasked, badProofs, forks, clearRefused, otherHypha, unanswered, full                 atomic.Uint64
	extensionsTooLong, extensionsLimited, extensionsRepeated, extensionsDropped, extensionsElsewhere atomic.Uint64
}

// Node replicates the feeds of one Hypha with any number of peers. All methods may be called from many goroutines at once.
type Node struct {
	cfg    Config
	source hypercore.Key
	seen   seen
	counts counts
	all    *page // every block of a page; read only

	mu       sync.Mutex // guards what follows; held over nothing
	sessions []*session
	down     uint64 // bytes, of sessions that ended
	up       uint64
	fetches  map[hypercore.Key]*fetch
	watchers map[chan struct{}]struct{} // want to know when a peer got further
	last     PeerID
}

// New makes a Node.
func New(cfg Config) (*Node, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.ID == [32]byte{} {
		if _, err := io.ReadFull(cfg.Rand, cfg.ID[:]); err != nil {
			return nil, fmt.Errorf("make a node id: %w", err)
		}
	}
	return &Node{cfg: cfg, source: cfg.Feeds.Source(), all: fullPage(),
		fetches: map[hypercore.Key]*fetch{}, watchers: map[chan struct{}]struct{}{}}, nil
}

// Serve replicates over conn until ctx ends, the connection fails or the peer misbehaves. It closes conn. A peer that ends the stream in order gives nil.
func (n *Node) Serve(ctx context.Context, conn Conn, opts Options) error {
	s := newSession(n, conn, opts)
	n.mu.Lock()
	n.last++
	s.id = n.last
	n.sessions = append(n.sessions, s)
	n.mu.Unlock()
	err := s.run(ctx)
	n.mu.Lock()
	n.sessions = slices.DeleteFunc(n.sessions, func(o *session) bool { return o == s })
	n.down += s.received.Load()
	n.up += s.out.sent.Load()
	n.mu.Unlock()
	n.progress()
	switch {
	case errors.Is(err, ErrClear):
		n.counts.clearRefused.Add(1)
	case errors.Is(err, ErrOtherHypha):
		n.counts.otherHypha.Add(1)
	case errors.Is(err, hypercore.ErrBadProof):
		n.counts.badProofs.Add(1)
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}

// Broadcast sends a secure-ephemeral payload to every peer that understands it, and returns how many those are. Payloads above 4 kB go nowhere.
func (n *Node) Broadcast(payload []byte) int {
	if len(payload) > maxPayload {
		n.counts.extensionsTooLong.Add(1)
		return 0
	}
	payload = append([]byte(nil), payload...)
	n.seen.add(sha256.Sum256(payload), n.cfg.Now()) // relays echo
	return n.spread(nil, payload)
}

// Peers lists the sessions that shook hands, the oldest first.
func (n *Node) Peers() []Peer {
	var out []Peer
	for _, s := range n.list() {
		if p, ok := s.peer(); ok {
			out = append(out, p)
		}
	}
	return out
}

// Counters returns what was dropped so far.
func (n *Node) Counters() Counters {
	c := &n.counts
	return Counters{
		Malformed: c.malformed.Load(), Unasked: c.unasked.Load(), BadProofs: c.badProofs.Load(), Forks: c.forks.Load(),
		ClearRefused: c.clearRefused.Load(), OtherHypha: c.otherHypha.Load(), Unanswered: c.unanswered.Load(), Full: c.full.Load(),
		ExtensionsTooLong: c.extensionsTooLong.Load(), ExtensionsLimited: c.extensionsLimited.Load(),
		ExtensionsRepeated: c.extensionsRepeated.Load(), ExtensionsDropped: c.extensionsDropped.Load(),
		ExtensionsElsewhere: c.extensionsElsewhere.Load(),
	}
}

// Traffic returns what came and went so far.
func (n *Node) Traffic() Traffic {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := Traffic{Received: n.down, Sent: n.up, Relayed: n.counts.relayed.Load()}
	for _, s := range n.sessions {
		t.Received += s.received.Load()
		t.Sent += s.out.sent.Load()
	}
	return t
}

// Behind returns how many of the blocks stored here the best peer has not told us it has, and how many peers there are. Peers that lack some are
// asked again, at most once a second. It must not be called from a callback of Config.
func (n *Node) Behind(ctx context.Context) (blocks uint64, peers int, err error) {
	for _, s := range n.list() {
		lacks, ok, err := s.lacks(ctx)
		if err != nil {
			return 0, 0, err
		}
		if !ok {
			continue
		}
		if peers++; peers == 1 || lacks < blocks {
			blocks = lacks
		}
	}
	return blocks, peers, nil
}

// Synced waits until one peer has every block stored here. ErrFull: no peer that is connected has room for them. It must not be called from a callback of Config.
func (n *Node) Synced(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	n.mu.Lock()
	n.watchers[changed] = struct{}{}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.watchers, changed)
	}()
	again := time.NewTicker(probeTime)
	defer again.Stop()
	for {
		blocks, peers, err := n.Behind(ctx)
		switch {
		case err != nil || peers > 0 && blocks == 0:
			return err
		case n.allFull():
			return fmt.Errorf("no peer takes more: %w", ErrFull)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-again.C:
		}
	}
}

// progress wakes those who wait in Synced.
func (n *Node) progress() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for ch := range n.watchers {
		signal(ch)
	}
}

// list returns the sessions of now.
func (n *Node) list() []*session {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.sessions)
}

// fetch returns what the sessions share about a feed.
func (n *Node) fetch(key hypercore.Key) *fetch {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.fetches[key]
	if f == nil {
		f = &fetch{flights: map[uint64]flight{}, channels: map[*channel]struct{}{}, doubts: map[uint64]struct{}{}}
		n.fetches[key] = f
	}
	return f
}
