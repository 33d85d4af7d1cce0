package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/transport"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
)

// probeTime is how long a sign-in waits for a peer to answer.
const probeTime = 5 * time.Second

// probe asks peers whether they know the Hypha of source. It fails with WrongPassphrase when some answer and none of them knows it; when none can be reached, notice
// says so and what that means.
func probe(ctx context.Context, source hypercore.Key, peers []string) (notice string, err error) {
	var strangers, unreached []string
	for _, peer := range peers {
		known, err := probeOne(ctx, source, peer)
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case err != nil:
			unreached = append(unreached, fmt.Sprintf("%s (%s)", peer, fault.OneLine(err.Error())))
		case known:
			return "", nil
		default:
			strangers = append(strangers, peer)
		}
	}
	switch {
	case len(strangers) > 0:
		return "", fault.New(fault.WrongPassphrase, "check both, and the address", "no Hypha of this domain and passphrase at %s: wrong passphrase or domain", strings.Join(strangers, ", "))
	case len(unreached) > 0:
		return "no peer answers, so passphrase and domain could not be checked: " + strings.Join(unreached, ", ") + "; the node keeps trying, see hyphafs status", nil
	}
	return "", nil
}

// probeOne reports whether peer shakes hands for source; an error says that it did not answer at all.
func probeOne(ctx context.Context, source hypercore.Key, peer string) (known bool, err error) {
	feed, err := hypercore.Open(hypercore.NewMemory(), source, hypercore.Options{})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, feed.Close()) }()
	outer, stop := context.WithTimeout(ctx, probeTime)
	defer stop()
	inner, cancel := context.WithCancel(outer)
	defer cancel()
	met := &meeting{shaken: make(chan struct{}, 1)}
	met.node, err = replication.New(replication.Config{Feeds: oneFeed{feed}, OnPeer: func(replication.Peer) {
		met.shaken <- struct{}{} // there is one session, which shakes hands once
		cancel()
	}})
	if err != nil {
		return false, err
	}
	ended := transport.DialOnce(inner, met, peer, source)
	select {
	case <-met.shaken:
		return true, nil
	default:
	}
	switch {
	case errors.Is(ended, transport.ErrUnknown):
		return false, nil
	case outer.Err() != nil:
		return false, fmt.Errorf("silent: %w", errors.Join(outer.Err(), ended))
	case !met.connected:
		return false, ended
	}
	return false, nil
}

// meeting notes whether a connection came about at all.
type meeting struct {
	node      *replication.Node
	shaken    chan struct{}
	connected bool
}

// Serve is the node's.
func (m *meeting) Serve(ctx context.Context, conn replication.Conn, opts replication.Options) error {
	m.connected = true
	return m.node.Serve(ctx, conn, opts)
}

// oneFeed is a set of feeds that never grows.
type oneFeed struct{ feed *hypercore.Feed }

func (o oneFeed) Source() hypercore.Key            { return o.feed.Key() }
func (o oneFeed) Feeds() []replication.Feed        { return []replication.Feed{o.feed} }
func (o oneFeed) Watch() (<-chan struct{}, func()) { return nil, func() {} }
func (o oneFeed) Stored(replication.Feed)          {}
