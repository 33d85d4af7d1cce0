package tcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"hyphafs.org/hyphafs/replication"
)

// Node is what this package needs of a *replication.Node.
type Node interface {
	Serve(ctx context.Context, conn replication.Conn, opts replication.Options) error
}

const (
	maxConns = 256              // that a Listener serves at once
	dialTime = 15 * time.Second // for a connection to come about

	firstWait = 500 * time.Millisecond
	longWait  = 60 * time.Second
	goodTime  = 30 * time.Second // a session that lasted that long makes the next wait short again
)

// Listener accepts peers.
type Listener struct {
	listener net.Listener
	log      *slog.Logger
}

// Listen opens a listening socket on address, "host:port"; port 0 picks one. Run must follow, or Close. log may be nil.
func Listen(ctx context.Context, address string, log *slog.Logger) (*Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &Listener{l, orDiscard(log)}, nil
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
	slots := make(chan struct{}, maxConns)
	for {
		conn, err := l.listener.Accept()
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
			if !sleep(ctx, firstWait) {
				return ctx.Err()
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			l.log.Warn("too many connections", "peer", conn.RemoteAddr())
			conn.Close()
			continue
		}
		sessions.Go(func() {
			defer func() { <-slots }()
			l.serve(ctx, node, conn)
		})
	}
}

func (l *Listener) serve(ctx context.Context, node Node, conn net.Conn) {
	url := "tcp://" + conn.RemoteAddr().String()
	err := node.Serve(ctx, conn, replication.Options{URL: url, Kind: "tcp"})
	if ctx.Err() == nil {
		l.log.Info("peer left", "peer", url, "err", err)
	}
}

// Dial connects node to address, "host:port", and keeps it connected until ctx ends: after a failure it waits, from half a second doubling up to a
// minute, give or take a quarter. A connection to the node itself ends it with replication.ErrSelf. log may be nil.
func Dial(ctx context.Context, node Node, address string, log *slog.Logger) error {
	log = orDiscard(log).With("peer", "tcp://"+address)
	var wait Backoff
	for {
		begun := time.Now()
		err := dialOnce(ctx, node, address)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, replication.ErrSelf):
			return err
		case time.Since(begun) >= goodTime:
			wait.Reset()
		}
		pause := wait.Next()
		log.Info("not connected", "err", err, "again_in", pause.Round(time.Millisecond))
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
	}
}

func dialOnce(ctx context.Context, node Node, address string) error {
	dialer := net.Dialer{Timeout: dialTime}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	if err := node.Serve(ctx, conn, replication.Options{Dialled: true, URL: "tcp://" + address, Kind: "tcp"}); err != nil {
		return fmt.Errorf("session: %w", err)
	}
	return nil
}

// Backoff says how long to wait before the next try. The zero value is ready. Not safe for concurrent use.
type Backoff struct{ next time.Duration }

// Next returns the time to wait: half a second at first, doubling up to a minute, give or take a quarter.
func (b *Backoff) Next() time.Duration {
	wait := max(b.next, firstWait)
	b.next = min(2*wait, longWait)
	return wait*3/4 + rand.N(wait/2)
}

// Reset makes the next wait the first again.
func (b *Backoff) Reset() { b.next = 0 }

// sleep waits; false: ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
