package ws

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/redial"
)

// ErrUnknown says that a peer answered and does not keep the Hypha.
var ErrUnknown = errors.New("the peer does not keep this Hypha")

// Node is what this package needs of a *replication.Node.
type Node interface {
	Serve(ctx context.Context, conn replication.Conn, opts replication.Options) error
}

// Dial connects node, which replicates the Hypha of key, to peer, ws://host:port or wss://host, and keeps it connected until ctx ends, as package redial does. log may be nil.
func Dial(ctx context.Context, node Node, peer string, key hypercore.Key, log *slog.Logger) error {
	return redial.Run(ctx, orDiscard(log).With("peer", peer), func(ctx context.Context) error { return DialOnce(ctx, node, peer, key) })
}

// DialOnce connects node to peer and returns when the session has ended. ErrUnknown: the peer said that it does not keep that Hypha.
func DialOnce(ctx context.Context, node Node, peer string, key hypercore.Key) error {
	address, secure, err := endpoint(peer, key)
	if err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, redial.DialTime)
	conn, err := connect(timed, address)
	cancel()
	if err != nil {
		return err
	}
	if err := node.Serve(ctx, conn, replication.Options{Dialled: true, URL: peer, Kind: "ws", Clear: secure}); err != nil {
		return fmt.Errorf("session: %w", err)
	}
	return nil
}

func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
