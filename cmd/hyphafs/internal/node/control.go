package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"hyphafs.org/hyphafs/auth"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/control"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/status"
	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/fs"
	"hyphafs.org/hyphafs/replication"
)

// handle answers the control socket.
func (n *Node) handle(ctx context.Context, r control.Request) (any, error) {
	switch r.Op {
	case OpStatus:
		return n.status()
	case OpPending:
		return n.requests(), nil
	case OpNodes:
		return n.writers()
	case OpApprove, OpDeny:
		return nil, n.answer(ctx, r)
	case OpSync:
		return nil, n.sync(ctx, len(r.Args) == 1 && r.Args[0] == ArgPeer)
	case OpCheck:
		return nil, n.check(ctx)
	case OpStop:
		return n.unmount(ctx)
	}
	return nil, fault.New(fault.Usage, "use the same version of hyphafs for both", "the node does not know the operation %q", r.Op)
}

func (n *Node) answer(ctx context.Context, r control.Request) error {
	if len(r.Args) != 1 {
		return fault.New(fault.Usage, "", "%s needs the name of a request", r.Op)
	}
	dir, do := r.Args[0], n.inbox.Approve
	if r.Op == OpDeny {
		do = n.inbox.Deny
	}
	err := do(ctx, dir)
	switch {
	case errors.Is(err, auth.ErrGone):
		return fault.New(fault.Failed, "see hyphafs pending", "%s: there is no such request %q", r.Op, dir)
	case errors.Is(err, auth.ErrAnswered):
		return fault.New(fault.Failed, "see hyphafs nodes", "%s: the request of %s was answered already", r.Op, dir)
	case errors.Is(err, auth.ErrNotAuthorised):
		return fault.New(fault.NotApproved, "do it on a node that writes", "%s: this node may not write itself", r.Op)
	}
	return err
}

// sync publishes everything; with peer it waits until a peer has it.
func (n *Node) sync(ctx context.Context, peer bool) error {
	if err := n.drive.Publish(ctx); err != nil {
		return fmt.Errorf("publishing: %w", err)
	}
	if !peer {
		return nil
	}
	err := n.peers.Synced(ctx)
	if errors.Is(err, replication.ErrFull) {
		return fault.New(fault.Failed, "see hyphafs status, and give it more with --max-bytes there", "no peer that is connected has everything: %w", err)
	}
	return err
}

// unmount publishes and unmounts, unless files are in use. Run ends the node then.
func (n *Node) unmount(ctx context.Context) (note string, err error) {
	if err := n.drive.Publish(ctx); err != nil && !errors.Is(err, drive.ErrNotAuthorised) {
		return "", fmt.Errorf("publishing: %w", err)
	}
	m := n.mount.Load()
	if m == nil {
		return "", fault.New(fault.Busy, "try again", "the node is still starting")
	}
	err = m.Unmount(ctx)
	if errors.Is(err, fs.ErrBusy) {
		return "", fault.New(fault.Busy, "leave the folder and close its files (lsof +f -- "+n.settings.Mount+")", "%w", err)
	}
	var held *fs.HeldError
	if err != nil && !errors.As(err, &held) {
		return "", err
	}
	if held != nil {
		note = fmt.Sprintf("%s is unmounted; %v", n.settings.Mount, held)
	}
	n.stop.Do(func() { close(n.stopped) })
	return note, nil
}

// link is the hyphalink.
func (n *Node) link() string { return "hypha://" + n.identity.Source.String() }

// key is this node's writer key.
func (n *Node) key() hypercore.Key { return hypercore.Key(n.identity.writer[32:]) }

// words are the six words that name this node's request.
func (n *Node) words() string { return auth.Words(n.identity.Source, n.key()) }

// directory names this node under pending and nodes of others.
func (n *Node) directory() string { return record.NodeDir(n.settings.Config.Name, n.key()) }

// status describes the node as it is; with an error, as far as it is known.
func (n *Node) status() (status.Status, error) {
	s := status.Status{
		Domain:    n.settings.Config.Domain,
		Node:      status.Node{Name: n.settings.Config.Name, Fingerprint: record.Fingerprint(n.key())},
		Hyphalink: n.link(), Writable: n.drive.Writable(), Mount: n.settings.Mount, State: string(n.settings.State),
		Pending: len(n.inbox.Requests()), Dropped: n.dropped(), PID: os.Getpid(), Started: n.started.UTC(),
	}
	if !s.Writable && !n.drive.Authorized(n.key()) {
		s.Words = n.words()
	}
	for _, p := range n.peers.Peers() {
		one := status.Peer{URL: p.URL, Kind: p.Kind, Fingerprint: p.Fingerprint, Down: p.Down, Up: p.Up}
		one.Connected = int64(time.Since(p.Connected).Seconds())
		if l := p.Limit; l.Max > 0 {
			one.Refuses = fmt.Sprintf("no space left: it has %s of this Hypha and keeps %s at most", status.Bytes(l.Used), status.Bytes(l.Max))
		}
		s.Peers = append(s.Peers, one)
	}
	n.mu.Lock()
	s.Listen = append(s.Listen, n.listen...)
	for _, url := range slices.Sorted(maps.Keys(n.dials)) {
		if !slices.ContainsFunc(s.Peers, func(p status.Peer) bool { return p.URL == url }) {
			s.Unconnected = append(s.Unconnected, status.Unconnected{URL: url, Reason: fault.OneLine(n.dials[url].Error())})
		}
	}
	n.mu.Unlock()
	return s, n.describeDrive(&s)
}

// brief says how the node is to who may not know whose it is: the users of this machine. It waits for the drive, so a node that hangs says nothing.
func (n *Node) brief() string {
	s, err := n.status()
	return status.Brief(s, err)
}

// describeDrive fills in what the drive knows.
func (n *Node) describeDrive(s *status.Status) error {
	d, err := n.drive.Status()
	if err != nil {
		return err
	}
	nodes, err := n.drive.Nodes()
	names := nodeNames(nodes)
	for _, f := range d.Feeds {
		s.Feeds = append(s.Feeds, status.Feed{Key: f.Key.String(), Writer: orFingerprint(names, f.Writer), Length: f.Length, Have: f.Have})
	}
	s.Conflicts, s.Alarms = d.Conflicts, d.Alarms
	if alarm := n.doubtful(); alarm != "" {
		s.Alarms = append(s.Alarms, alarm)
	}
	if n.domain != nil && n.domain.Alarm() != "" {
		s.Alarms = append(s.Alarms, n.domain.Alarm())
	}
	s.Unpublished = status.Amount{Files: d.UnpublishedFiles, Bytes: d.UnpublishedBytes}
	s.Missing = status.Missing{Blocks: d.MissingBlocks, Bytes: d.MissingBytes}
	add(s.Dropped, "record_bad", d.Skipped)
	return err
}
