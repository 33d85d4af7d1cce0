package fstest

import (
	"bytes"
	"context"
	"fmt"
	"syscall"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/fs"
)

const pageSize = 4096

// content is the bytes of a sparse file by pages; a page that is not there is a hole, a nil page is allocated and zero.
type content struct {
	pages map[int64]*[pageSize]byte
	size  int64
}

func (c *content) blocks() uint64 { return uint64(len(c.pages)) * pageSize / 512 }

func (c *content) truncate(size int64) {
	if size < c.size {
		for at := range c.pages {
			if at*pageSize >= size {
				delete(c.pages, at)
			}
		}
		if p := c.pages[size/pageSize]; p != nil {
			clear(p[size%pageSize:])
		}
	}
	c.size = size
}

// each calls do with every page touched by [off, off+n): number, and the range in it.
func each(off, n int64, do func(page, from, to int64)) {
	for end := off + n; off < end; {
		from := off % pageSize
		to := min(pageSize, from+end-off)
		do(off/pageSize, from, to)
		off += to - from
	}
}

func (c *content) write(p []byte, off int64) {
	end := off + int64(len(p))
	each(off, int64(len(p)), func(page, from, to int64) {
		p = p[copy(c.page(page)[from:to], p):]
	})
	c.size = max(c.size, end)
}

// page returns a page to write to.
func (c *content) page(at int64) *[pageSize]byte {
	if c.pages == nil {
		c.pages = map[int64]*[pageSize]byte{}
	}
	if c.pages[at] == nil {
		c.pages[at] = new([pageSize]byte)
	}
	return c.pages[at]
}

func (c *content) read(p []byte, off int64) int {
	n := min(int64(len(p)), c.size-off)
	if n <= 0 {
		return 0
	}
	rest := p[:n]
	each(off, n, func(page, from, to int64) {
		if data := c.pages[page]; data != nil {
			copy(rest, data[from:to])
		} else {
			clear(rest[:to-from])
		}
		rest = rest[to-from:]
	})
	return int(n)
}

// zero makes [off, off+n) read as zeros; whole pages become holes, or allocated zeros if keep.
func (c *content) zero(off, n int64, keep bool) {
	each(off, n, func(page, from, to int64) {
		p, there := c.pages[page]
		switch {
		case to-from < pageSize && p != nil:
			clear(p[from:to])
		case keep:
			if c.pages == nil {
				c.pages = map[int64]*[pageSize]byte{}
			}
			if to-from == pageSize || !there {
				c.pages[page] = nil
			}
		case to-from == pageSize:
			delete(c.pages, page)
		}
	})
}

// seek is lseek with SEEK_DATA or SEEK_HOLE.
func (c *content) seek(off int64, hole bool) (int64, bool) {
	if off >= c.size {
		return 0, false
	}
	for at := off; at < c.size; at = (at/pageSize + 1) * pageSize {
		if _, data := c.pages[at/pageSize]; data != hole {
			return at, true
		}
	}
	return c.size, hole // the end of a file is a hole
}

// file is an open handle.
type file struct {
	d      *Drive
	n      *inode
	write  bool
	closed bool
}

// Open is fs.Drive's.
func (d *Drive) Open(_ context.Context, id record.ID, write bool) (fs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if write && !d.writable {
		return nil, drive.ErrNotAuthorised
	}
	n, err := d.get(id)
	if err != nil {
		return nil, err
	}
	if n.Kind != record.File {
		d.misuse = append(d.misuse, "open of what is no regular file")
		return nil, drive.ErrInvalid
	}
	n.open++
	return &file{d: d, n: n, write: write}, nil
}

// lock takes the drive's lock and checks that the handle may still be used, and for change that it may change the file.
func (f *file) lock(change bool) error {
	f.d.mu.Lock()
	var err error
	switch {
	case f.closed:
		f.d.misuse = append(f.d.misuse, "handle used after close")
		err = drive.ErrClosed
	case change && !f.write:
		f.d.misuse = append(f.d.misuse, "write through a handle opened for reading")
		err = drive.ErrInvalid
	case change && !f.d.writable:
		err = drive.ErrNotAuthorised
	}
	if err != nil {
		f.d.mu.Unlock()
	}
	return err
}

func (f *file) unlock() { f.d.mu.Unlock() }

// Attr is fs.File's, as all methods below.
func (f *file) Attr(context.Context) (drive.Attr, error) {
	if err := f.lock(false); err != nil {
		return drive.Attr{}, err
	}
	defer f.unlock()
	return f.n.attr(), nil
}

func (f *file) SetAttr(_ context.Context, c drive.AttrChange) (drive.Attr, error) {
	if err := f.lock(false); err != nil {
		return drive.Attr{}, err
	}
	defer f.unlock()
	if !f.d.writable {
		return drive.Attr{}, drive.ErrNotAuthorised
	}
	return f.d.set(f.n, c)
}

func (f *file) Read(ctx context.Context, p []byte, off int64) ([]byte, func(), error) {
	if err := f.lock(false); err != nil {
		return nil, nil, err
	}
	defer f.unlock()
	for s := f.n.stall; s != nil && off+int64(len(p)) > s.from; s = f.n.stall {
		s.waiting++
		f.unlock()
		select {
		case <-s.come:
		case <-ctx.Done():
		}
		f.d.mu.Lock()
		s.waiting--
		if err := ctx.Err(); err != nil {
			return nil, nil, fmt.Errorf("waiting for a peer: %w", err)
		}
	}
	n := f.n.content.read(p, off)
	if n == 0 {
		return p[:0], nil, nil
	}
	lent := bytes.Clone(p[:n]) // as a drive that goes on at once with what it gets back
	clear(p[:n])
	return lent, func() { clear(lent) }, nil
}

func (f *file) Whole() ([]byte, error) {
	if err := f.lock(false); err != nil {
		return nil, err
	}
	defer f.unlock()
	if f.n.open != 1 || f.n.stall != nil || f.n.content.size > record.BlockSize || f.n.content.size == 0 {
		return nil, nil
	}
	b := make([]byte, f.n.content.size)
	f.n.content.read(b, 0)
	return b, nil
}

func (f *file) WriteAt(_ context.Context, p []byte, off int64, killPriv bool) (int, error) {
	if err := f.lock(true); err != nil {
		return 0, err
	}
	defer f.unlock()
	f.n.content.write(p, off)
	f.changed(off+int64(len(p)), killPriv)
	return len(p), nil
}

func (f *file) Append(_ context.Context, p []byte, killPriv bool) (int64, error) {
	if err := f.lock(true); err != nil {
		return 0, err
	}
	defer f.unlock()
	at := f.n.content.size
	f.n.content.write(p, at)
	f.changed(0, killPriv)
	return at, nil
}

func (f *file) Privileged() bool {
	if err := f.lock(false); err != nil {
		return true
	}
	defer f.unlock()
	return f.n.Mode&(syscall.S_ISUID|syscall.S_ISGID) != 0
}

// changed follows a change of content that reaches up to end.
func (f *file) changed(end int64, killPriv bool) {
	f.n.content.size = max(f.n.content.size, end)
	f.n.Size = uint64(f.n.content.size)
	f.n.Mtime = f.d.now()
	f.n.Ctime = f.n.Mtime
	if killPriv {
		f.n.killPriv()
	}
}

// maxAllocated bounds one fallocate, in bytes: more is said not to fit.
const maxAllocated = 1 << 30

func (f *file) Allocate(_ context.Context, mode uint32, off, length int64) error {
	const keepSize, punch, zero = 1, 2, 16
	if err := f.lock(true); err != nil {
		return err
	}
	defer f.unlock()
	end := off + length
	if mode&keepSize != 0 {
		end = 0
	}
	switch mode &^ keepSize {
	case 0:
		if length > maxAllocated {
			return drive.ErrNoSpace
		}
		each(off, length, func(page, _, _ int64) { f.n.content.page(page) })
	case punch:
		if mode&keepSize == 0 {
			return drive.ErrNotSupported
		}
		f.n.content.zero(off, length, false)
	case zero:
		if length > maxAllocated {
			return drive.ErrNoSpace
		}
		f.n.content.zero(off, length, true)
	default:
		return drive.ErrNotSupported
	}
	f.changed(end, false)
	return nil
}

func (f *file) SeekData(_ context.Context, off int64, hole bool) (int64, error) {
	if err := f.lock(false); err != nil {
		return 0, err
	}
	defer f.unlock()
	at, ok := f.n.content.seek(off, hole)
	if !ok {
		return 0, drive.ErrNoData
	}
	return at, nil
}

func (f *file) Sync(context.Context, bool) error {
	if err := f.lock(false); err != nil {
		return err
	}
	defer f.unlock()
	f.d.synced++
	return nil
}

func (f *file) Close() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	f.n.open--
	f.d.reap(f.n)
	return nil
}
