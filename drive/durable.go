package drive

import (
	"errors"
	"maps"
	"slices"

	"hyphafs.org/hyphafs/drive/record"
)

// syncJournal makes every change so far durable. The files that were renamed over others go first: the frame of such a rename counts only
// together with their bytes (itemNeeds).
func (d *Drive) syncJournal() error {
	if d.cfg.Work == nil {
		return nil
	}
	if err := d.syncPromised(); err != nil {
		return err
	}
	d.mu.Lock()
	j, doomed := d.journal, d.doomed
	d.doomed = nil
	d.mu.Unlock()
	if err := j.Sync(); err != nil {
		d.mu.Lock()
		d.doomed = append(d.doomed, doomed...)
		d.mu.Unlock()
		return noSpace(err)
	}
	d.removeBackings(doomed)
	return nil
}

// removeBackings frees the bytes of inodes that are gone for good.
func (d *Drive) removeBackings(ids []record.ID) {
	for _, id := range ids {
		if err := d.cfg.Work.RemoveBacking(id); err != nil {
			d.cfg.Log.Warn("free the bytes of a file that is gone", "err", err)
		}
	}
}

// promise is what a rename over another file owes: the bytes that the inode had when it had seen so many changes.
type promise struct {
	in      *inode
	changes uint64
}

// errPromise says that a rename has to wait until it may promise something.
var errPromise = errors.New("the rename promises bytes")

// syncPromised makes the bytes of all files that were renamed over others durable. Who comes while others do so waits for them. Renames that promise something may come in between
// at first; the second time they wait. In the journal they would stand before the items that say that the bytes of earlier ones are durable, which then would count only if their own
// are.
func (d *Drive) syncPromised() error {
	d.promising.Lock()
	defer d.promising.Unlock()
	if some, err := d.keepPromises(); !some || err != nil {
		return err
	}
	d.owing.Lock()
	defer d.owing.Unlock()
	_, err := d.keepPromises()
	return err
}

// keepPromises makes durable what is promised now, and reports whether there was something. Called with promising held.
func (d *Drive) keepPromises() (some bool, err error) {
	d.mu.Lock()
	promised := slices.Collect(maps.Values(d.promised))
	d.mu.Unlock()
	for _, p := range promised {
		err := d.syncInode(p.in)
		d.mu.Lock()
		absolved, failed := d.absolve(p.in)
		if failed == nil && (err == nil || absolved) && d.promised[p.in.id] == p { // else it was renamed again, with other bytes
			delete(d.promised, p.in.id)
		}
		d.mu.Unlock()
		if err := errors.Join(err, failed); err != nil {
			return true, err
		}
	}
	return len(promised) > 0, nil
}

// absolve lets a rename count although the disk lost bytes of the file that it needs: who syncs next is told once, unless the file is gone, and everything else goes on. It
// reports whether that is so. Called with mu held until the promise is gone: the same one made anew would stand behind what the journal says.
func (d *Drive) absolve(in *inode) (bool, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.lost {
		return false, nil
	}
	var f frame
	f.absolved(in.id)
	return true, d.log(&f)
}

// promise notes in the frame that it must not count without the bytes that inode id, a file about to be renamed over another, has now. Without that
// a program that saves by renaming, and does not fsync, could lose the old content and the new one. A small file's bytes are in the journal anyway; of one that has
// none here the record says all that a power loss must leave. Called with mu held.
func (c *change) promise(id record.ID) {
	in := c.d.overlay.inodes[id]
	if in == nil {
		return
	}
	c.hold(in)
	switch {
	case in.rec.Kind != record.File || !in.dirty || in.isSmall() || in.changes == in.synced:
	case in.backing == nil:
		c.frame.synced(in, false)
	default:
		c.frame.needs(id, in.changes)
		c.promised = append(c.promised, promise{in, in.changes})
	}
}

// renew starts a new journal if the disk failed the one in force: everything is in memory, so that nothing is lost by it.
func (d *Drive) renew() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.journal.Err() == nil {
		return nil
	}
	return d.compactNext()
}
