package hypercore

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/crypto/blake2b"
)

// Head is a signed length of a feed: what a writer put its name to.
type Head struct {
	Length    uint64   // blocks
	Bytes     uint64   // size of all blocks
	TreeHash  [32]byte // of the full roots
	Signature [64]byte
}

// The head file has two slots, written in turn: a torn write spoils at most the newer one. A slot is, numbers big endian,
// generation (8), length (8), bytes (8), tree hash (32), signature (64), BLAKE2b-256 of the foregoing (32).
const (
	slotSize   = 8 + 8 + 8 + 32 + 64 + 32
	slotStride = 4096
)

func encodeSlot(generation uint64, h Head) []byte {
	b := make([]byte, 0, slotSize)
	b = binary.BigEndian.AppendUint64(b, generation)
	b = binary.BigEndian.AppendUint64(b, h.Length)
	b = binary.BigEndian.AppendUint64(b, h.Bytes)
	b = append(b, h.TreeHash[:]...)
	b = append(b, h.Signature[:]...)
	sum := blake2b.Sum256(b)
	return append(b, sum[:]...)
}

// decodeSlot reports ok false for a slot that was never written or is torn.
func decodeSlot(b []byte) (generation uint64, h Head, ok bool) {
	if len(b) != slotSize || blake2b.Sum256(b[:slotSize-32]) != [32]byte(b[slotSize-32:]) {
		return 0, Head{}, false
	}
	h.Length = binary.BigEndian.Uint64(b[8:])
	h.Bytes = binary.BigEndian.Uint64(b[16:])
	copy(h.TreeHash[:], b[24:])
	copy(h.Signature[:], b[56:])
	return binary.BigEndian.Uint64(b), h, h.Length <= maxLength && h.Bytes <= maxBytes
}

// writeHead makes h the committed head; it is durable when writeHead returns. Called with writing held.
func (f *Feed) writeHead(h Head) error {
	slot := encodeSlot(f.generation+1, h)
	if _, err := f.files.head.WriteAt(slot, int64((f.generation+1)%2*slotStride)); err != nil {
		return fmt.Errorf("write head: %w", err)
	}
	if err := f.files.head.Sync(); err != nil {
		return fmt.Errorf("sync head: %w", err)
	}
	f.generation++
	return nil
}

// readHead finds the newest slot whose tree and signature are good and makes it the feed's state. No slot at all is
// an empty feed; slots none of which is good are ErrDamaged.
func (f *Feed) readHead() error {
	type slot struct {
		generation uint64
		head       Head
	}
	var slots []slot
	second := false // the slot that is written second was written
	for i := range int64(2) {
		b := make([]byte, slotSize)
		if err := readFull(f.files.head, b, i*slotStride); err != nil {
			return fmt.Errorf("read head: %w", err)
		}
		second = second || i == 0 && [slotSize]byte(b) != [slotSize]byte{}
		if g, h, ok := decodeSlot(b); ok {
			slots = append(slots, slot{g, h})
		}
	}
	if len(slots) == 2 && slots[0].generation < slots[1].generation {
		slots[0], slots[1] = slots[1], slots[0]
	}
	for _, s := range slots {
		f.generation = max(f.generation, s.generation)
		roots, err := f.rootsOnDisk(s.head)
		if err != nil && f.secret != nil {
			break // to sign again what an older head does not know of would be a fork
		} else if err != nil {
			continue
		}
		f.head, f.roots, f.generation = s.head, roots, s.generation
		return nil
	}
	if second || len(slots) > 0 {
		return fmt.Errorf("no head of feed %s holds: %w", f.key, ErrDamaged)
	}
	return nil // never written, or the very first write was torn
}

// rootsOnDisk reads the full roots of h from the tree file and checks hash and signature.
func (f *Feed) rootsOnDisk(h Head) ([]Node, error) {
	var roots []Node
	var bytes uint64
	for _, i := range fullRoots(h.Length) {
		n, err := f.readNode(i)
		if err != nil {
			return nil, err
		}
		roots, bytes = append(roots, n), bytes+n.Size
	}
	if bytes != h.Bytes || treeHash(roots) != h.TreeHash || !ed25519.Verify(f.key[:], h.TreeHash[:], h.Signature[:]) {
		return nil, ErrDamaged
	}
	return roots, nil
}

// headOver finds the shortest signed length that vouches for node i with what is known here. It is shorter than the feed's. Called with mu held.
func (f *Feed) headOver(i uint64) (Head, bool, error) {
	for length := rightSpan(i)/2 + 1; length < f.head.Length; length++ {
		h := Head{Length: length}
		if err := readFull(f.files.signatures, h.Signature[:], signatureAt(length)); err != nil {
			return Head{}, false, fmt.Errorf("read signature of length %d of feed %s: %w", length, f.key, err)
		} else if h.Signature == [sizeSignature]byte{} {
			continue // inside a batch, or never heard of
		}
		roots, err := f.rootsFrom(i, length)
		if err != nil {
			return Head{}, false, err
		}
		for _, n := range roots {
			h.Bytes += n.Size
		}
		h.TreeHash = treeHash(roots)
		if roots != nil && ed25519.Verify(f.key[:], h.TreeHash[:], h.Signature[:]) {
			return h, true, nil
		}
	}
	return Head{}, false, nil
}

// rootsFrom returns the full roots of length, the one above node i hashed from it; nil if one of them, or of the nodes beside its way, is not known.
// Called with mu held.
func (f *Feed) rootsFrom(i, length uint64) ([]Node, error) {
	var missing bool
	var failed error
	known := func(i uint64) Node {
		if missing = missing || !f.tree.has(i); missing || failed != nil {
			return Node{}
		}
		var n Node
		n, failed = f.node(i)
		return n
	}
	indexes := fullRoots(length)
	top := known(i)
	for !slices.Contains(indexes, i) {
		top, i = parentNode(top, known(sibling(i))), parent(i)
	}
	roots := make([]Node, len(indexes))
	for k, r := range indexes {
		if roots[k] = top; r != i {
			roots[k] = known(r)
		}
	}
	if missing || failed != nil {
		return nil, failed
	}
	return roots, nil
}

// writeFork keeps the evidence of a fork for good. Called with mu held: it happens once in the life of a feed.
func (f *Feed) writeFork() error {
	b := append(encodeSlot(1, f.fork.Ours), encodeSlot(2, f.fork.Theirs)...)
	if _, err := f.files.fork.WriteAt(b, 0); err != nil {
		return fmt.Errorf("keep the evidence of a fork: %w", err)
	}
	return f.files.fork.Sync()
}

// readFork brings back the evidence of an earlier run.
func (f *Feed) readFork() error {
	b := make([]byte, 2*slotSize)
	if err := readFull(f.files.fork, b, 0); err != nil {
		return fmt.Errorf("read the evidence of a fork: %w", err)
	}
	_, ours, ok1 := decodeSlot(b[:slotSize])
	_, theirs, ok2 := decodeSlot(b[slotSize:])
	if ok1 && ok2 {
		f.fork = &ForkError{Feed: f.key, Ours: ours, Theirs: theirs}
	}
	return nil
}
