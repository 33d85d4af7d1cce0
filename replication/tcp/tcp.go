package tcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/gate"
	"hyphafs.org/hyphafs/replication/redial"
)

// Node is what this package needs of a *replication.Node.
type Node interface {
	Serve(ctx context.Context, conn replication.Conn, opts replication.Options) error
}

const (
	maxConns  = 256                    // that a Listener serves at once, unless its Gate says otherwise
	breakTime = 500 * time.Millisecond // before the next try to accept when one failed
)

// Listener accepts peers.
type Listener struct {
	// Gate bounds the connections; it may be changed before Run. Listen sets one for 256.
	Gate *gate.Gate

	listener net.Listener
	log      *slog.Logger
}

// Listen opens a listening socket on address, "host:port"; port 0 picks one. Run must follow, or Close. log may be nil.
func Listen(ctx context.Context, address string, log *slog.Logger) (*Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &Listener{gate.New(maxConns, 0), l, orDiscard(log)}, nil
}

func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}

// Addr is where it listens: "host:port" with the real port.
func (l *Listener) Addr() string { return l.listener.Addr().String() }

// URL is Addr as a URL: tcp://host:port.
func (l *Listener) URL() string { return "tcp://" + l.Addr() }

// Close ends Run. It is only needed where Run was not called.
func (l *Listener) Close() error { return l.listener.Close() }

// Run serves every connection with node until ctx ends, and returns when all sessions have ended.
func (l *Listener) Run(ctx context.Context, node Node) error {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	stop := context.AfterFunc(ctx, func() { l.listener.Close() })
	defer stop()
	defer l.listener.Close()
	gated := gate.Listener{Listener: l.listener, Gate: l.Gate, Log: l.log}
	for {
		conn, err := gated.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return ctx.Err()
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // out of file descriptors, or a connection that broke at once
			l.log.Warn("accept", "err", err)
			if !redial.Sleep(ctx, breakTime) {
				return ctx.Err()
			}
			continue
		}
		sessions.Go(func() { l.serve(ctx, node, conn) })
	}
}

func (l *Listener) serve(ctx context.Context, node Node, conn net.Conn) {
	url := "tcp://" + conn.RemoteAddr().String()
	err := node.Serve(ctx, conn, replication.Options{URL: url, Kind: "tcp"})
	if ctx.Err() == nil {
		l.log.Info("peer left", "peer", url, "err", err)
	}
}

// Dial connects node to address, "host:port", and keeps it connected until ctx ends, as package redial does. log may be nil.
func Dial(ctx context.Context, node Node, address string, log *slog.Logger) error {
	return redial.Run(ctx, orDiscard(log).With("peer", "tcp://"+address), func(ctx context.Context) error {
		return DialOnce(ctx, node, address)
	})
}

// DialOnce connects node to address and returns when the session has ended.
func DialOnce(ctx context.Context, node Node, address string) error {
	dialer := net.Dialer{Timeout: redial.DialTime}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	if err := node.Serve(ctx, conn, replication.Options{Dialled: true, URL: "tcp://" + address, Kind: "tcp"}); err != nil {
		return fmt.Errorf("session: %w", err)
	}
	return nil
}
