package drive

import (
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"hyphafs.org/hyphafs/drive/journal"
	"hyphafs.org/hyphafs/drive/record"
)

// The size in bytes from which a journal is replaced when little of it is alive, and when much is: that takes time in which nobody may write.
const (
	compactFrom = 16 << 20
	compactBusy = 256 << 20
)

// compactIfDue starts a new journal when the old one is mostly dead.
func (d *Drive) compactIfDue() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	live := d.live()
	if size := d.journal.Size(); size < compactFrom || size < 64*live && size < compactBusy+4*live {
		return nil
	}
	if err := d.compactNext(); !errors.Is(err, errLost) {
		return err
	}
	return nil // it has to wait
}

// Waiting is about how many bytes of memory that takes which is not published.
func (d *Drive) Waiting() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.live()
}

// live is about how many bytes a new journal would have, and the overlay takes in memory. Called with mu held.
func (d *Drive) live() int64 {
	return int64(len(d.overlay.inodes)+d.overlay.count)*512 + d.small.Load()
}

// compactNext is compact under the next name. Called with mu held.
func (d *Drive) compactNext() error {
	name, err := d.cfg.Work.Current()
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(name, 10, 64)
	if err != nil {
		return fmt.Errorf("journal %q: %w", name, ErrDamaged)
	}
	return d.compact(strconv.FormatUint(n+1, 10))
}

// compact writes the whole overlay into a new journal and makes that the one in force. Called with mu held; it holds every inode's mu, so that
// nothing is logged meanwhile.
func (d *Drive) compact(name string) (err error) {
	var held []*inode
	var journalled []bool // by the journal so far, which stays in force if this fails
	for _, in := range d.overlay.inodes {
		in.mu.Lock()
		err = errors.Join(err, in.whole())
		held, journalled = append(held, in), append(journalled, in.journalled.Load())
	}
	defer func() {
		for i, in := range held {
			if err != nil {
				in.journalled.Store(journalled[i])
			}
			in.mu.Unlock()
		}
	}()
	if err != nil {
		return err
	}
	file, err := d.cfg.Work.Journal(name)
	if err != nil {
		return noSpace(err)
	}
	if err := file.Truncate(0); err != nil {
		return errors.Join(noSpace(err), file.Close())
	}
	j, err := journal.Open(file, d.cfg.Local, name, func([]byte) error { return nil })
	if err != nil {
		return errors.Join(err, file.Close())
	}
	if err := d.writeOverlay(j); err != nil {
		return errors.Join(noSpace(err), j.Close())
	}
	for _, in := range held {
		if in.backing == nil || !in.dirty || in.gone && in.lost {
			continue
		}
		if err := in.backing.Sync(); err != nil {
			return errors.Join(d.lose(in, err), j.Close())
		}
	}
	if err := errors.Join(j.Sync(), d.cfg.Work.SyncNames()); err != nil {
		return errors.Join(noSpace(err), j.Close())
	}
	if err := d.cfg.Work.SetCurrent(name); err != nil {
		if now, other := d.cfg.Work.Current(); d.journal != nil && (other != nil || now == name) {
			d.journal.Fail(err) // the other one may be in force after a crash: nothing more may be promised in this one
		}
		return errors.Join(noSpace(err), j.Close())
	}
	if d.retired != nil {
		if err := d.retired.Close(); err != nil {
			d.cfg.Log.Warn("close an old journal", "err", err)
		}
	}
	if d.journal != nil {
		d.journal.Discard()
	}
	d.retired, d.journal = d.journal, j
	for _, in := range held {
		if in.dirty {
			in.unsynced, in.named, in.synced = unsynced{}, true, in.changes
		}
	}
	d.removeBackings(d.doomed)
	d.doomed, d.promised = nil, map[record.ID]promise{}
	return nil
}

// writeOverlay writes everything into j, in frames of a megabyte or a little more. Called with mu and every inode's mu held.
func (d *Drive) writeOverlay(j *journal.Journal) error {
	const enough = 1 << 20
	f := frame{protowire.AppendBytes(protowire.AppendTag(nil, itemBoot, protowire.BytesType), []byte(d.cfg.Work.Boot()))}
	for _, in := range d.overlay.inodes {
		in.journalled.Store(false) // in the new one
		if !in.dirty {
			continue
		}
		f.inode(in)
		if !in.isSmall() {
			f.synced(in, true)
		}
		if err := f.writeIf(j, enough); err != nil {
			return err
		}
	}
	for _, names := range d.overlay.entries {
		for _, e := range names {
			f.entry(e)
			if err := f.writeIf(j, enough); err != nil {
				return err
			}
		}
	}
	return f.writeIf(j, 1)
}

// writeIf writes the frame and empties it, if it is at least so many bytes long.
func (f *frame) writeIf(j *journal.Journal, bytes int) error {
	if len(f.b) < bytes {
		return nil
	}
	err := j.Append(f.b)
	f.b = f.b[:0]
	return err
}
