package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
)

// probeTime is how long a sign-in waits for a peer to answer.
const probeTime = 5 * time.Second

// probe asks peers whether they know the Hypha of source. It fails with WrongPassphrase when some answer and none of them knows it; peers that cannot be reached
// say nothing.
func probe(ctx context.Context, source hypercore.Key, peers []string, log *slog.Logger) error {
	var strangers []string
	for _, peer := range peers {
		known, err := probeOne(ctx, source, peer)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			log.Warn("peer not reached", "peer", peer, "err", err)
		case known:
			return nil
		default:
			strangers = append(strangers, peer)
		}
	}
	if len(strangers) == 0 {
		return nil
	}
	return fault.New(fault.WrongPassphrase, "check both, and the address", "no Hypha of this domain and passphrase at %s: wrong passphrase or domain", strings.Join(strangers, ", "))
}

// probeOne reports whether peer shakes hands for source; an error says that it did not answer at all.
func probeOne(ctx context.Context, source hypercore.Key, peer string) (known bool, err error) {
	address, err := tcpAddress(peer)
	if err != nil {
		return false, err
	}
	feed, err := hypercore.Open(hypercore.NewMemory(), source, hypercore.Options{})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, feed.Close()) }()
	outer, stop := context.WithTimeout(ctx, probeTime)
	defer stop()
	conn, err := new(net.Dialer).DialContext(outer, "tcp", address)
	if err != nil {
		return false, err
	}
	inner, cancel := context.WithCancel(outer)
	defer cancel()
	shaken := make(chan struct{}, 1)
	node, err := replication.New(replication.Config{Feeds: oneFeed{feed}, OnPeer: func(replication.Peer) {
		shaken <- struct{}{} // there is one session, which shakes hands once
		cancel()
	}})
	if err != nil {
		return false, errors.Join(err, conn.Close())
	}
	ended := node.Serve(inner, conn, replication.Options{Dialled: true, URL: peer, Kind: "tcp"})
	select {
	case <-shaken:
		return true, nil
	default:
	}
	if err := outer.Err(); err != nil {
		return false, fmt.Errorf("silent: %w", errors.Join(err, ended))
	}
	return false, nil
}

// oneFeed is a set of feeds that never grows.
type oneFeed struct{ feed *hypercore.Feed }

func (o oneFeed) Source() hypercore.Key            { return o.feed.Key() }
func (o oneFeed) Feeds() []replication.Feed        { return []replication.Feed{o.feed} }
func (o oneFeed) Watch() (<-chan struct{}, func()) { return nil, func() {} }
func (o oneFeed) Stored(replication.Feed)          {}

// tcpAddress returns the host:port of a tcp:// URL.
func tcpAddress(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", err
	}
	if u.Scheme != "tcp" || u.Port() == "" {
		return "", fmt.Errorf("%s is not tcp://host:port", text)
	}
	return u.Host, nil
}
