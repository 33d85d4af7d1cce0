package serve

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/transport"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
)

// idleTime is Settings.idle of a node that is no test's.
const idleTime = time.Minute

// place is a Hypha that this node keeps: open, or to be opened when somebody asks for it. It is a ws.Node.
type place struct {
	server *Server
	source hypercore.Key
	always bool // it stays open
	opened atomic.Pointer[hypha]

	mu    sync.Mutex // guards what follows; held while the Hypha is opened or closed
	users int
	left  time.Time      // when the last of them did
	end   func()         // ends tasks
	tasks sync.WaitGroup // what belongs to the open Hypha
}

// Serve replicates the Hypha over conn.
func (p *place) Serve(ctx context.Context, conn replication.Conn, opts replication.Options) error {
	h, err := p.enter()
	if err != nil {
		p.server.log.Error("a Hypha cannot be opened", "hypha", hypercore.DiscoveryKey(p.source), "err", err)
		conn.Close() // the peer tries again
		return err
	}
	defer p.leave()
	return h.node.Serve(ctx, conn, opts)
}

// enter opens the Hypha if it is not, and keeps it open until leave.
func (p *place) enter() (*hypha, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.opened.Load()
	if h == nil {
		var err error
		if h, err = openHypha(p.server.alive, p.source, p.server.store, p.server.settings, p.server.log); err != nil {
			return nil, err
		}
		p.start(h)
	}
	p.users++
	return h, nil
}

func (p *place) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users--
	p.left = time.Now()
}

// start starts what belongs to h. Called with mu held.
func (p *place) start(h *hypha) {
	n := p.server
	var ctx context.Context
	ctx, p.end = context.WithCancel(n.alive)
	p.task(ctx, "hypha", h.run)
	for _, peer := range n.settings.Peers {
		p.task(ctx, "peer "+peer, func(ctx context.Context) error { return n.dial(ctx, h, peer) })
	}
	p.opened.Store(h)
}

// task runs fn as a part of the server that ends with the Hypha.
func (p *place) task(ctx context.Context, name string, fn func(context.Context) error) {
	p.tasks.Add(1)
	p.server.part(name, func(context.Context) error {
		defer p.tasks.Done()
		if err := fn(ctx); ctx.Err() == nil {
			return err
		}
		return nil
	})
}

// dial stays connected with a --peer.
func (n *Server) dial(ctx context.Context, h *hypha, peer string) error {
	err := transport.Dial(ctx, h.node, peer, h.source, n.log, func(error) {})
	if errors.Is(err, replication.ErrSelf) {
		n.log.Warn("a --peer is this node itself", "peer", peer)
		return nil
	}
	return err
}

// close closes the Hypha if it is open and nobody needs it since before since.
func (p *place) close(ctx context.Context, since time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.opened.Load()
	if h == nil || p.users > 0 || p.left.After(since) {
		return nil
	}
	p.opened.Store(nil)
	p.end()
	p.tasks.Wait()
	return h.close(ctx)
}

// closeIdle closes Hyphas that nobody asks for, until ctx ends.
func (n *Server) closeIdle(ctx context.Context) error {
	tick := time.NewTicker(n.settings.idle / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, p := range n.places() {
			if p.always {
				continue
			}
			if err := p.close(ctx, time.Now().Add(-n.settings.idle)); err != nil {
				n.log.Error("a Hypha cannot be closed", "hypha", hypercore.DiscoveryKey(p.source), "err", err)
			}
		}
	}
}

// places lists the Hyphas that are kept, open or not.
func (n *Server) places() []*place {
	n.mu.RLock()
	defer n.mu.RUnlock()
	out := make([]*place, 0, len(n.bySource))
	for _, p := range n.bySource {
		out = append(out, p)
	}
	return out
}

// kept tells the peers of a Hypha that blocks are here to stay, which they may have come to by way of another instance.
func (n *Server) kept(source, feed hypercore.Key, from, to uint64) {
	n.mu.RLock()
	p := n.bySource[source]
	n.mu.RUnlock()
	if p == nil {
		return
	}
	if h := p.opened.Load(); h != nil {
		h.node.Announce(feed, from, to)
		h.recount()
		shown{h}.Stored(nil)
	}
}
