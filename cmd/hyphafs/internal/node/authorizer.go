package node

import (
	"context"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// greetTime is how long an approval waits for the newcomer to have heard of it.
const greetTime = 2 * time.Second

// authorizer is the drive as the inbox sees it.
type authorizer struct{ *Node }

// CanAuthorize reports whether this node may let others write.
func (a authorizer) CanAuthorize() bool { return a.drive.CanAuthorize() }

// Authorized reports whether the writer with key is accepted by all nodes.
func (a authorizer) Authorized(key hypercore.Key) bool { return a.drive.Authorized(key) }

// Authorize lets the writer with key write. When it returns, a newcomer that is connected can write: what a person types next on the other
// machine works.
func (a authorizer) Authorize(ctx context.Context, key hypercore.Key, name string) error {
	if err := a.drive.Authorize(ctx, key, name); err != nil {
		return err
	}
	if len(a.peers.Peers()) > 0 {
		wait, cancel := context.WithTimeout(ctx, greetTime)
		defer cancel()
		a.greeted(wait, key)
	}
	return nil
}

// greeted waits until the first block of the writer's feed is here, which its node offers once it may write, or ctx ends.
func (a authorizer) greeted(ctx context.Context, key hypercore.Key) {
	for _, f := range a.drive.FeedSet().List() {
		if f.Key() != key {
			continue
		}
		changed, stop := f.Watch()
		defer stop()
		for f.Len() == 0 {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}
