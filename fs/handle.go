package fs

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/record"
)

// handle is an open regular file. The kernel releases it after every request that names it was answered.
type handle struct {
	node  *node
	file  File
	fresh uint64 // see pages.openFlags
}

var (
	_ gofs.FileReader    = (*handle)(nil)
	_ gofs.FileWriter    = (*handle)(nil)
	_ gofs.FileWritever  = (*handle)(nil)
	_ gofs.FileFsyncer   = (*handle)(nil)
	_ gofs.FileAllocater = (*handle)(nil)
	_ gofs.FileLseeker   = (*handle)(nil)
	_ gofs.FileReleaser  = (*handle)(nil)
)

// Open answers open(2) of what exists.
func (n *node) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	write := flags&syscall.O_ACCMODE != syscall.O_RDONLY || flags&syscall.O_TRUNC != 0
	if write && !n.tree.drive.Writable() {
		return nil, 0, syscall.EROFS
	}
	pages := &n.tree.queue.pages
	pages.opening(n)
	f, err := n.open(ctx, write)
	if err != nil {
		pages.release(n, 0)
		return nil, 0, n.errno(err, "open")
	}
	flags, fresh := pages.openFlags(n, write)
	return &handle{node: n, file: f, fresh: fresh}, flags, 0
}

func (n *node) open(ctx context.Context, write bool) (f File, err error) {
	if !write {
		if f, err = n.tree.drive.Open(ctx, n.id, false); err == nil {
			n.store(f)
		}
		return f, err
	}
	n.stores.once.Store(true)
	err = n.mayChange(func() error {
		f, err = n.tree.drive.Open(ctx, n.id, true)
		return err
	})
	return f, err
}

// Read answers read(2) and page faults. It may wait for a peer, and can be interrupted then.
func (h *handle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	h.node.begin(h.fresh)
	defer h.node.end()
	result, err := answer(ctx, h.file, dest, off)
	return result, h.node.errno(err, "read")
}

// answer reads what a READ is about, into dest if that is needed.
func answer(ctx context.Context, f File, dest []byte, off int64) (fuse.ReadResult, error) {
	b, done, err := f.Read(ctx, dest, off)
	switch {
	case err != nil:
		return nil, err
	case done == nil:
		return fuse.ReadResultData(b), nil
	}
	return lent{b, done}, nil
}

// lent is an answer in memory of the drive's, which gets it back when the kernel has it. Slices is for that: go-fuse v2.12.1 (handleRequest) calls Done before it sends what has
// no such method.
type lent struct {
	data []byte // not empty: Done would not be called
	done func()
}

func (l lent) Bytes([]byte) ([]byte, fuse.Status) { return l.data, fuse.OK }
func (l lent) Slices() ([][]byte, fuse.Status)    { return [][]byte{l.data}, fuse.OK }
func (l lent) Size() int                          { return len(l.data) }
func (l lent) Done()                              { l.done() }

// Write answers write(2) and the writing back of mapped pages. Appended data goes to the end the file has here, not to where the
// kernel believes it to be: it does not look at the size again after a peer's change (fuse_cache_write_iter of Linux), and would
// overwrite what the peer appended. If the two differ, the kernel is told that its pages are wrong.
func (h *handle) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	h.node.begin(h.fresh)
	defer h.node.end()
	flags := writing(ctx)
	kill := flags&flagKill != 0 && h.file.Privileged()
	at, err := off, error(nil)
	if flags&flagAppend == 0 {
		_, err = h.file.WriteAt(ctx, data, off, kill)
	} else {
		at, err = h.file.Append(ctx, data, kill)
	}
	if at != off { // the kernel takes the end to be elsewhere
		h.node.tree.queue.add([]drive.Change{{ID: h.node.id}})
	}
	if kill {
		h.node.tree.queue.modeChanged(h.node.id)
	}
	if err != nil {
		return 0, h.node.errno(err, "write")
	}
	return uint32(len(data)), 0
}

// Writev is Write of data that go-fuse has in pieces.
func (h *handle) Writev(ctx context.Context, data [][]byte, off int64) (uint32, syscall.Errno) {
	h.node.begin(h.fresh)
	defer h.node.end()
	var done uint32
	for _, piece := range data {
		n, errno := h.Write(ctx, piece, off+int64(done))
		done += n
		if errno != 0 && done == 0 {
			return 0, errno
		}
		if int(n) < len(piece) {
			break
		}
	}
	return done, 0
}

// Fsync answers fsync(2), and fdatasync(2) with the first bit of flags.
func (h *handle) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	return h.node.errno(h.file.Sync(whole(ctx), flags&1 != 0), "fsync")
}

// Allocate answers fallocate(2). It clears suid and sgid like a write; the kernel leaves that to us without a word.
func (h *handle) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	if int64(off) < 0 || int64(size) <= 0 || int64(off+size) < 0 {
		return syscall.EFBIG
	}
	h.node.begin(h.fresh)
	defer h.node.end()
	kill := killsPriv(ctx)
	err := h.file.Allocate(ctx, mode, int64(off), int64(size))
	if err == nil && kill && h.file.Privileged() {
		_, err = h.file.SetAttr(ctx, drive.AttrChange{KillPriv: true})
		h.node.tree.queue.modeChanged(h.node.id)
	}
	return h.node.errno(err, "fallocate")
}

// Lseek answers lseek(2) with SEEK_DATA and SEEK_HOLE; the kernel does the others.
func (h *handle) Lseek(ctx context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	const seekData, seekHole = 3, 4
	if whence != seekData && whence != seekHole || int64(off) < 0 {
		return 0, syscall.EINVAL
	}
	at, err := h.file.SeekData(ctx, int64(off), whence == seekHole)
	return uint64(at), h.node.errno(err, "lseek")
}

// Release follows the last close of the handle.
func (h *handle) Release(ctx context.Context) syscall.Errno {
	h.node.tree.queue.pages.release(h.node, h.fresh)
	return h.node.errno(h.file.Close(), "close")
}

// dirHandle is an open directory: a snapshot of its names, taken at the first read and again at rewinddir(3). Offset i+1
// follows entry i, so that seekdir(3) finds what telldir(3) told whatever happened to the directory meanwhile. go-fuse calls
// one method of a handle at a time.
type dirHandle struct {
	node    *node
	entries []dirent // nil: not read yet
	next    int
	ahead   attrsAhead
}

// attrsAhead is the attributes of the entries from first on, asked for together. They serve the request in which that was and no other: what changes an inode between
// two requests is told to the kernel, which then takes the answer of the second for newer.
type attrsAhead struct {
	request context.Context // go-fuse makes one for each
	first   int
	attrs   []drive.Attr
}

// aheadEntries is of how many entries at once. A request of the C library is for some 170, one of Go for some 40.
const aheadEntries = 16

// attr returns the attributes of entry i, one of the drive's; zero ones if it is gone.
func (d *dirHandle) attr(ctx context.Context, i int) (drive.Attr, error) {
	a := &d.ahead
	if a.request != ctx || i < a.first || i >= a.first+len(a.attrs) {
		batch := make([]drive.DirEntry, 0, aheadEntries)
		for _, e := range d.entries[i:min(i+aheadEntries, len(d.entries))] {
			batch = append(batch, e.of)
		}
		attrs, err := d.node.tree.drive.EntryAttrs(ctx, d.node.id, batch)
		if err != nil {
			return drive.Attr{}, err
		}
		*a = attrsAhead{ctx, i, attrs}
	}
	return a.attrs[i-a.first], nil
}

// dirent is one entry; of is zero for those that are not the drive's.
type dirent struct {
	fuse.DirEntry
	of drive.DirEntry
}

var (
	_ gofs.FileReaddirenter = (*dirHandle)(nil)
	_ gofs.FileLookuper     = (*dirHandle)(nil)
	_ gofs.FileSeekdirer    = (*dirHandle)(nil)
	_ gofs.FileFsyncdirer   = (*dirHandle)(nil)
)

func (d *dirHandle) read(ctx context.Context) syscall.Errno {
	n := d.node
	list, err := n.tree.drive.ReadDir(ctx, n.id)
	if err != nil {
		return n.errno(err, "readdir")
	}
	up := uint64(rootIno)
	if _, parent := n.Parent(); parent != nil {
		up = parent.StableAttr().Ino
	}
	entries := make([]dirent, 0, len(list)+3)
	add := func(name string, mode uint32, ino uint64, of drive.DirEntry) {
		entries = append(entries, dirent{fuse.DirEntry{Name: name, Mode: mode, Ino: ino, Off: uint64(len(entries) + 1)}, of})
	}
	add(".", syscall.S_IFDIR, inoOf(n.id), drive.DirEntry{})
	add("..", syscall.S_IFDIR, up, drive.DirEntry{})
	if n.id == record.Root && n.tree.options.ShowControl {
		add(controlName, syscall.S_IFDIR, controlStable(controlName, 0).Ino, drive.DirEntry{})
	}
	for _, e := range list {
		add(e.Name, typeOf(e.Kind), inoOf(e.ID), e)
	}
	d.entries = entries
	return 0
}

// Readdirent returns the next entry, nil behind the last.
func (d *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	if d.entries == nil {
		if errno := d.read(ctx); errno != 0 {
			return nil, errno
		}
	}
	if d.next >= len(d.entries) {
		return nil, 0
	}
	d.next++
	return &d.entries[d.next-1].DirEntry, 0
}

// Lookup answers for the entry returned last, of which the drive need not look for the inode again. Once the kernel knows very many inodes it is an error, upon
// which go-fuse names the entry alone (node number 0: fuse_direntplus_link of Linux takes no inode then).
func (d *dirHandle) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	n := d.node
	i := d.next - 1
	if i < 0 || i >= len(d.entries) || d.entries[i].of.Name != name {
		return n.Lookup(ctx, name, out)
	}
	if n.tree.known.full() {
		return nil, syscall.EAGAIN
	}
	a, err := d.attr(ctx, i)
	if err != nil {
		return nil, n.errno(err, "lookup")
	}
	if a.Kind == 0 {
		return nil, syscall.ENOENT
	}
	return n.tree.entry(ctx, n, a, out), 0
}

// Seekdir answers seekdir(3) and rewinddir(3).
func (d *dirHandle) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	if off == 0 {
		d.entries, d.ahead = nil, attrsAhead{}
	}
	d.next = int(min(off, uint64(1<<31)))
	return 0
}

// Fsyncdir answers fsync(2) of a directory.
func (d *dirHandle) Fsyncdir(ctx context.Context, flags uint32) syscall.Errno {
	return d.node.errno(d.node.tree.drive.SyncDir(whole(ctx), d.node.id), "fsync")
}
