package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"hyphafs.org/hyphafs/auth"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/control"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/transport"
	"hyphafs.org/hyphafs/fs"
	"hyphafs.org/hyphafs/replication"
)

// Run runs the node that s describes until ctx ends or it is unmounted, and leaves it in order. The pass stays the caller's.
func Run(ctx context.Context, s Settings, pass []byte, logTo io.Writer, tell Teller) error {
	return with(ctx, s, pass, logTo, tell.Say, func(n *Node) error { return n.run(ctx, tell) })
}

func (n *Node) run(ctx context.Context, tell Teller) error {
	failed, err := n.start(ctx)
	if err != nil {
		return err
	}
	mount, err := n.mountOn(ctx)
	if err != nil {
		return err
	}
	n.mount.Store(mount)
	n.stampUnlessInDoubt()
	if n.settings.New || !n.drive.Writable() {
		n.welcome(tell.Say)
	}
	n.manager.Ready(n.brief()) // first: a command that started this node in the background ends with what follows
	tell.Ready()
	n.log.Info("ready", "path", n.settings.Mount, "writable", n.drive.Writable())
	select {
	case <-ctx.Done():
		n.log.Info("stopping", "why", context.Cause(ctx))
	case <-n.stopped:
	case <-mount.Done():
		n.log.Info("stopping", "why", "unmounted")
	case err = <-failed:
	}
	n.manager.Stopping()
	end, done := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer done()
	return errors.Join(err, n.endMount(end, mount))
}

// endMount ends the mount, also where other mount namespaces hold it.
func (n *Node) endMount(ctx context.Context, mount *fs.Server) error {
	err := mount.Close(ctx)
	var held *fs.HeldError
	if errors.As(err, &held) {
		n.log.Warn("unmounted", "path", n.settings.Mount, "err", held)
		return nil
	}
	return err
}

// start starts every part but the mount. They outlive ctx: close ends them. The first that fails is told on failed.
func (n *Node) start(ctx context.Context) (failed <-chan error, err error) {
	alive, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n.cancel = cancel
	first := make(chan error, 1)
	part := func(name string, fn func(context.Context) error) {
		n.running.Go(func() {
			if err := fn(alive); err != nil && alive.Err() == nil {
				select {
				case first <- fmt.Errorf("%s: %w", name, err):
				default:
					n.log.Error("part failed", "op", name, "err", err)
				}
			}
		})
	}
	part("drive", n.drive.Run)
	part("memory", n.limitMemory)
	if err := n.connect(alive, part); err != nil {
		return nil, err
	}
	if !n.drive.Writable() && !n.drive.Authorized(n.key()) {
		part("asking for approval", n.ask)
	}
	server, err := control.Listen(n.settings.State.Socket())
	if err != nil {
		return nil, err
	}
	part("service manager", func(ctx context.Context) error { return n.manager.Run(ctx, n.brief) })
	part("control socket", func(ctx context.Context) error { return server.Serve(ctx, n.handle) })
	return first, nil
}

// connect listens and dials.
func (n *Node) connect(ctx context.Context, part func(string, func(context.Context) error)) error {
	listen := n.settings.Config.Listen
	if len(listen) == 0 && !n.settings.Config.NoDiscovery {
		listen = []string{"tcp://:0"}
	}
	source := n.identity.Source
	for _, url := range listen {
		l, err := transport.Listen(ctx, n.peers, url, source, n.log)
		if err != nil {
			return fault.New(fault.Failed, "take another --listen", "listening at %s: %w", url, err)
		}
		n.mu.Lock()
		n.listen = append(n.listen, l.URL)
		n.mu.Unlock()
		part("listening at "+url, l.Run)
	}
	dial := func(url string) {
		n.dialled(url, errConnecting)
		part("peer "+url, func(ctx context.Context) error {
			err := transport.Dial(ctx, n.peers, url, source, n.log, func(err error) { n.dialled(url, err) })
			if errors.Is(err, replication.ErrSelf) {
				n.log.Warn("a peer is this node itself", "peer", url)
				return nil
			}
			return err
		})
	}
	for _, url := range n.settings.Config.Peers {
		dial(url)
	}
	var err error
	if n.domain, err = n.newWatch(dial); n.domain != nil {
		part("domain", n.domain.Run)
	}
	return err
}

// ask repeats the request for approval until it is granted.
func (n *Node) ask(ctx context.Context) error {
	r := auth.NewRequester(auth.RequesterConfig{
		Identity: n.identity.Identity, Writer: n.identity.writer, Name: n.settings.Config.Name,
		Sender: n.peers, Authorised: n.approved, NewPeer: n.newPeer, Log: n.log,
	})
	return r.Run(ctx)
}

func (n *Node) mountOn(ctx context.Context) (*fs.Server, error) {
	s := n.settings
	m, err := fs.Mount(ctx, s.Mount, fs.Config{
		Drive: fs.Adapt(n.drive), Pending: pending{n.inbox}, Control: n, Log: n.log,
		Options: fs.Options{AllowOther: s.AllowOther, ReadOnly: s.ReadOnly, ShowControl: s.ShowControl, FsName: string(s.State), MountOptions: s.Options},
	})
	switch {
	case errors.Is(err, fs.ErrMounted):
		return nil, fault.New(fault.Busy, "", "%w", err)
	case errors.Is(err, fs.ErrOption):
		return nil, fault.New(fault.Usage, "", "%w", err)
	}
	if err == nil {
		leaveProcessorsOver()
	}
	return m, err
}

// leaveProcessorsOver gives Go's scheduler two processors (Ps) more than there were when go-fuse chose how many threads read requests, one more than there are Ps. A thread
// that waits for a request keeps its P, and while no P is left over the runtime looks every 20 us from whom to take one, for an eighth of the node's time. GOMAXPROCS,
// where it is set, stays.
func leaveProcessorsOver() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 2)
	}
}
