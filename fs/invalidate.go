package fs

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

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
// the directory or pages concerned, which requests that wait for us may hold: hence no caller of add ever waits for it, and pages go only while nobody waits (pages).
type invalidations struct {
	log    *slog.Logger
	kernel notifier // set once, before the first request is served
	pages  pages

	mu      sync.Mutex
	wake    sync.Cond // something below changed
	waiting []drive.Change
	drops   []uint64 // inodes whose pages could not be dropped when they changed
	again   []uint64 // inodes that the kernel did not know when it was told of them
	pruning []uint64 // inodes to be given up if nobody uses them
	added   uint64   // changes ever given
	passed  uint64   // changes ever passed on
	stopped bool
}

func newInvalidations(log *slog.Logger) *invalidations {
	q := &invalidations{log: log, pages: pages{files: map[uint64]*cached{}}}
	q.wake.L = &q.mu
	return q
}

func (q *invalidations) add(changes []drive.Change) {
	for _, c := range changes {
		if c.Name == "" {
			q.pages.changed(inoOf(c.ID))
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, changes...)
	q.added += uint64(len(changes))
	q.wake.Broadcast()
}

// drop lets the pages of an inode be dropped that could not be before.
func (q *invalidations) drop(ino uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drops = append(q.drops, ino)
	q.wake.Broadcast()
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

// onTheWay is longer than any answer to a lookup or a listing takes, which waits for no peer, from the look into the drive until the kernel has taken it.
const onTheWay = time.Second

// run passes changes on until stop. An inode that the kernel does not know may be named by an answer that is on the way to it and has the attributes of before: it is told of that
// inode a second time.
func (q *invalidations) run() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for len(q.waiting)+len(q.drops)+len(q.again)+len(q.pruning) == 0 && !q.stopped {
			q.wake.Wait()
		}
		if q.stopped {
			return
		}
		batch, drops, again, prune := q.waiting, q.drops, q.again, q.pruning
		q.waiting, q.drops, q.again, q.pruning = nil, nil, nil, nil
		q.mu.Unlock()
		var unknown []uint64
		for _, c := range batch {
			unknown = append(unknown, q.pass(c)...)
		}
		for _, ino := range drops {
			q.bytes(ino)
		}
		for _, ino := range again {
			q.kernel.InodeNotify(ino, -1, 0) // it had no pages then
		}
		if len(unknown) > 0 {
			time.AfterFunc(onTheWay, func() { q.repeat(unknown) }) // ends at once, also when the queue has stopped
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

func (q *invalidations) repeat(inodes []uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.again = append(q.again, inodes...)
	q.wake.Broadcast()
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

// bytes tells the kernel that attributes and bytes of an inode changed. Pages go with it if somebody has the file open and nobody waits for them.
func (q *invalidations) bytes(ino uint64) fuse.Status {
	changes, due := q.pages.due(ino)
	if !due {
		return q.kernel.InodeNotify(ino, -1, 0)
	}
	status := q.kernel.InodeNotify(ino, 0, 0)
	if status == fuse.OK || status == fuse.ENOENT {
		q.pages.dropped(ino, changes)
	}
	return status
}

// pass tells the kernel one change, and returns the inodes concerned that it did not know. Of a changed file attributes and pages go, its name and its inotify watches stay;
// a name goes only when it means another inode. A name that is gone is told as a deletion, so that those who watch it hear of it.
func (q *invalidations) pass(c drive.Change) (unknown []uint64) {
	told := func(id record.ID, status fuse.Status) {
		switch status {
		case fuse.OK:
		case fuse.ENOENT:
			unknown = append(unknown, inoOf(id))
		default:
			q.refused(status)
		}
	}
	switch {
	case c.Name == "":
		told(c.ID, q.bytes(inoOf(c.ID)))
	case c.ID == c.Was && c.ID != (record.ID{}):
		told(c.ID, q.kernel.InodeNotify(inoOf(c.ID), -1, 0))
	default:
		status := fuse.ENOENT
		if c.ID == (record.ID{}) && c.Was != (record.ID{}) {
			status = q.kernel.DeleteNotify(inoOf(c.Dir), inoOf(c.Was), c.Name)
		}
		if status != fuse.OK {
			status = q.kernel.EntryNotify(inoOf(c.Dir), c.Name)
		}
		if status != fuse.OK && status != fuse.ENOENT {
			q.refused(status)
		}
		told(c.Dir, q.kernel.InodeNotify(inoOf(c.Dir), 0, 0)) // its attributes and its list
		if c.Was != (record.ID{}) {
			told(c.Was, q.kernel.InodeNotify(inoOf(c.Was), -1, 0)) // its link count
		}
	}
	return unknown
}

func (q *invalidations) refused(status fuse.Status) {
	q.log.Debug("kernel did not take an invalidation", "op", "notify", "err", status.String())
}
