package fs

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/record"
)

// notifier is the part of *fuse.Server that reaches into the kernel's caches. Nodes are named by inoOf.
type notifier interface {
	DeleteNotify(parent, child uint64, name string) fuse.Status
	EntryNotify(parent uint64, name string) fuse.Status
	InodeNotify(node uint64, off, length int64) fuse.Status
	PruneNotify(nodes []uint64) fuse.Status
}

// invalidations passes changes on to the kernel, in order, from the one goroutine that calls run. The kernel takes the locks of
// the directory or page concerned, which requests that wait for us may hold: hence no caller of add ever waits for it.
type invalidations struct {
	log    *slog.Logger
	kernel notifier // set once, before the first request is served

	mu      sync.Mutex
	wake    sync.Cond // something below changed
	waiting []drive.Change
	pruning []uint64 // inodes to be given up if nobody uses them
	added   uint64   // changes ever given
	passed  uint64   // changes ever passed on
	stopped bool
}

func newInvalidations(log *slog.Logger) *invalidations {
	q := &invalidations{log: log}
	q.wake.L = &q.mu
	return q
}

func (q *invalidations) add(changes []drive.Change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, changes...)
	q.added += uint64(len(changes))
	q.wake.Broadcast()
}

// told is how many changes were ever given.
func (q *invalidations) told() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.added
}

// prune lets the kernel be asked to give inodes up; nothing depends on whether it does.
func (q *invalidations) prune(inodes []uint64) {
	if len(inodes) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pruning = append(q.pruning, inodes...)
	q.wake.Broadcast()
}

func (q *invalidations) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	q.wake.Broadcast()
}

// modeChanged tells the kernel at once that the mode of id is another: it takes suid and sgid for unchanged after a write or
// fallocate that it told us to clear them at, and asks for other attributes only. This takes no lock that a request could hold.
func (q *invalidations) modeChanged(id record.ID) { q.kernel.InodeNotify(inoOf(id), -1, 0) }

// pruneAtOnce is how many inodes one message to the kernel names, of 8 bytes each.
const pruneAtOnce = 256

// run passes changes on until stop.
func (q *invalidations) run() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for len(q.waiting)+len(q.pruning) == 0 && !q.stopped {
			q.wake.Wait()
		}
		if q.stopped {
			return
		}
		batch, prune := q.waiting, q.pruning
		q.waiting, q.pruning = nil, nil
		q.mu.Unlock()
		for _, c := range batch {
			q.pass(c)
		}
		for inodes := range slices.Chunk(prune, pruneAtOnce) {
			if q.kernel.PruneNotify(inodes) == fuse.ENOSYS {
				break // a kernel before 6.18
			}
		}
		q.mu.Lock()
		q.passed += uint64(len(batch))
		q.wake.Broadcast()
	}
}

// settled waits until everything added so far was passed on, or the queue stopped.
func (q *invalidations) settled(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.wake.Broadcast()
	})()
	q.mu.Lock()
	defer q.mu.Unlock()
	for upTo := q.added; q.passed < upTo && !q.stopped && ctx.Err() == nil; {
		q.wake.Wait()
	}
	return ctx.Err()
}

// pass tells the kernel one change. Of a changed file attributes and pages go, its name and its inotify watches stay; a name goes
// only when it means another inode. A name that is gone is told as a deletion, so that those who watch it hear of it.
func (q *invalidations) pass(c drive.Change) {
	var status fuse.Status
	switch {
	case c.Name == "":
		status = q.kernel.InodeNotify(inoOf(c.ID), 0, 0)
	case c.ID == c.Was && c.ID != (record.ID{}):
		status = q.kernel.InodeNotify(inoOf(c.ID), -1, 0)
	default:
		status = fuse.ENOENT
		if c.ID == (record.ID{}) && c.Was != (record.ID{}) {
			status = q.kernel.DeleteNotify(inoOf(c.Dir), inoOf(c.Was), c.Name)
		}
		if status != fuse.OK {
			status = q.kernel.EntryNotify(inoOf(c.Dir), c.Name)
		}
		q.kernel.InodeNotify(inoOf(c.Dir), 0, 0) // its attributes and its list
		if c.Was != (record.ID{}) {
			q.kernel.InodeNotify(inoOf(c.Was), -1, 0) // its link count
		}
	}
	if status != fuse.OK && status != fuse.ENOENT {
		q.log.Debug("kernel did not take an invalidation", "op", "notify", "err", status.String())
	}
}
