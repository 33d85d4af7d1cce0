package drive

import (
	"errors"
	"fmt"
	"io"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// When an fsync of a backing file fails, the kernel takes the bytes for written all the same: it may show them still, or what was there before, and the next fsync
// succeeds without having stored them. So a file whose fsync failed is lost, for as long as the process lives, unless it is cut to nothing, removed or replaced: it is
// read as the kernel shows it, but neither fsynced nor published, nor may the journal be replaced, which says what the last good fsync left. The next start takes what
// the kernel shows then, with what the journal has over it, and writes all of it again: that makes it true.

// errLost says that a file cannot be made durable.
var errLost = errors.New("the disk failed to store the file: write it anew, or start again and look what is left of it")

// lose notes that an fsync of in failed, and returns the error for who called it. Called with in.mu held.
func (d *Drive) lose(in *inode, failed error) error {
	in.lost = true
	var f frame
	f.inode(in)
	if err := d.log(&f); err != nil { // the next start within this run of the system has to know all the same
		if err := d.journal.Note(f.b); err != nil {
			d.cfg.Log.Error("journal", "err", err)
		}
	}
	d.cfg.Log.Error("the disk failed to store a file: it is neither durable nor published until it is written anew", "inode", in.id.String(), "err", failed)
	return noSpace(fmt.Errorf("sync: %w", failed))
}

// whole is errLost if the disk lost bytes of in. Called with in.mu held.
func (in *inode) whole() error {
	if in.lost && in.dirty && !in.gone {
		return fmt.Errorf("inode %s: %w", in.id, errLost)
	}
	return nil
}

func (in *inode) wholeLocked() error {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.whole()
}

// allWhole is errLost if a file cannot be published because the disk lost bytes of it.
func (d *Drive) allWhole() error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, in := range d.overlay.inodes {
		if err := in.wholeLocked(); err != nil {
			return err
		}
	}
	return nil
}

// rewrite writes the blocks of in that are here again, so that the kernel knows them to be unwritten.
func (in *inode) rewrite(backing hypercore.File) error {
	b := make([]byte, blockSize)
	for _, r := range in.held() {
		for n := r.first; n < r.end; n++ {
			off := int64(n << blockShift)
			k, err := backing.ReadAt(b, off)
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read the workspace: %w", err)
			}
			if _, err := backing.WriteAt(b[:k], off); err != nil {
				return noSpace(fmt.Errorf("write: %w", err))
			}
		}
	}
	return nil
}
