package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/process"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/sdnotify"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/gate"
	"hyphafs.org/hyphafs/replication/tcp"
	"hyphafs.org/hyphafs/replication/ws"
)

// garbage is how much of what is in use may be garbage, in percent: a node with many idle connections has more memory to lose than time.
const garbage = 50

// closeTime is how long a node that ends waits for its parts.
const closeTime = 5 * time.Second

// Server is a running always-on node.
type Server struct {
	settings Settings
	log      *slog.Logger
	gate     *gate.Gate
	adoption adoption
	refused  refusals
	ready    atomic.Bool
	failed   chan error     // cap 1: the first part that failed
	running  sync.WaitGroup // the parts; waited for by close
	alive    context.Context
	cancel   context.CancelFunc // ends alive, which is the parts' context
	store    Store              // made by run before anything else

	mu          sync.RWMutex // guards what follows; held over nothing
	bySource    map[hypercore.Key]*place
	byDiscovery map[hypercore.Key]*place
}

// refusals count who was not served.
type refusals struct{ unknownKey, unknownDiscovery, wantedAdoption atomic.Uint64 }

// Run runs the node that s describes until ctx ends. say hears, once it is ready, one line: "ready" and the URLs it listens at.
func Run(ctx context.Context, s Settings, logTo io.Writer, say func(line string)) (err error) {
	if err := process.Harden(); err != nil {
		return err
	}
	debug.SetGCPercent(garbage)
	handler, err := process.LogHandler(logTo, s.LogLevel, s.LogFormat)
	if err != nil {
		return err
	}
	if err := s.State.Make(); err != nil {
		return err
	}
	lock, err := s.State.Lock()
	if errors.Is(err, state.ErrLocked) {
		return fault.New(fault.Busy, "wait for it, or stop it", "the node in %w", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	return newServer(s, slog.New(newDiscreet(handler))).run(ctx, say)
}

func newServer(s Settings, log *slog.Logger) *Server {
	if s.idle == 0 {
		s.idle = idleTime
	}
	n := &Server{settings: s, log: log, gate: gate.New(s.MaxConns, s.MaxPerAddress), failed: make(chan error, 1),
		bySource: map[hypercore.Key]*place{}, byDiscovery: map[hypercore.Key]*place{}}
	n.adoption.take = n.adopt
	return n
}

func (n *Server) run(ctx context.Context, say func(string)) (err error) {
	n.alive, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := n.openStore(); err != nil {
		n.cancel()
		return err
	}
	defer func() { err = errors.Join(err, n.close(context.WithoutCancel(ctx))) }()
	web, plain, err := n.listen(ctx)
	if err != nil {
		return err
	}
	urls := []string{"ready"}
	if web != nil {
		scheme := "http://"
		if len(n.settings.TLSDomains) > 0 || n.settings.TLSCert != "" {
			scheme = "https://"
		}
		urls = append(urls, scheme+web.Addr().String())
		n.part("http", func(ctx context.Context) error { return n.serveHTTP(ctx, web) })
	}
	if err := n.open(ctx); err != nil {
		if plain != nil {
			err = errors.Join(err, plain.Close())
		}
		return err
	}
	if plain != nil {
		urls = append(urls, plain.URL())
		n.part("tcp", func(ctx context.Context) error { return plain.Run(ctx, door{n}) })
	}
	n.ready.Store(true)
	manager := sdnotify.FromEnv(os.Getenv, n.log)
	n.part("service manager", func(ctx context.Context) error { return manager.Run(ctx, n.brief) })
	manager.Ready(n.brief())
	defer manager.Stopping()
	say(strings.Join(urls, " "))
	n.log.Info("ready", "hyphas", len(n.places()), "adopts", n.adoption.isOpen())
	select {
	case <-ctx.Done():
		n.log.Info("stopping", "why", context.Cause(ctx))
		return nil
	case err := <-n.failed:
		return err
	}
}

// brief says how the node is to all users of this machine.
func (n *Server) brief() string {
	return fmt.Sprintf("Hyphas: %d, connections: %d", len(n.hyphas()), n.gate.Count())
}

// part runs fn, which ends with its context, in the Server's group.
func (n *Server) part(name string, fn func(context.Context) error) {
	n.running.Go(func() {
		err := fn(n.alive)
		if err == nil || n.alive.Err() != nil {
			return
		}
		select {
		case n.failed <- fmt.Errorf("%s: %w", name, err):
		default:
			n.log.Error("part failed", "op", name, "err", err)
		}
	})
}

// listen opens the sockets.
func (n *Server) listen(ctx context.Context) (web net.Listener, plain *tcp.Listener, err error) {
	if a := n.settings.HTTP; a != "" {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", a)
		if err != nil {
			return nil, nil, fault.New(fault.Failed, "take another --http", "listening at %s: %w", a, err)
		}
		if web, err = n.secure(gate.Listener{Listener: l, Gate: n.gate, Log: n.log}); err != nil {
			return nil, nil, errors.Join(err, web.Close())
		}
	}
	if a := n.settings.TCP; a != "" {
		if plain, err = tcp.Listen(ctx, a, n.log); err != nil {
			if web != nil {
				err = errors.Join(err, web.Close())
			}
			return nil, nil, fault.New(fault.Failed, "take another --tcp", "listening at %s: %w", a, err)
		}
		plain.Gate = n.gate
	}
	return web, plain, nil
}

// open opens the Hyphas that are kept.
func (n *Server) open(ctx context.Context) error {
	n.part("store", n.store.Run)
	if err := n.store.Check(ctx); err != nil {
		return err
	}
	if n.store.OnDemand() {
		n.part("idle", n.closeIdle)
	}
	adopted, err := recall(n.settings.State)
	if err != nil {
		return err
	}
	keys := n.settings.Hyphas
	if !adopted.IsZero() {
		keys = append([]hypercore.Key{adopted}, keys...)
	}
	var damaged error
	for _, key := range keys {
		err := n.keep(key)
		switch {
		case errors.Is(err, hypercore.ErrDamaged):
			damaged = errors.Join(damaged, err)
			n.log.Error("a Hypha is left out: its feeds are damaged", "hypha", hypercore.DiscoveryKey(key), "err", err)
		case err != nil:
			return err
		}
	}
	if damaged != nil && len(n.places()) == 0 {
		return fault.New(fault.Damaged, "move its folder away, and it is fetched again from peers", "%w", damaged)
	}
	n.adoption.mu.Lock()
	defer n.adoption.mu.Unlock()
	n.adoption.open = n.settings.Adopt && len(keys) == 0
	return nil
}

// openStore opens what feeds are kept in. Nothing outside of this machine is asked.
func (n *Server) openStore() (err error) {
	s := n.settings
	if s.Bucket == nil {
		n.store = disk(s.State.Hyphas())
		return nil
	}
	n.store, err = openBucket(n.alive, s.Bucket, s.State.Cache(), s.Cache, n.log, n.kept)
	return err
}

// keep makes a place for the Hypha of key, and opens it unless that waits until somebody asks. A key that is kept already changes nothing.
func (n *Server) keep(key hypercore.Key) error {
	if _, ok := n.bySourceKey(key); ok {
		return nil
	}
	p := &place{server: n, source: key, always: !n.store.OnDemand() || len(n.settings.Peers) > 0}
	if p.always {
		if _, err := p.enter(); err != nil {
			return fmt.Errorf("opening a Hypha: %w", err)
		}
		p.leave()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bySource[key], n.byDiscovery[hypercore.DiscoveryKey(key)] = p, p
	return nil
}

// adopt keeps the Hypha of key for good.
func (n *Server) adopt(ctx context.Context, key hypercore.Key) error {
	if err := remember(n.settings.State, key); err != nil {
		return err
	}
	if err := n.keep(key); err != nil {
		return err
	}
	n.log.Info("adopted a Hypha; no other will be", "hypha", hypercore.DiscoveryKey(key))
	return nil
}

// find is ws.Handler's Find.
func (n *Server) find(key hypercore.Key) (ws.Node, bool) {
	if p, ok := n.bySourceKey(key); ok {
		return p, true
	}
	if n.adoption.isOpen() {
		return candidate{&n.adoption, key}, true
	}
	n.refused.unknownKey.Add(1)
	return nil, false
}

func (n *Server) bySourceKey(key hypercore.Key) (*place, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	p, ok := n.bySource[key]
	return p, ok
}

// hyphas lists those that are open.
func (n *Server) hyphas() []*hypha {
	var out []*hypha
	for _, p := range n.places() {
		if h := p.opened.Load(); h != nil {
			out = append(out, h)
		}
	}
	return out
}

// door is the Node of the TCP listener: it lets the first frame choose the Hypha.
type door struct{ *Server }

// Serve hangs up on peers of Hyphas that are not kept.
func (d door) Serve(ctx context.Context, conn replication.Conn, opts replication.Options) error {
	discovery, whole, err := replication.Greet(ctx, conn)
	if err != nil {
		return err
	}
	d.mu.RLock()
	p := d.byDiscovery[discovery]
	d.mu.RUnlock()
	if p != nil {
		return p.Serve(ctx, whole, opts)
	}
	err = replication.ErrOtherHypha
	if d.adoption.isOpen() {
		d.refused.wantedAdoption.Add(1)
		err = errors.New("a Hypha cannot be adopted over TCP, where its read key does not show: connect to this node's HTTP address once, with --peer ws:// or wss://, or give it --hypha")
		d.log.Warn("not adopted", "peer", opts.URL, "err", err)
	} else {
		d.refused.unknownDiscovery.Add(1)
	}
	return errors.Join(err, whole.Close())
}

// close ends the parts and closes the feeds.
func (n *Server) close(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, closeTime)
	defer done()
	n.ready.Store(false)
	n.cancel()
	ended := make(chan struct{})
	go func() { // ends with the parts; if they do not end in time, the process does
		n.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		return errors.New("the node did not end in time")
	}
	var err error
	for _, p := range n.places() {
		err = errors.Join(err, p.close(ctx, time.Now()))
	}
	return errors.Join(err, n.store.Close(ctx))
}
