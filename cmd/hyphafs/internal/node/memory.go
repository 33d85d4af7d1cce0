package node

import (
	"context"
	"runtime/debug"
	"time"
)

// Where the garbage collector begins to work harder, in bytes: well below the 300 MiB a node may take, since the pages of the view's file are counted there too.
const (
	memoryLimit = 160 << 20
	memoryMore  = 96 << 20 // at most, while so much waits to be published
	memoryStep  = 8 << 20  // the limit is moved by this, since the program stands still for it
	memoryTime  = time.Second
)

// limitMemory raises the limit by what waits to be published, as long as it waits. None of that is garbage: with a limit below what lives the collector does not stop, and
// took two thirds of the node's processor time while a hundred thousand files were made.
func (n *Node) limitMemory(ctx context.Context) error {
	tick := time.NewTicker(memoryTime)
	defer tick.Stop()
	for more := int64(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if now := min(n.drive.Waiting(), memoryMore) / memoryStep * memoryStep; now != more {
			more = now
			debug.SetMemoryLimit(memoryLimit + more)
		}
	}
}
