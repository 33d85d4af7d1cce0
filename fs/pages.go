package fs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// pages is about the bytes of files that the kernel keeps, and how it comes to drop them when they change elsewhere.
//
// The kernel drops a page only when nobody holds its lock, and who reads or writes it holds that until we answer, which may take until a peer does. The thread of
// ours that asked for the drop cannot be killed while the kernel waits; a process that cannot end keeps its device, so the kernel never learns that the answer will not come, and both stay. So
// we ask only while nobody waits for bytes of the file. Else the pages go when the last of them was answered, and an open before that, like any of a file
// that nobody had open when it changed, drops them itself: in the program that opens, which can wait for whom it likes. A request that is still on its way to us when we ask cannot be seen; it is
// answered at once unless its block is with a peer.
type pages struct {
	mu    sync.Mutex         // guards what follows and node.cached; a leaf
	files map[uint64]*cached // by inode number: what was opened since the kernel knows it; of nothing else has it pages
}

// cached is what decides about the pages of one file.
type cached struct {
	handles int    // that the kernel has
	busy    int    // requests that are being answered, for which the kernel may hold pages locked
	changes uint64 // told so far: of its bytes, not made through the kernel
	dropped uint64 // after how many of them all its pages were dropped for sure
}

// owed says that pages have to go although nobody opens the file: somebody has it open.
func (c *cached) owed() bool {
	return c != nil && c.handles > 0 && c.busy == 0 && c.dropped < c.changes
}

// changed notes that the bytes of inode ino changed, before anybody is told.
func (p *pages) changed(ino uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.files[ino]; c != nil {
		c.changes++
	}
}

// due says that the pages of inode ino have to be dropped now, and is what to tell dropped after that.
func (p *pages) due(ino uint64) (changes uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.files[ino]
	if !c.owed() {
		return 0, false
	}
	return c.changes, true
}

// dropped notes that the kernel dropped all pages of ino that were there when so many changes had been told.
func (p *pages) dropped(ino, changes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.files[ino]; c != nil {
		c.dropped = max(c.dropped, changes)
	}
}

// opening notes a handle that the kernel is about to get; it comes before the drive is asked to open, and release follows it.
func (p *pages) opening(n *node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of(n).handles++
}

// of returns what is known of n's pages, of which there are none when it is first asked for. Called with mu held.
func (p *pages) of(n *node) *cached {
	if n.cached == nil {
		n.cached = &cached{}
		p.files[inoOf(n.id)] = n.cached
	}
	return n.cached
}

// openFlags says how the kernel opens the file. Pages stay over opens, unless the file changed since they were dropped last: then it drops them before the program
// has its file, and fresh is the number of changes that this is good for, as whatever comes through the handle shows. While others wait for bytes, which
// the drop would wait for, too, who reads is led past the pages. Closing needs no word of ours beyond the release; mapped pages
// are sent at munmap all the same (fuse_vma_close of Linux).
func (p *pages) openFlags(n *node, write bool) (flags uint32, fresh uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch c := n.cached; {
	case c.dropped == c.changes:
		return fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH, 0
	case c.busy > 0 && !write:
		return fuse.FOPEN_DIRECT_IO | fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH, 0
	default:
		return fuse.FOPEN_NOFLUSH, c.changes
	}
}

// release notes that the kernel gave a handle up, or did not get it.
func (p *pages) release(n *node, fresh uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n.cached.handles--
	n.cached.dropped = max(n.cached.dropped, fresh)
}

// begin notes a request that the kernel may hold pages of n for, through a handle with that fresh, or 0.
func (p *pages) begin(n *node, fresh uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.of(n)
	c.busy++
	c.dropped = max(c.dropped, fresh)
}

// end follows each begin, and says whether pages are to be dropped that were not for those who waited.
func (p *pages) end(n *node) (owed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n.cached.busy--
	return n.cached.owed()
}

// forget notes that the kernel gave the inode up, and with it all pages.
func (p *pages) forget(n *node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ino := inoOf(n.id); n.cached != nil && p.files[ino] == n.cached {
		delete(p.files, ino)
	}
}
