package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"hyphafs.org/hyphafs/auth"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/process"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/sdnotify"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/boltview"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/view"
	"hyphafs.org/hyphafs/fs"
	"hyphafs.org/hyphafs/replication"
)

// closeTime is how long a node that ends waits for open files and for what is not published yet.
const closeTime = 30 * time.Second

// Teller hears what a node has to say to the person who started it, from one goroutine.
type Teller interface {
	Say(line string)
	Ready() // the mount answers
}

// Node is one node, opened.
type Node struct {
	settings Settings
	log      *slog.Logger
	identity *identity
	drive    *drive.Drive
	peers    *replication.Node
	inbox    *auth.Inbox
	manager  *sdnotify.Manager
	started  time.Time
	newPeer  chan struct{} // coalesced: a peer shook hands
	approved chan struct{} // closed when this node may write
	approve  sync.Once     // closes approved
	stopped  chan struct{} // closed when the control socket unmounted
	stop     sync.Once     // closes stopped
	mount    atomic.Pointer[fs.Server]
	running  sync.WaitGroup // the parts; waited for by close
	domain   *watch         // of the domain's host; nil: it is not asked
	cancel   context.CancelFunc
	stamped  atomic.Bool // the stamp in the state directory is of this run

	mu     sync.Mutex       // guards what follows
	listen []string         // URLs with the real ports
	dials  map[string]error // by the URL of a peer that this node connects to, why the last connection did not come about or ended
}

// open opens the store of s and joins the parts; nothing runs yet. It says what the person has to wait for.
func open(ctx context.Context, s Settings, id *identity, log *slog.Logger, say func(string)) (*Node, error) {
	n := &Node{
		settings: s, log: log, identity: id, manager: sdnotify.FromEnv(os.Getenv, log), started: time.Now(),
		newPeer: make(chan struct{}, 1), approved: make(chan struct{}), stopped: make(chan struct{}), dials: map[string]error{},
	}
	doubt, err := n.doubt()
	if err != nil {
		return nil, err
	}
	if n.drive, err = n.openDrive(ctx, doubt); errors.Is(err, view.ErrDamaged) {
		log.Warn("the view is damaged or of another version and is made again from the feeds", "err", err)
		say("Reading all names anew from the feeds, which takes a minute or two for a million files.")
		if err := os.Remove(s.State.View()); err != nil {
			return nil, err
		}
		n.drive, err = n.openDrive(ctx, doubt)
	}
	if err != nil {
		return nil, damaged(err)
	}
	if n.drive.Writable() {
		n.authorised()
	}
	if err := n.join(); err != nil {
		return nil, errors.Join(err, n.drive.Close(ctx))
	}
	return n, nil
}

// openDrive opens the store, in doubt if that is not empty. view.ErrDamaged: only the view's file is bad.
func (n *Node) openDrive(ctx context.Context, doubt string) (*drive.Drive, error) {
	dir := n.settings.State
	scratch, err := dir.Scratch()
	if err != nil {
		return nil, err
	}
	work, err := drive.WorkDir(dir.Work())
	if err != nil {
		return nil, err
	}
	kv, err := boltview.Open(dir.View())
	if err != nil {
		return nil, err
	}
	return drive.Open(ctx, drive.Config{ // owns kv
		Feeds:       func(name string) hypercore.Storage { return hypercore.Dir(filepath.Join(dir.Feeds(), name)) },
		View:        kv,
		Spare:       func() (view.KV, error) { return boltview.Temporary(string(dir)) },
		Work:        work,
		Keys:        n.identity.Content(),
		Local:       n.identity.Local(),
		Source:      n.identity.Source,
		Writer:      n.identity.writer,
		Name:        n.settings.Config.Name,
		Changed:     n.changed,
		Authorised:  n.authorised,
		Doubt:       doubt,
		Confirmed:   func() { n.stamp(state.Running) },
		ReadTimeout: n.settings.ReadTimeout,
		Scratch:     scratch,
		Log:         n.log,
	})
}

// damaged gives errors of a damaged store their exit code.
func damaged(err error) error {
	if errors.Is(err, drive.ErrDamaged) || errors.Is(err, view.ErrDamaged) || errors.Is(err, state.ErrDamaged) || errors.Is(err, hypercore.ErrDamaged) {
		return fault.New(fault.Damaged, "keep the directory, and sign in anew with another --state", "%w", err)
	}
	return err
}

// join connects replication and auth with the drive.
func (n *Node) join() (err error) {
	n.inbox = auth.NewInbox(auth.InboxConfig{Identity: n.identity.Identity, Authorizer: authorizer{n}, Store: refusals{n.settings.State, n.identity.Identity}, Log: n.log})
	n.peers, err = replication.New(replication.Config{
		Feeds:      feeds{n.drive},
		Extension:  func(peer replication.PeerID, payload []byte) { n.inbox.Receive(n.urlOf(peer), payload) },
		AllowClear: n.settings.AllowClear,
		OnPeer:     func(replication.Peer) { signal(n.newPeer) },
		OnAhead:    n.drive.Ahead,
		OnEnd:      n.drive.End,
		Hold:       func(hypercore.Key) bool { return n.drive.InDoubt() },
		OnFork:     func(feed hypercore.Key, evidence *hypercore.ForkError) { n.forked(feed, evidence) },
		Log:        n.log,
	})
	return err
}

// errConnecting stands for the reason while the first connection to a peer is being made.
var errConnecting = errors.New("connecting")

// dialled notes why the connection to the peer at url did not come about or ended; nil: the peer took its leave.
func (n *Node) dialled(url string, why error) {
	if why == nil {
		why = errors.New("the peer ended the connection")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials[url] = why
}

// urlOf names a peer for people.
func (n *Node) urlOf(peer replication.PeerID) string {
	for _, p := range n.peers.Peers() {
		if p.PeerID == peer {
			return p.URL
		}
	}
	return fmt.Sprintf("session %d", peer)
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// changed passes on to the kernel what peers changed.
func (n *Node) changed(changes []drive.Change) {
	if m := n.mount.Load(); m != nil {
		m.Changed(changes)
	}
}

func (n *Node) authorised() { n.approve.Do(func() { close(n.approved) }) }

// forked stops writing: the writer of feed signed two histories.
func (n *Node) forked(feed hypercore.Key, evidence *hypercore.ForkError) {
	err := fmt.Errorf("the feed %v forked: its writer signed two histories", feed)
	if evidence != nil {
		err = fmt.Errorf("%w: %w", err, evidence)
	}
	n.drive.Alarm(err)
}

// close ends the parts and closes the store.
func (n *Node) close(ctx context.Context) error {
	if n.cancel != nil {
		n.cancel()
	}
	n.running.Wait()
	err := n.drive.Close(ctx)
	if err == nil && n.stamped.Load() {
		n.stamp(state.Stopped)
	}
	return err
}

// with runs fn on the node that s describes: locked, its keys derived, its store open, closed again afterwards. The pass stays the caller's.
func with(ctx context.Context, s Settings, pass []byte, logTo io.Writer, say func(string), fn func(*Node) error) (err error) {
	if err := process.Harden(); err != nil {
		return err
	}
	debug.SetMemoryLimit(memoryLimit)
	handler, err := process.LogHandler(logTo, s.LogLevel, s.LogFormat)
	if err != nil {
		return err
	}
	log := slog.New(handler)
	if err := s.State.Make(); err != nil {
		return err
	}
	lock, err := Lock(s.State)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, lock.Release())
		if err != nil && s.New {
			s.State.Abandon()
		}
	}()
	id, err := identify(ctx, &s, pass)
	if err != nil {
		return err
	}
	defer id.wipe()
	if err := s.State.Upgrade(); err != nil {
		return err
	}
	n, err := open(ctx, s, id, log, say)
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		if closeErr := n.close(end); closeErr != nil {
			err = errors.Join(err, fmt.Errorf("closing the store: %w", closeErr))
		}
	}()
	return fn(n)
}

// Sign makes the node that s describes and tells the person what to do with it.
func Sign(ctx context.Context, s Settings, pass []byte, logTo io.Writer, say func(string)) error {
	return with(ctx, s, pass, logTo, say, func(n *Node) error {
		n.stampUnlessInDoubt()
		n.welcome(say)
		return nil
	})
}

// welcome tells what a person needs right after a sign-up or sign-in.
func (n *Node) welcome(say func(string)) {
	if n.settings.Config.Role == state.SignUp {
		say(n.link())
		return
	}
	if n.identity.notice != "" {
		say(n.identity.notice)
	}
	if n.drive.Writable() {
		return
	}
	if alarm := n.doubtful(); alarm != "" {
		say(alarm)
	}
	if n.drive.Authorized(n.key()) {
		return
	}
	say("To let this node write, compare these words on a node that writes:")
	say(n.words())
	say("and approve it there: touch .hypha/pending/" + n.directory() + "/approve")
}

// Check verifies the whole store. What it has to say goes to the log.
func Check(ctx context.Context, s Settings, pass []byte, logTo io.Writer) error {
	return with(ctx, s, pass, logTo, func(string) {}, func(n *Node) error { return n.check(ctx) })
}

func (n *Node) check(ctx context.Context) error {
	if err := n.drive.Check(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fault.New(fault.Failed, "keep the directory, and compare with another node", "the store is damaged: %w", err)
	}
	return nil
}
