package node

import (
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
)

// doubt says why the store may be an older copy of itself; "" if nothing speaks for it, or if the person said that it is none.
func (n *Node) doubt() (string, error) {
	why, err := n.settings.State.Doubt()
	if err != nil || why == "" {
		return "", err
	}
	if n.settings.TrustStore {
		n.log.Warn("the store is taken for the newest, as asked", "path", n.settings.State, "why", why)
		return "", nil
	}
	return why, nil
}

// doubtful is what a person is told of a store in doubt, or "".
func (n *Node) doubtful() string {
	why := n.drive.Doubt()
	if why == "" {
		return ""
	}
	return "nothing is written, since this store may be an older copy of itself (" + why + "): it waits until a peer has told how far this node's own feeds go; " +
		"if no other machine can have later changes of this node, mount it once with --trust-store"
}

// stampUnlessInDoubt marks the store as the newest of itself.
func (n *Node) stampUnlessInDoubt() {
	if !n.drive.InDoubt() {
		n.stamp(state.Running)
	}
}

// stamp marks the store. The one before stays good if that fails, on a full disk say.
func (n *Node) stamp(mark func(state.Dir) error) {
	if err := mark(n.settings.State); err != nil {
		n.log.Warn("the stamp of the store", "path", n.settings.State, "err", err)
	}
	n.stamped.Store(true)
}
