// Package transport chooses between the transports of replication by URL: tcp://host:port, ws://host:port and, to dial, wss://host.
package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication/redial"
	"hyphafs.org/hyphafs/replication/tcp"
	"hyphafs.org/hyphafs/replication/ws"
)

// Node is what a transport needs of a *replication.Node.
type Node = tcp.Node

// ErrUnknown says that a peer answered and does not keep the Hypha.
var ErrUnknown = ws.ErrUnknown

// CheckPeer reports what is wrong with the URL of a peer.
func CheckPeer(text string) error {
	u, kind, err := parse(text)
	switch {
	case err != nil:
		return err
	case kind == "ws":
		return ws.Check(text)
	case u.Hostname() == "":
		return errors.New("a host is missing")
	}
	return nil
}

// CheckListen reports what is wrong with a URL to listen at. Without a host, that is at all addresses.
func CheckListen(text string) error {
	u, _, err := parse(text)
	switch {
	case err != nil:
		return err
	case u.Scheme == "wss":
		return errors.New("a mounted node has no certificate: listen at ws:// behind a reverse proxy")
	case u.Port() == "":
		return errors.New("a port is missing")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Path != "" && u.Path != "/":
		return errors.New("only a host and a port may be given")
	}
	return nil
}

// parse splits text; kind is tcp or ws.
func parse(text string) (u *url.URL, kind string, err error) {
	u, err = url.Parse(text)
	if err != nil {
		return nil, "", errors.New("not a URL")
	}
	switch u.Scheme {
	case "tcp":
		if u.Port() == "" || u.Path != "" && u.Path != "/" {
			return nil, "", errors.New("a port is missing")
		}
		return u, "tcp", nil
	case "ws", "wss":
		return u, "ws", nil
	}
	return nil, "", fmt.Errorf("no transport for %q", u.Scheme)
}

// Dial connects node, which replicates the Hypha of source, to peer and keeps it connected until ctx ends, as package redial does; replication.ErrSelf ends it. ended
// is told why a connection did not come about or ended, nil if the peer took its leave.
func Dial(ctx context.Context, node Node, peer string, source hypercore.Key, log *slog.Logger, ended func(error)) error {
	u, kind, err := parse(peer)
	if err != nil {
		return err
	}
	if kind == "ws" {
		if ip, err := netip.ParseAddr(u.Hostname()); u.Scheme == "ws" && u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
			log.Warn("ws:// shows the read key to whoever sees the traffic; take wss:// outside of networks of your own", "peer", peer)
		}
	}
	return redial.Run(ctx, log.With("peer", peer), func(ctx context.Context) error {
		err := DialOnce(ctx, node, peer, source)
		ended(err)
		return err
	})
}

// DialOnce connects node to peer and returns when the session has ended.
func DialOnce(ctx context.Context, node Node, peer string, source hypercore.Key) error {
	u, kind, err := parse(peer)
	if err != nil {
		return err
	}
	if kind == "ws" {
		return ws.DialOnce(ctx, node, peer, source)
	}
	return tcp.DialOnce(ctx, node, u.Host)
}

// Listener accepts peers of one Hypha.
type Listener struct {
	URL string // with the real port
	run func(context.Context) error
}

// Run accepts until ctx ends and returns when all sessions have ended.
func (l *Listener) Run(ctx context.Context) error { return l.run(ctx) }

// Listen listens at address for peers of node, which replicates the Hypha of source. Run must follow.
func Listen(ctx context.Context, node Node, address string, source hypercore.Key, log *slog.Logger) (*Listener, error) {
	if err := CheckListen(address); err != nil {
		return nil, err
	}
	u, kind, err := parse(address)
	if err != nil {
		return nil, err
	}
	if kind == "ws" {
		l, err := ws.Listen(ctx, u.Host, log)
		if err != nil {
			return nil, err
		}
		return &Listener{l.URL(), func(ctx context.Context) error { return l.Run(ctx, node, source) }}, nil
	}
	l, err := tcp.Listen(ctx, u.Host, log)
	if err != nil {
		return nil, err
	}
	return &Listener{l.URL(), func(ctx context.Context) error { return l.Run(ctx, node) }}, nil
}
