package fs

import (
	"slices"
	"sync"
)

// What an inode that the kernel knows takes here is some 700 bytes (go-fuse's node, its tables and its name), and the kernel gives one up only when it needs the
// memory itself.
const (
	mostListed = 80_000  // references to inodes up to which a listing brings more of them
	mostKnown  = 100_000 // references beyond which the kernel is asked to give the oldest up
	pruneBatch = 10_000  // inodes that it is asked for at once
)

// known counts what the kernel holds of the drive's inodes: references, of which it has one for each answer that named an inode, until it gives the inode up.
type known struct {
	mu         sync.Mutex // guards what follows; a leaf
	references int64
	order      []uint64 // numbers of the inodes as they were named, the oldest first
	asked      int64    // references when it was asked last, of which it may not have given up any yet
}

// full says that a listing is to name entries without making the kernel take the inodes.
func (k *known) full() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.references >= mostListed
}

// named notes an answer that names inode ino, and returns those that the kernel should give up, nearly always none.
func (k *known) named(ino uint64) (prune []uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.references++
	k.order = append(k.order, ino)
	many := k.references > mostKnown && k.references > k.asked+pruneBatch
	if !many && len(k.order) <= 2*mostKnown || len(k.order) < pruneBatch {
		return nil
	}
	k.asked = k.references
	prune = slices.Clone(k.order[:pruneBatch])
	k.order = k.order[pruneBatch:] // append moves what is left to the front of a new array some day
	return prune
}

// forgotten notes that the kernel gave n references up.
func (k *known) forgotten(n uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.references -= int64(n); k.references <= mostKnown {
		k.asked = 0
	}
}
