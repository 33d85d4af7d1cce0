package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"hyphafs.org/hyphafs/auth"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/status"
	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/fs"
)

// Status, StatusJSON, Link and Nodes are fs.Control: the texts of the control files.

// Status is what `hyphafs status` prints.
func (n *Node) Status() []byte { return n.described().Text() }

// StatusJSON is what `hyphafs status --json` prints.
func (n *Node) StatusJSON() []byte { return n.described().JSON() }

// described is status for the mount: what cannot be said becomes an alarm.
func (n *Node) described() status.Status {
	s, err := n.status()
	if err != nil {
		n.log.Error("status", "err", err)
		s.Alarms = append(s.Alarms, "status: "+err.Error())
	}
	return s
}

// Link is the hyphalink and a newline.
func (n *Node) Link() []byte { return []byte(n.link() + "\n") }

// Nodes maps the directory name of each writer to its text.
func (n *Node) Nodes() map[string][]byte {
	out := map[string][]byte{}
	writers, err := n.writers()
	if err != nil {
		n.log.Error("listing the nodes", "err", err)
	}
	for _, w := range writers {
		out[w.Node] = w.Text()
	}
	return out
}

// writers lists the writers of the Hypha, the origin first.
func (n *Node) writers() ([]status.Writer, error) {
	out := []status.Writer{}
	nodes, err := n.drive.Nodes()
	if err != nil {
		return out, err
	}
	names := nodeNames(nodes)
	for _, w := range nodes {
		one := status.Writer{Node: names[w.Feed], Name: w.Name, Fingerprint: record.Fingerprint(w.Feed), Self: w.Self}
		if !w.ApprovedBy.IsZero() {
			one.ApprovedBy = orFingerprint(names, w.ApprovedBy)
		}
		if !w.Time.IsZero() {
			one.Approved = second(w.Time)
		}
		if one.LastSeen, err = n.lastSeen(w.Feed); err != nil {
			return out, err
		}
		out = append(out, one)
	}
	return out, nil
}

// lastSeen is when a block of feed last arrived here: when its file was last written. It is nil if none ever did.
func (n *Node) lastSeen(feed hypercore.Key) (*time.Time, error) {
	info, err := os.Stat(filepath.Join(n.settings.State.Feeds(), hypercore.DiscoveryKey(feed).String(), "data"))
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return second(info.ModTime()), nil
}

func second(t time.Time) *time.Time {
	t = t.UTC().Truncate(time.Second)
	return &t
}

// nodeNames gives each writer the name of its directory.
func nodeNames(nodes []drive.Node) map[hypercore.Key]string {
	names := map[hypercore.Key]string{}
	for _, w := range nodes {
		names[w.Feed] = record.NodeDir(w.Name, w.Feed)
	}
	return names
}

func orFingerprint(names map[hypercore.Key]string, feed hypercore.Key) string {
	if name, ok := names[feed]; ok {
		return name
	}
	return record.Fingerprint(feed)
}

// requests lists the open requests for approval.
func (n *Node) requests() []status.Request {
	out := []status.Request{}
	for _, r := range n.inbox.Requests() {
		out = append(out, status.Request{Node: r.Dir, Words: r.Words, Said: r.JSON})
	}
	return out
}

// pending shows the inbox to the mount.
type pending struct{ inbox *auth.Inbox }

// Requests lists the open requests.
func (p pending) Requests() []fs.Request {
	var out []fs.Request
	for _, r := range p.inbox.Requests() {
		out = append(out, fs.Request{Dir: r.Dir, Words: r.Words + "\n", JSON: r.JSON})
	}
	return out
}

// Approve lets a node write.
func (p pending) Approve(ctx context.Context, dir string) error {
	return forMount(p.inbox.Approve(ctx, dir))
}

// Deny refuses a node.
func (p pending) Deny(ctx context.Context, dir string) error {
	return forMount(p.inbox.Deny(ctx, dir))
}

// forMount gives errors of the inbox the names that the mount knows.
func forMount(err error) error {
	for _, pair := range [][2]error{{auth.ErrGone, drive.ErrNotExist}, {auth.ErrAnswered, fs.ErrAnswered}, {auth.ErrNotAuthorised, drive.ErrNotAuthorised}} {
		if errors.Is(err, pair[0]) {
			return errors.Join(pair[1], err)
		}
	}
	return err
}

// dropped counts what was not taken from peers, by reason.
func (n *Node) dropped() map[string]uint64 {
	out := map[string]uint64{}
	for reason, count := range n.inbox.Counters() {
		add(out, "request_"+reason, count)
	}
	c := n.peers.Counters()
	for reason, count := range map[string]uint64{
		"message_malformed": c.Malformed, "block_unasked": c.Unasked, "block_bad_proof": c.BadProofs, "feed_forked": c.Forks, "peer_clear": c.ClearRefused,
		"peer_of_another_hypha": c.OtherHypha, "request_unanswered": c.Unanswered, "block_without_room": c.Full, "ephemeral_too_long": c.ExtensionsTooLong,
		"ephemeral_limited": c.ExtensionsLimited, "ephemeral_repeated": c.ExtensionsRepeated, "ephemeral_not_taken": c.ExtensionsDropped,
		"ephemeral_elsewhere": c.ExtensionsElsewhere,
	} {
		add(out, reason, count)
	}
	return out
}

// add keeps what was counted at all.
func add(to map[string]uint64, reason string, count uint64) {
	if count > 0 {
		to[reason] = count
	}
}
