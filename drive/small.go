package drive

import (
	"errors"
	"io"
	"sync/atomic"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// Files of one block at most do not get a file in the workspace: their bytes are in memory, and in the journal, which is one write where making,
// growing, syncing and removing a file are five system calls. A file that outgrows a block, or finds no room among the others, is spilled into one.
const (
	smallSize = blockSize
	smallRoom = 64 << 20 // bytes of all small files together
)

// smallFile is the backing file of a small file. It is guarded as every backing file is, by its inode's mu.
type smallFile struct {
	b    []byte
	room *atomic.Int64 // bytes of all
}

// ReadAt reads up to the end.
func (f *smallFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(f.b)) {
		return 0, io.EOF
	}
	n := copy(p, f.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes all of p; a gap before it is zeros.
func (f *smallFile) WriteAt(p []byte, off int64) (int, error) {
	if end := off + int64(len(p)); end > int64(len(f.b)) {
		f.resize(end)
	}
	return copy(f.b[off:], p), nil
}

// Truncate changes the size.
func (f *smallFile) Truncate(size int64) error {
	f.resize(size)
	return nil
}

// resize keeps no bytes behind the end: what grows there again is zeros.
func (f *smallFile) resize(size int64) {
	f.room.Add(size - int64(len(f.b)))
	if size <= int64(len(f.b)) {
		clear(f.b[size:])
		f.b = f.b[:size]
		return
	}
	f.b = append(f.b, make([]byte, size-int64(len(f.b)))...)
}

// Size returns the length.
func (f *smallFile) Size() (int64, error) { return int64(len(f.b)), nil }

// Punch zeroes n bytes at off.
func (f *smallFile) Punch(off, n int64) error {
	if size := int64(len(f.b)); off < size {
		clear(f.b[off:min(off+n, size)])
	}
	return nil
}

// Sync does nothing: the journal has the bytes.
func (f *smallFile) Sync() error { return nil }

// Close frees the bytes.
func (f *smallFile) Close() error {
	f.resize(0)
	f.b = nil
	return nil
}

var _ hypercore.File = (*smallFile)(nil)

// isSmall says whether the bytes of in that are here are in the journal. Called with in.mu held.
func (in *inode) isSmall() bool {
	_, ok := in.backing.(*smallFile)
	return ok
}

// openBacking makes sure that in has a backing file as long as the file, in which size bytes have room. Called with in.mu held.
func (d *Drive) openBacking(in *inode, size uint64) error {
	size = max(size, in.rec.Size)
	fits := size <= smallSize && d.small.Load()+int64(size) <= smallRoom
	switch {
	case in.backing == nil && fits:
		in.backing = newSmall(&d.small, int64(in.rec.Size))
	case in.backing == nil:
		if err := d.logBefore(in); err != nil {
			return err
		}
		backing, err := d.makeBacking(in)
		if err != nil {
			return err
		}
		in.backing = backing
	case in.isSmall() && size > in.rec.Size && !fits:
		return d.spill(in)
	}
	return nil
}

func newSmall(room *atomic.Int64, size int64) *smallFile {
	f := &smallFile{room: room}
	f.resize(size)
	return f
}

// logBefore journals what a power loss must leave of a changed file all of whose bytes are in content feeds, or holes: the record says it all, until
// other bytes come. Called with in.mu held.
func (d *Drive) logBefore(in *inode) error {
	if !in.dirty || in.synced == in.changes || in.rec.Size == 0 {
		return nil
	}
	var f frame
	f.synced(in, false)
	if err := d.log(&f); err != nil {
		return err
	}
	in.synced = in.changes
	return nil
}

// makeBacking makes the file in the workspace. Its first fsync has to make its name durable as well.
func (d *Drive) makeBacking(in *inode) (hypercore.File, error) {
	backing, err := d.cfg.Work.Backing(in.id)
	if err != nil {
		return nil, noSpace(err)
	}
	if err := backing.Truncate(int64(in.rec.Size)); err != nil {
		return nil, noSpace(errors.Join(err, backing.Close()))
	}
	in.unsynced = unsynced{all: true}
	in.named = false
	return backing, nil
}

// spill moves the bytes of a small file into a file of its own. Called with in.mu held.
func (d *Drive) spill(in *inode) error {
	small := in.backing.(*smallFile)
	backing, err := d.makeBacking(in)
	if err != nil {
		return err
	}
	var f frame
	f.spilled(in.id)
	if _, err = backing.WriteAt(small.b, 0); err == nil {
		err = d.log(&f)
	}
	if err != nil {
		return noSpace(errors.Join(err, backing.Close(), d.cfg.Work.RemoveBacking(in.id)))
	}
	in.backing, in.synced = backing, in.changes // the journal has it all, until the next change
	return small.Close()
}

// closeBacking lets go of the bytes that are here. Called with Drive.mu and in.mu held.
func (d *Drive) closeBacking(in *inode) error {
	if in.backing == nil {
		d.owe(in, 0)
		return nil
	}
	err := in.backing.Close()
	switch {
	case in.isSmall():
	case in.published:
		err = errors.Join(err, d.cfg.Work.RemoveBacking(in.id))
	default: // should power fail before the journal is synced, it never lost its name
		d.doomed = append(d.doomed, in.id)
	}
	in.backing, in.present, in.pages, in.unpublished, in.unsynced, in.grown = nil, nil, nil, nil, unsynced{}, nil
	d.owe(in, 0)
	return err
}
