package drive

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"syscall"

	"hyphafs.org/hyphafs/drive/record"
)

// File is an open handle on a regular file. All methods may be called from many goroutines at once.
type File struct {
	d      *Drive
	in     *inode
	write  bool
	closed sync.Once
	ahead  readAhead
}

// Open returns a handle on a regular file. The inode lives until the last handle is closed, also when its last name is gone.
func (d *Drive) Open(_ context.Context, id record.ID, write bool) (*File, error) {
	if write {
		if err := d.mayChange(); err != nil {
			return nil, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	in, err := d.load(id)
	if err != nil {
		return nil, err
	}
	switch in.rec.Kind { // it never changes
	case record.File:
	case record.Dir:
		return nil, ErrIsDir
	default:
		return nil, ErrInvalid
	}
	in.opens++
	if write {
		in.writers++
	}
	return &File{d: d, in: in, write: write}, nil
}

// Attr returns the inode's attributes, also after its last name is gone.
func (f *File) Attr(context.Context) (Attr, error) {
	f.d.mu.RLock()
	defer f.d.mu.RUnlock()
	if f.d.overlay.inodes[f.in.id] != f.in { // a kept head
		return f.d.attrOf(f.in.id, &f.in.rec, nil, 1), nil
	}
	return f.d.attr(f.in.id)
}

// Privileged reports whether suid or sgid is set, at less cost than Attr: it is asked at each write.
func (f *File) Privileged() bool {
	f.in.mu.RLock()
	defer f.in.mu.RUnlock()
	return f.in.rec.Mode&(syscall.S_ISUID|syscall.S_ISGID) != 0
}

// SetAttr is Drive.SetAttr on an open, perhaps unlinked, inode.
func (f *File) SetAttr(ctx context.Context, change AttrChange) (Attr, error) {
	return f.d.SetAttr(ctx, f.in.id, change)
}

// Close releases the handle. It is idempotent.
func (f *File) Close() error {
	f.closed.Do(func() {
		d, in := f.d, f.in
		d.ahead.end(&f.ahead)
		d.mu.Lock()
		defer d.mu.Unlock()
		in.opens--
		if f.write {
			in.writers--
			in.mu.Lock()
			if in.dirty && !in.isSmall() {
				var fr frame
				fr.inode(in) // times and size as the last write left them
				if err := d.log(&fr); err != nil {
					d.cfg.Log.Warn("journal", "err", err)
				}
			}
			in.mu.Unlock()
		}
		if in.opens > 0 {
			return
		}
		d.bury(in.id)
		if d.overlay.inodes[in.id] == in {
			d.release(in)
		}
	})
	return nil
}

// noSpace lets a full disk be told apart.
func noSpace(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// WriteAt writes all of p at off; past the end the gap is a hole. killPriv clears suid and sgid.
func (f *File) WriteAt(ctx context.Context, p []byte, off int64, killPriv bool) (int, error) {
	if err := f.d.mayChange(); err != nil {
		return 0, err
	}
	if off < 0 || off > record.MaxSize-int64(len(p)) {
		return 0, ErrTooBig
	}
	if err := f.d.withRoom(ctx, func() error { return f.writeAt(ctx, p, off, killPriv) }); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *File) writeAt(ctx context.Context, p []byte, off int64, killPriv bool) error {
	in := f.in
	for {
		in.mu.Lock()
		missing := f.d.hydration(in, uint64(off), uint64(off)+uint64(len(p)))
		if len(missing) == 0 {
			defer in.mu.Unlock()
			return f.d.writeLocked(in, p, off, killPriv)
		}
		in.mu.Unlock()
		if err := f.d.hydrate(ctx, in, missing); err != nil {
			return err
		}
	}
}

// Append writes all of p at the end, atomically against other writers of this node, and returns the offset of that.
func (f *File) Append(ctx context.Context, p []byte, killPriv bool) (int64, error) {
	for {
		f.in.mu.RLock()
		size := f.in.rec.Size
		f.in.mu.RUnlock()
		err := f.d.withRoom(ctx, func() error { return f.appendAt(ctx, p, size, killPriv) })
		if !errors.Is(err, errMoved) {
			return int64(size), err
		}
	}
}

var errMoved = errors.New("the end of the file moved")

func (f *File) appendAt(ctx context.Context, p []byte, size uint64, killPriv bool) error {
	if err := f.d.mayChange(); err != nil {
		return err
	}
	in := f.in
	in.mu.RLock()
	missing := f.d.hydration(in, size, size+uint64(len(p)))
	in.mu.RUnlock()
	if len(missing) > 0 {
		if err := f.d.hydrate(ctx, in, missing); err != nil {
			return err
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.rec.Size != size || len(f.d.hydration(in, size, size+uint64(len(p)))) > 0 {
		return errMoved
	}
	if size > math.MaxInt64-uint64(len(p)) || size+uint64(len(p)) > record.MaxSize {
		return ErrTooBig
	}
	return f.d.writeLocked(in, p, int64(size), killPriv)
}

// hydration lists the blocks that have to be brought before the bytes from up to to are written: those which the write changes only in part, whose other bytes are
// in a content feed, and which cannot be patched. Called with in.mu held.
func (d *Drive) hydration(in *inode, from, to uint64) (blocks []uint64) {
	if from >= to {
		return nil
	}
	first, last := from>>blockShift, (to-1)>>blockShift
	for n := first; n <= last; n += max(last-first, 1) {
		whole := from <= n<<blockShift && (to >= (n+1)<<blockShift || to >= in.rec.Size)
		if whole || in.present.has(n) {
			continue
		}
		if e := in.extent(n); e != nil && !d.patchable(in, n, e, from, to) {
			blocks = append(blocks, n)
		}
	}
	return blocks
}

// extent returns the extent that holds block n, or nil for a hole. Called with in.mu held.
func (in *inode) extent(n uint64) *record.Extent {
	lo, hi := 0, len(in.rec.Extents)
	for lo < hi {
		mid := (lo + hi) / 2
		if e := &in.rec.Extents[mid]; n < e.Block {
			hi = mid
		} else if n >= e.Block+e.Count {
			lo = mid + 1
		} else {
			return e
		}
	}
	return nil
}

// hydrate brings blocks from the content feeds into the backing file.
func (d *Drive) hydrate(ctx context.Context, in *inode, blocks []uint64) error {
	for _, n := range blocks {
		in.mu.RLock()
		e := in.extent(n)
		var at record.Extent
		if e != nil {
			at = *e
		}
		in.mu.RUnlock()
		if e == nil {
			continue
		}
		plain, err := d.block(ctx, in.id, at, n)
		if err != nil {
			return err
		}
		in.mu.Lock()
		err = d.fill(in, n, at, plain)
		in.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// fill puts block n into the backing file, but for pages of it that are there, unless that has it by now, or the block changed. Called with in.mu held.
func (d *Drive) fill(in *inode, n uint64, at record.Extent, plain []byte) error {
	if !in.stands(n, at) {
		return nil
	}
	if err := d.openBacking(in, 0); err != nil {
		return err
	}
	start := n << blockShift
	plain = plain[:min(uint64(len(plain)), in.rec.Size-start)]
	if in.isSmall() {
		return d.store(in, plain, start, &frame{})
	}
	for _, gap := range in.pages.missing(pagesOf(run{n, n + 1})) {
		from, to := gap.first<<pageShift-start, min(gap.end<<pageShift-start, uint64(len(plain)))
		if from >= to {
			break
		}
		if err := in.put(plain[from:to], start+from); err != nil {
			return err
		}
	}
	var f frame
	f.blocks(in.id, run{n, n + 1}) // behind the bytes: it hides what the block held
	if err := d.log(&f); err != nil {
		return err
	}
	in.add([]run{{n, n + 1}}, nil)
	return nil
}

// put writes p into the backing file at off. Called with mu held.
func (in *inode) put(p []byte, off uint64) error {
	if _, err := in.backing.WriteAt(p, int64(off)); err != nil {
		in.unsynced = unsynced{all: true} // some of it may be there
		return noSpace(fmt.Errorf("write: %w", err))
	}
	in.unsynced.wrote(piece{off, off + uint64(len(p))})
	return nil
}

// add notes what the backing file has from now on. Called with mu held.
func (in *inode) add(blocks, pages []run) {
	grow(&in.present, &in.pages, blocks, pages)
	if g := in.grown; g != nil {
		grow(&g.present, &g.pages, blocks, pages)
	}
}

// store puts p into the backing file at off, within the file's size or at its end, and into the journal what that has to know: f, which may hold items
// already, is written. Called with in.mu held.
func (d *Drive) store(in *inode, p []byte, off uint64, f *frame) error {
	blocks, pages := in.becomes(off, off+uint64(len(p)))
	before, after := f, (*frame)(nil) // the frame goes first where it can: it may not fit
	switch {
	case !in.isSmall():
		for _, m := range blocks {
			f.blocks(in.id, m)
			for n := m.first; n < m.end && after == nil; n++ {
				if in.extent(n) != nil { // not a hole, which reads as zeros until the bytes come: what it held would be hidden
					before, after = nil, f
				}
			}
		}
		for _, m := range pages {
			f.pages(in.id, m)
			before, after = nil, f
		}
	case in.journalled.Load():
		f.bytes(in, p, off)
	default:
		before = nil
	}
	if before != nil {
		if err := d.log(before); err != nil {
			return err
		}
	}
	if err := in.put(p, off); err != nil {
		return err
	}
	if after != nil {
		if err := d.log(after); err != nil {
			return err
		}
	}
	in.add(blocks, pages)
	return nil
}

// writeLocked writes p at off. Called with in.mu held; nothing has to be hydrated.
func (d *Drive) writeLocked(in *inode, p []byte, off int64, kill bool) error {
	if len(p) == 0 {
		return nil
	}
	end := uint64(off) + uint64(len(p))
	if len(in.rec.Extents)+2*len(in.unpublished)+2 > record.MaxExtents { // in more pieces it could not be published
		return ErrTooBig
	}
	owed, err := d.roomToWrite(in, uint64(off), end)
	if err != nil {
		return err
	}
	if err := d.openBacking(in, end); err != nil {
		return err
	}
	now := d.cfg.Now()
	before := in.snapshot()
	var f frame
	f.before(in)
	in.touch(now)
	in.rec.Size = max(in.rec.Size, end)
	in.rec.Mtime, in.rec.Ctime = now.UnixNano(), now.UnixNano()
	if kill {
		killPriv(&in.rec)
	}
	if !before.dirty || in.rec.Mode != before.rec.Mode {
		f.inode(in)
	}
	if err := d.store(in, p, uint64(off), &f); err != nil {
		in.restore(before)
		return errors.Join(err, in.backing.Truncate(int64(in.rec.Size))) // what was written behind the end is not there
	}
	in.unpublished.add(run{uint64(off) >> blockShift, (end-1)>>blockShift + 1})
	d.owe(in, owed)
	return nil
}
