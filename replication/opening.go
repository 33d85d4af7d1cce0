package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication/wire"
)

// readFirst reads the frame that opens the peer's direction and makes r decrypt what follows.
func (s *session) readFirst(r *wire.Reader) (encrypted bool, err error) {
	feed, err := firstFeed(r)
	switch {
	case err == nil:
	case s.opts.Dialled && !errors.Is(err, wire.ErrFrame) && !errors.Is(err, ErrProtocol):
		return false, fmt.Errorf("%w (%v)", ErrHungUp, err) // an io.EOF among it would mean that all is well
	default:
		return false, err
	}
	if feed.DiscoveryKey != hypercore.DiscoveryKey(s.node.source) {
		return false, ErrOtherHypha
	}
	switch {
	case feed.Nonce == nil && !s.opts.Clear && (s.opts.Dialled || !s.node.cfg.AllowClear):
		return false, ErrClear
	case feed.Nonce == nil:
		return false, nil
	case s.opts.Dialled && s.opts.Clear:
		return false, ErrEncrypts
	}
	r.Decrypt(wire.NewCipher((*[32]byte)(&s.node.source), (*[24]byte)(feed.Nonce)))
	return true, nil
}

// firstFeed reads the Feed message that opens a direction.
func firstFeed(r *wire.Reader) (feed wire.Feed, err error) {
	f, err := r.First()
	if err != nil {
		return feed, fmt.Errorf("first frame: %w", err)
	}
	if f.Type != wire.TypeFeed || f.Channel != 0 {
		return feed, fmt.Errorf("first frame of type %d on channel %d: %w", f.Type, f.Channel, ErrProtocol)
	}
	if err := feed.Decode(f.Body); err != nil {
		return feed, fmt.Errorf("first frame: %w", errors.Join(err, ErrProtocol))
	}
	return feed, nil
}

// Greet reads what a peer that dialled says first, the discovery key of its Hypha, which travels in the clear. It returns a Conn that has everything still to be read, for
// the Serve of that Hypha's Node. It waits 10 s at most; with an error, or when ctx ends meanwhile, conn is closed.
func Greet(ctx context.Context, conn Conn) (discovery hypercore.Key, whole Conn, err error) {
	late, cancel := context.WithTimeoutCause(ctx, openingTime, fmt.Errorf("no first frame: %w", ErrSilent))
	defer cancel()
	stop := context.AfterFunc(late, func() { conn.Close() })
	var read bytes.Buffer
	feed, err := firstFeed(wire.NewReader(io.TeeReader(conn, &read)))
	if !stop() {
		return discovery, nil, errors.Join(context.Cause(late), err)
	}
	if err != nil {
		return discovery, nil, errors.Join(err, conn.Close())
	}
	return feed.DiscoveryKey, greeted{conn, io.MultiReader(&read, conn)}, nil
}

// greeted is a connection whose first bytes were read already.
type greeted struct {
	Conn
	reader io.Reader
}

func (g greeted) Read(p []byte) (int, error) { return g.reader.Read(p) }

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
		return wire.Handshake{ID: s.node.cfg.ID[:], Live: true, Extensions: extensions()}.Append(b, 0)
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
	s.theirs = wire.MatchExtensions(extensions(), m.Extensions)
	speaks := slices.Contains(s.theirs, idEphemeral)
	s.tellsLimit = slices.Contains(s.theirs, idLimit)
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
