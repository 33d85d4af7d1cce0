package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// Feed is a feed in the bucket. It is to replication, and to hyperdb, what a hypercore.Feed is: Has speaks of what is in the cache or in the bucket, and Block and Proof
// read from the bucket what the cache has not. It cannot be written to, only put to. All methods may be called from many goroutines at once.
type Feed struct {
	store *Store
	name  string // its discovery key: the folder in the cache, and in the bucket
	dir   string
	local *hypercore.Feed // the cache: everything that was verified here, less what was evicted

	refused atomic.Bool // blocks were said not to be here because the bucket was away

	// committing is held for one commit, compaction or look at the manifest at a time, over requests. It is taken before mu.
	committing sync.Mutex
	pending    []pack // guarded by committing: in the bucket, in no manifest yet
	asked      bool   // guarded by committing: the bucket gave the manifest in this run
	merges     int    // guarded by committing

	mu       sync.RWMutex // guards what follows; held over nothing
	manifest *manifest    // changed with committing held, too: who holds that may read it
	tag      Tag          // of manifest in the bucket; likewise
	places   []place
	kept     runs // blocks in the bucket: those of all packs but the bad ones
	fresh    runs // blocks in the cache that are not in the bucket
	size     int  // about how many bytes became fresh since the last commit
	bad      map[packID]struct{}
	touched  map[packID]time.Time // when a block of it was read
	loads    map[packID]*load
	news     []run                // kept, not told
	alarm    *hypercore.ForkError // not told
	evident  bool                 // the bucket has the evidence of a fork
	closed   bool
}

// openFeed opens the feed with key. ask says whether the bucket is asked even if there is a note of what it had.
func openFeed(ctx context.Context, s *Store, key hypercore.Key, name string, ask bool) (*Feed, error) {
	f := &Feed{store: s, name: name, dir: filepath.Join(s.cfg.Dir, name), manifest: &manifest{}}
	n, err := readNote(f.dir)
	if err == nil && n.key != key {
		err = ErrFormat
	}
	noted := err == nil
	if f.local, err = s.openCache(key, f.dir); err != nil {
		return nil, err
	}
	if noted {
		f.manifest, f.tag = n.manifest, n.tag
	}
	f.index()
	f.fresh = f.stored().without(f.kept)
	if noted && !ask {
		return f, nil
	}
	f.committing.Lock()
	err = f.refresh(ctx)
	f.committing.Unlock()
	if err != nil && ctx.Err() != nil {
		return nil, errors.Join(err, f.local.Close())
	}
	if err != nil && !errors.Is(err, ErrAway) && !errors.Is(err, ErrUnusable) {
		s.cfg.Log.Error("what the bucket says of a feed cannot be used", "feed", name, "err", f.words(err))
	}
	if !noted { // so that the next run knows whose blocks these are
		f.mu.RLock()
		err = writeNote(f.dir, note{f.Key(), f.tag, f.manifest})
		f.mu.RUnlock()
		if err != nil {
			return nil, errors.Join(err, f.local.Close())
		}
	}
	return f, nil
}

// words is err without the feed's key, which nobody may read in a log.
func (f *Feed) words(err error) string {
	return strings.ReplaceAll(err.Error(), f.local.Key().String(), f.name)
}

// Key returns the feed's public key.
func (f *Feed) Key() hypercore.Key { return f.local.Key() }

// DiscoveryKey returns the name under which the feed is asked for.
func (f *Feed) DiscoveryKey() hypercore.Key { return f.local.DiscoveryKey() }

// Writable is false.
func (f *Feed) Writable() bool { return false }

// Append fails with hypercore.ErrNotWritable.
func (f *Feed) Append(context.Context, [][]byte) (uint64, error) {
	return 0, hypercore.ErrNotWritable
}

// Len returns the greatest signed length known, in blocks.
func (f *Feed) Len() uint64 { return f.local.Len() }

// Bytes returns the size of all blocks below Len, stored or not.
func (f *Feed) Bytes() uint64 { return f.local.Bytes() }

// Root returns the greatest signed head known.
func (f *Feed) Root() hypercore.Head { return f.local.Root() }

// Forked returns the evidence of a fork that was ever seen, or nil.
func (f *Feed) Forked() *hypercore.ForkError {
	if fork := f.local.Forked(); fork != nil {
		return fork
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.manifest.fork != nil {
		return &hypercore.ForkError{Feed: f.Key(), Ours: f.manifest.fork[0], Theirs: f.manifest.fork[1]}
	}
	return nil
}

// away reports whether the bucket cannot be read from: then what it has alone does not count.
func (f *Feed) away() bool {
	if !f.store.health.down.Load() {
		return false
	}
	f.refused.Store(true)
	return true
}

// Has reports whether block seq is in the cache or in the bucket.
func (f *Feed) Has(seq uint64) bool {
	if f.away() {
		return f.local.Has(seq)
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.kept.has(seq) || f.fresh.has(seq)
}

// Kept reports whether block seq is in the bucket.
func (f *Feed) Kept(seq uint64) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.kept.has(seq)
}

// Unkept returns a bit for each of the length blocks from start on, most significant first, 1 for one that Has and that is not in the bucket; nothing for the rest if
// there are no more of them. The caller owns it.
func (f *Feed) Unkept(start, length uint64) []byte {
	f.mu.RLock()
	defer f.mu.RUnlock()
	last, ok := f.fresh.last(min(start+length, maxBlocks))
	if !ok || last < start {
		return nil
	}
	out := make([]byte, (last-start)/8+1)
	f.fresh.bits(out, start, last+1)
	return out
}

// waiting returns how many blocks are not in the bucket.
func (f *Feed) waiting() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.fresh.count()
}

// unkept reports whether the bucket lacks blocks, or evidence, that it would take.
func (f *Feed) unkept() bool {
	if f.Forked() != nil {
		return !f.isEvident()
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	return len(f.fresh) > 0
}

// Have returns how many blocks are in the cache or in the bucket.
func (f *Feed) Have() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.kept.count() + f.fresh.count()
}

// LastStored returns the greatest block below below that is in the cache or in the bucket.
func (f *Feed) LastStored(below uint64) (seq uint64, ok bool) {
	if f.away() {
		return f.local.LastStored(below)
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	a, ok1 := f.kept.last(below)
	b, ok2 := f.fresh.last(below)
	return max(a, b), ok1 || ok2
}

// NextMissing returns the first block at or behind from, below Len, that neither has; none when there is no room for more.
func (f *Feed) NextMissing(from uint64) (seq uint64, ok bool) {
	if f.store.Full() {
		return 0, false
	}
	length := f.local.Len()
	f.mu.RLock()
	defer f.mu.RUnlock()
	for from < length {
		next := max(f.kept.end(from), f.fresh.end(from))
		if next == from {
			return from, true
		}
		from = next
	}
	return 0, false
}

// Wanted returns the blocks that someone waits for, the oldest wish first.
func (f *Feed) Wanted() []uint64 {
	if f.store.Full() {
		return nil
	}
	return f.local.Wanted()
}

// Bitfield returns a bit for each of the length blocks from start on, most significant first, 1 for those that Has. The caller owns it.
func (f *Feed) Bitfield(start, length uint64) []byte {
	if f.away() {
		return f.local.Bitfield(start, length)
	}
	end := f.local.Len()
	if start >= end {
		return nil
	}
	end = min(end, start+min(length, end))
	out := make([]byte, (end-start+7)/8)
	f.mu.RLock()
	defer f.mu.RUnlock()
	f.kept.bits(out, start, end)
	f.fresh.bits(out, start, end)
	return out
}

// Watch returns a channel that gets a signal, at least one after the last change, when the length grew or a block was stored here; stop ends it. Of blocks that
// other instances stored Config.OnKept tells.
func (f *Feed) Watch() (changed <-chan struct{}, stop func()) { return f.local.Watch() }

// Digest tells which nodes on the way from block seq to the roots are known here.
func (f *Feed) Digest(seq uint64) uint64 { return f.local.Digest(seq) }

// Put stores block seq in the cache if the proof vouches for it, as hypercore.Feed.Put does, and lets the bucket have it soon. Kept tells when that is so; what
// was put is not durable before.
func (f *Feed) Put(ctx context.Context, seq uint64, value []byte, p hypercore.Proof) error {
	if err := f.local.Put(ctx, seq, value, p); err != nil {
		if errors.Is(err, hypercore.ErrFork) {
			f.store.fresh(f, true) // the evidence goes to the bucket
		}
		return err
	}
	if value == nil {
		return nil
	}
	f.mu.Lock()
	added := !f.kept.has(seq) && !f.fresh.has(seq)
	if added {
		f.fresh.add(run{seq, seq + 1})
		f.size += len(value)
	}
	size := f.size
	f.mu.Unlock()
	if added {
		f.store.fresh(f, size >= packTarget)
	}
	return nil
}

// Block returns block seq, from the bucket if the cache has it not. hypercore.ErrNotStored if neither has it, or if the bucket does not answer. The caller owns it.
func (f *Feed) Block(seq uint64) (block []byte, err error) {
	err = f.read(seq, func() error {
		block, err = f.local.Block(seq)
		return err
	})
	return block, err
}

// Proof returns what a peer needs to check block seq, as hypercore.Feed.Proof does, after reading it from the bucket if need be.
func (f *Feed) Proof(seq, digest uint64, marked *hypercore.Marks, hash bool) (proof hypercore.Proof, err error) {
	err = f.read(seq, func() error {
		proof, err = f.local.Proof(seq, digest, marked, hash)
		return err
	})
	return proof, err
}

// read tries from the cache, and again each time when the bucket gave a pack that has block seq. An eviction that had begun may take it away at once, but one that
// begins later takes it last.
func (f *Feed) read(seq uint64, from func() error) error {
	var err error
	for range 4 {
		if err = from(); !errors.Is(err, hypercore.ErrNotStored) {
			break
		}
		p, ok := f.place(seq)
		if !ok {
			break
		}
		f.touch(p.id)
		if lost := f.load(f.store.lifetime, p); lost != nil {
			f.refused.Store(true)
			f.store.cfg.Log.Debug("block cannot be read from the bucket", "feed", f.name, "seq", seq, "err", f.words(lost))
			return fmt.Errorf("block %d: %w: %w", seq, hypercore.ErrNotStored, lost)
		}
	}
	if p, ok := f.place(seq); err == nil && ok {
		f.touch(p.id)
	}
	return err
}

// touch notes that a block of the pack was read, which keeps it in the cache for a while.
func (f *Feed) touch(id packID) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.touched == nil {
		f.touched = map[packID]time.Time{}
	}
	f.touched[id] = now
}

// place says which pack has blocks.
type place struct {
	run
	pack int // position in the manifest
}

// place returns the pack that has block seq.
func (f *Feed) place(seq uint64) (pack, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	i, ok := slices.BinarySearchFunc(f.places, seq, func(p place, seq uint64) int {
		if p.to <= seq {
			return -1
		} else if p.from > seq {
			return 1
		}
		return 0
	})
	if !ok {
		return pack{}, false
	}
	return f.manifest.packs[f.places[i].pack], true
}

// adopt makes m, whose tag is tag, what is known of the bucket. Called with mu held, or while opening.
func (f *Feed) adopt(m *manifest, tag Tag) {
	f.manifest, f.tag = m, tag
	f.reindex()
}

// reindex finds out again what the bucket has, what of that is news, and what it lacks. Called with mu held.
func (f *Feed) reindex() {
	before := f.kept
	f.index()
	f.news = append(f.news, f.kept.without(before)...)
	if len(before.without(f.kept)) > 0 { // the bucket lost blocks
		f.fresh = f.stored()
	}
	f.fresh = f.fresh.without(f.kept)
}

// index finds out which pack has which block. Called with mu held, or while opening.
func (f *Feed) index() {
	f.places, f.kept = nil, nil
	for i, p := range f.manifest.packs {
		if _, bad := f.bad[p.id]; bad {
			continue
		}
		for _, r := range p.blocks.without(f.kept) {
			f.places = append(f.places, place{r, i})
		}
		for _, r := range p.blocks {
			f.kept.add(r)
		}
	}
	slices.SortFunc(f.places, func(a, b place) int { return cmp.Compare(a.from, b.from) })
}

// stored returns the blocks in the cache.
func (f *Feed) stored() (s runs) {
	const step = 1 << 20
	length := f.local.Len()
	for at := uint64(0); at < length; at += step {
		bits := f.local.Bitfield(at, step)
		for n := uint64(0); n < uint64(8*len(bits)); n++ {
			from := n
			for n < uint64(8*len(bits)) && bits[n/8]&(0x80>>(n%8)) != 0 {
				n++
			}
			s.add(run{at + from, at + n})
		}
	}
	return s
}

// tell calls the callbacks for what happened. Called without locks.
func (f *Feed) tell() {
	f.mu.Lock()
	news, alarm := f.news, f.alarm
	f.news, f.alarm = nil, nil
	f.mu.Unlock()
	for _, r := range news {
		if f.store.cfg.OnKept != nil {
			f.store.cfg.OnKept(f, r.from, r.to)
		}
	}
	if alarm != nil && f.store.cfg.OnFork != nil {
		f.store.cfg.OnFork(f, alarm)
	}
}

// Sync makes what was put durable in the cache, as hypercore.Feed.Sync does: it survives a power loss, not the loss of the disk.
func (f *Feed) Sync(ctx context.Context) error { return f.local.Sync(ctx) }

// Flush returns when the bucket has every block that was put before, or, of a feed that forked, the evidence.
func (f *Feed) Flush(ctx context.Context) error {
	defer f.tell()
	return f.commit(ctx)
}

// StoredBytes returns about how many bytes of blocks are in the cache or in the bucket: exactly that if none is missing, else what they take there, at most Bytes.
func (f *Feed) StoredBytes() (uint64, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	total := f.local.Bytes()
	if f.kept.count()+f.fresh.count() == f.local.Len() {
		return total, nil
	}
	sum := uint64(f.size)
	for _, p := range f.manifest.packs {
		sum += p.size
	}
	return min(sum, total), nil
}

// Close gives the feed back to its store. It may be used no more.
func (f *Feed) Close() error { return f.store.release(f) }

// closeLocal closes the cache's part.
func (f *Feed) closeLocal(ctx context.Context) error {
	f.mu.Lock()
	closed := f.closed
	f.closed = true
	f.mu.Unlock()
	if closed {
		return nil
	}
	return errors.Join(f.local.Sync(ctx), f.local.Close())
}
