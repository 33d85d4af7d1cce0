package fs

import (
	"sync"
	"sync/atomic"
)

// stores is about the bytes of a small file that the kernel gets before it asks for them. A program that opens such a file nearly always reads it, and a READ is one of the
// three requests that it waits for when nothing is cached. So the answer to the first OPEN comes behind the pages (FUSE_NOTIFY_STORE), which the kernel just takes.
type stores struct {
	once atomic.Bool // it got them, or has what was written through it
	// changing is held by who gives bytes, and for reading by who lets a handle that may write begin or changes the size: what is given must not be older than what
	// the kernel has. The drive gives bytes only while there is no other handle, so there is nobody who writes, and no page that a READ holds.
	changing sync.RWMutex
}

// store gives the kernel the bytes of the file that f, which the kernel does not know yet, was opened on for reading, unless it got them before. Nothing depends on whether it takes them.
func (n *node) store(f File) {
	if n.stores.once.Swap(true) || !n.stores.changing.TryLock() {
		return
	}
	defer n.stores.changing.Unlock()
	n.begin(0) // what is told of meanwhile drops these bytes, too
	defer n.end()
	if b, err := f.Whole(); err == nil && len(b) > 0 { // else the READ finds out
		n.WriteCache(0, b)
	}
}

// mayChange runs do, which may change the file's bytes or lets somebody begin to.
func (n *node) mayChange(do func() error) error {
	n.stores.changing.RLock()
	defer n.stores.changing.RUnlock()
	return do()
}
