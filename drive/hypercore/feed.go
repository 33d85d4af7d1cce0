package hypercore

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
)

// MaxBlock is the greatest size of a block, in bytes.
const MaxBlock = 8 << 20

// maxLength and maxBytes bound what a writer may claim, so that no offset in a file of ours passes what ext4 can hold.
const (
	maxLength = 1 << 32 // blocks
	maxBytes  = 1 << 43
)

// Options of Open.
type Options struct {
	// Secret makes the feed writable. Its public half must be the feed's key. The feed keeps a reference.
	Secret ed25519.PrivateKey
	// Cache is how many tree nodes are kept in memory; 0 means 4096.
	Cache int
}

// Feed is one hypercore. All methods may be called from many goroutines at once.
type Feed struct {
	key       Key
	discovery Key
	secret    ed25519.PrivateKey
	files     files
	nodes     *lru.Cache[uint64, Node]

	writing    sync.Mutex // one Append, Sync, Clear, Check or Close at a time; taken before mu, held over fsyncs
	generation uint64     // of the newest head slot; guarded by writing

	mu    sync.RWMutex        // guards what follows; never held over an fsync
	head  Head                // greatest signed length known
	roots []Node              // full roots of head
	data  bitset              // blocks stored
	tree  bitset              // nodes known and verified
	have  uint64              // number of blocks stored
	full  uint64              // all blocks below are stored, this one is not
	dirty map[uint64]struct{} // bitfield pages changed since they were written
	// Invariant: a node or block counts only if its bit is set, and no bit is set beyond head.
	committed Head // what the head file says
	fork      *ForkError
	broken    error // a failed append: nothing is written until the feed is opened again

	waits waits
}

// Open opens the feed in st, or begins it. ErrDamaged if what is there cannot have been written by a Feed. The time it
// takes depends on the size of the bitfield alone: 375 KiB for a million blocks.
func Open(st Storage, key Key, opts Options) (*Feed, error) {
	if opts.Secret != nil && Key(opts.Secret.Public().(ed25519.PublicKey)) != key {
		return nil, errors.New("the secret key is not that of the feed")
	}
	if opts.Cache <= 0 {
		opts.Cache = 4096
	}
	nodes, err := lru.New[uint64, Node](opts.Cache)
	if err != nil {
		return nil, err
	}
	f := &Feed{key: key, discovery: DiscoveryKey(key), secret: opts.Secret, nodes: nodes, data: bitset{}, tree: bitset{}, dirty: map[uint64]struct{}{}}
	if f.files, err = openFiles(st); err != nil {
		return nil, err
	}
	if err := f.readHead(); err != nil {
		return nil, errors.Join(err, f.files.close())
	}
	if err := errors.Join(f.readBitfield(), f.readFork()); err != nil {
		return nil, errors.Join(err, f.files.close())
	}
	if f.secret != nil && f.generation > 0 { // the head may be in the page cache alone: killed, or a sync that failed, before it was durable
		f.generation--
		if err := f.writeHead(f.head); err != nil { // into its own slot, so that the older one stays whole
			return nil, errors.Join(err, f.files.close())
		}
	}
	f.committed = f.head
	return f, nil
}

// Key returns the feed's public key.
func (f *Feed) Key() Key { return f.key }

// DiscoveryKey returns the name under which the feed is asked for.
func (f *Feed) DiscoveryKey() Key { return f.discovery }

// Writable reports whether the feed's secret key is here.
func (f *Feed) Writable() bool { return f.secret != nil }

// Len returns the greatest signed length known, in blocks.
func (f *Feed) Len() uint64 { return f.Root().Length }

// Bytes returns the size of all blocks below Len, stored or not.
func (f *Feed) Bytes() uint64 { return f.Root().Bytes }

// Root returns the greatest signed head known.
func (f *Feed) Root() Head {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.head
}

// Roots returns the full roots of Root from left to right, which PutHead takes, and the signature over them. The caller owns both.
func (f *Feed) Roots() (roots []Node, signature []byte) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.head.Length == 0 {
		return nil, nil
	}
	return append([]Node(nil), f.roots...), append([]byte(nil), f.head.Signature[:]...)
}

// Forked returns the evidence of a fork that was ever seen, or nil.
func (f *Feed) Forked() *ForkError {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.fork
}

// Has reports whether block seq is stored.
func (f *Feed) Has(seq uint64) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.data.has(seq)
}

// LastStored returns the greatest block below below that is stored.
func (f *Feed) LastStored(below uint64) (seq uint64, ok bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if below > 0 && f.data.has(below-1) {
		return below - 1, true
	}
	return f.data.last(below)
}

// Have returns how many blocks are stored.
func (f *Feed) Have() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.have
}

// NextMissing returns the first block at or behind from, below Len, that is not stored.
func (f *Feed) NextMissing(from uint64) (seq uint64, ok bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.data.nextClear(max(from, f.full), f.head.Length)
}

// Bitfield returns a bit for each of the length blocks from start on, most significant first, 1 for stored. The caller owns it.
func (f *Feed) Bitfield(start, length uint64) []byte {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if start >= f.head.Length {
		return nil
	}
	length = min(length, f.head.Length-start)
	out := make([]byte, (length+7)/8)
	for i := uint64(0); i < length; {
		if n := start + i; n%8 == 0 && i%8 == 0 && i+8 <= length {
			if p := f.data[n/(8*pageBytes)]; p != nil {
				out[i/8] = p[n/8%pageBytes]
			}
			i += 8
			continue
		}
		if f.data.has(start + i) {
			out[i/8] |= 0x80 >> (i % 8)
		}
		i++
	}
	return out
}

// Block returns block seq, or ErrNotStored. The caller owns it.
func (f *Feed) Block(seq uint64) ([]byte, error) {
	b, _, err := f.AppendBlocks([]byte{}, seq, 1) // nil is no block to who sends it on
	return b, err
}

// AppendBlocks appends to dst the bytes of block seq, and of those behind it that are stored and have room in dst, count blocks at most. It returns dst and
// the size of each block. ErrNotStored if seq is not here. The blocks are read at once, and nobody who writes waits for that.
func (f *Feed) AppendBlocks(dst []byte, seq, count uint64) ([]byte, []int, error) {
	f.mu.RLock()
	at, sizes, err := f.place(seq, count, cap(dst)-len(dst))
	f.mu.RUnlock()
	if err != nil {
		return dst, nil, err
	}
	total := 0
	for _, size := range sizes {
		total += size
	}
	was := len(dst)
	dst = slices.Grow(dst, total)[:was+total]
	err = readFull(f.files.data, dst[was:], int64(at))
	f.mu.RLock()
	defer f.mu.RUnlock()
	for i := range sizes {
		if !f.data.has(seq + uint64(i)) { // dropped meanwhile
			return dst[:was], nil, fmt.Errorf("block %d of feed %s: %w", seq+uint64(i), f.key, ErrNotStored)
		}
	}
	if err != nil {
		return dst[:was], nil, fmt.Errorf("read block %d of feed %s: %w", seq, f.key, err)
	}
	return dst, sizes, nil
}

// place returns where block seq stands in the data file, and its size and those of the blocks behind it that are stored, up to count blocks and room bytes. Called
// with mu held.
func (f *Feed) place(seq, count uint64, room int) (at uint64, sizes []int, err error) {
	for n := seq; n < seq+count && f.data.has(n); n++ {
		leaf, err := f.node(2 * n)
		if err != nil {
			return 0, nil, err
		}
		if leaf.Size > MaxBlock {
			return 0, nil, fmt.Errorf("block %d of feed %s has size %d: %w", n, f.key, leaf.Size, ErrDamaged)
		}
		if room -= int(leaf.Size); room < 0 && n > seq {
			break
		}
		sizes = append(sizes, int(leaf.Size))
	}
	if len(sizes) == 0 {
		return 0, nil, fmt.Errorf("block %d of feed %s: %w", seq, f.key, ErrNotStored)
	}
	at, err = f.byteOffset(seq)
	return at, sizes, err
}

// block reads block seq. Called with mu held.
func (f *Feed) block(seq uint64) ([]byte, error) {
	at, sizes, err := f.place(seq, 1, 0)
	if err != nil {
		return nil, err
	}
	b := make([]byte, sizes[0])
	if err := readFull(f.files.data, b, int64(at)); err != nil {
		return nil, fmt.Errorf("read block %d of feed %s: %w", seq, f.key, err)
	}
	return b, nil
}

// byteOffset is where block seq begins in the data file: the sizes of the full roots before it. Called with mu held.
func (f *Feed) byteOffset(seq uint64) (uint64, error) {
	var at uint64
	for _, i := range fullRoots(seq) {
		n, err := f.node(i)
		if err != nil {
			return 0, err
		}
		at += n.Size
	}
	return at, nil
}

// node returns a known node. Called with mu held.
func (f *Feed) node(i uint64) (Node, error) {
	if n, ok := f.nodes.Get(i); ok {
		return n, nil
	}
	if !f.tree.has(i) {
		return Node{}, fmt.Errorf("node %d of feed %s is not known: %w", i, f.key, ErrDamaged)
	}
	n, err := f.readNode(i)
	if err == nil {
		f.nodes.Add(i, n)
	}
	return n, err
}

// readNode reads node i from the tree file.
func (f *Feed) readNode(i uint64) (Node, error) {
	var b [sizeNode]byte
	if err := readFull(f.files.tree, b[:], int64(sizeHeader+sizeNode*i)); err != nil {
		return Node{}, fmt.Errorf("read node %d of feed %s: %w", i, f.key, err)
	}
	return decodeNode(i, b[:]), nil
}

// Sync makes every block stored so far durable, and the length known. What is stored while it runs may or may not be.
func (f *Feed) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	f.mu.Lock()
	if f.broken != nil {
		defer f.mu.Unlock()
		return f.broken
	}
	head, committed := f.head, f.committed
	pages := f.takeDirty()
	f.mu.Unlock()
	if len(pages) == 0 && head == committed {
		return nil
	}
	err := f.flush(pages)
	if err == nil && head != committed {
		err = f.writeHead(head)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		return fmt.Errorf("sync feed %s: %w", f.key, err)
	}
	f.committed = head
	return nil
}

// flush makes data, tree and signatures durable, then the bitfield pages that speak of them. If it cannot, the pages are changed still. If one of the
// three cannot be synced the feed takes no more: the disk may have dropped what was put into it, and the next sync would not tell. Called with writing held.
func (f *Feed) flush(pages map[uint64][]byte) error {
	var err error
	for _, file := range []File{f.files.data, f.files.tree, f.files.signatures} {
		err = errors.Join(err, file.Sync())
	}
	broken := err != nil
	if !broken {
		err = f.writeBitfield(pages)
	}
	if err == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for p := range pages {
		f.dirty[p] = struct{}{}
	}
	if broken && f.broken == nil {
		f.broken = errors.Join(ErrBroken, err)
	}
	return err
}

// Clear drops the blocks from from up to, not including, to from the disk. The tree keeps vouching for them, and a peer
// may deliver them again. If it fails, what was dropped may still take its place on the disk: clearing the same blocks again frees it.
func (f *Feed) Clear(ctx context.Context, from, to uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	f.mu.Lock()
	if f.broken != nil {
		defer f.mu.Unlock()
		return f.broken
	}
	to = min(to, f.head.Length)
	for seq := from; seq < to; seq++ {
		f.setData(seq, false)
	}
	pages := f.takeDirty()
	f.mu.Unlock()
	if err := f.flush(pages); err != nil { // before the bytes go: a bit never speaks of a hole
		return fmt.Errorf("clear in feed %s: %w", f.key, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	holes, err := f.holes(from, to)
	for _, h := range holes {
		err = errors.Join(err, f.files.data.Punch(h.at, h.size))
	}
	if err != nil {
		return fmt.Errorf("clear in feed %s: %w", f.key, err)
	}
	return nil
}

// hole is bytes of the data file that no stored block needs.
type hole struct{ at, size int64 }

// holes returns where the blocks from from up to to lie that are not stored, as far as that is known. Called with mu held.
func (f *Feed) holes(from, to uint64) (holes []hole, err error) {
	for seq := from; seq < to; seq++ {
		if f.data.has(seq) || !f.tree.has(2*seq) { // it came back since; or it was never here
			continue
		}
		leaf, err := f.node(2 * seq)
		if err != nil {
			return holes, err
		}
		at, err := f.byteOffset(seq)
		if err != nil {
			return holes, err
		}
		if k := len(holes); k > 0 && holes[k-1].at+holes[k-1].size == int64(at) {
			holes[k-1].size += int64(leaf.Size)
		} else if leaf.Size > 0 {
			holes = append(holes, hole{int64(at), int64(leaf.Size)})
		}
	}
	return holes, nil
}

// Close releases the files. What was not synced may be lost. It is idempotent.
func (f *Feed) Close() error {
	f.writing.Lock()
	defer f.writing.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(f.broken, ErrClosed) {
		return nil
	}
	f.broken = ErrClosed
	return f.files.close()
}
