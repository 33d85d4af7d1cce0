package hyperdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// Log is what the database needs of a feed; *hypercore.Feed is one. Len counts signed blocks, some of which may not be stored.
type Log interface {
	Key() hypercore.Key
	Len() uint64
	Has(seq uint64) bool
	LastStored(below uint64) (seq uint64, ok bool) // greatest stored block below below, without looking at each
	NextMissing(from uint64) (seq uint64, ok bool) // first block from from on, below Len, that is not stored
	Block(seq uint64) ([]byte, error)              // the caller may keep it and does not change it
	Append(ctx context.Context, blocks [][]byte) (first uint64, err error)
}

// Config of Open.
type Config struct {
	Source       hypercore.Key // key of the origin's feed, which is the database's key
	Local        Log           // this node's own feed; nil on a node that only reads. It may be the source
	LocalContent hypercore.Key // its content feed, announced in its lists; zero for none
	// Open opens the feed of a writer. It is called once for each writer, the local one excepted, without locks held.
	Open func(ctx context.Context, key hypercore.Key) (Log, error)
	// Known are writers learned in earlier runs.
	Known []hypercore.Key
	// OnWriter is told of each writer, and again when its content feed becomes known. No lock is held.
	OnWriter func(Writer)
	// Cache is how many entries are kept decoded, of some kilobytes each with many writers; 0: 8192, which suits who writes.
	Cache int
	Log   *slog.Logger
}

// Writer is a feed that the database lists.
type Writer struct {
	Key     hypercore.Key
	Content hypercore.Key // zero as long as it is not known, or if there is none
	By      hypercore.Key // the writer whose list named it first; zero for the source and the known ones
}

// DB is one hyperdb: many logs that together are one tree of keys. All methods may be called from many goroutines at once.
type DB struct {
	cfg     Config
	entries *lru.Cache[Version, *Entry]
	crowded int // the constant, but in tests

	updating sync.Mutex // one Update at a time; held while feeds are opened, taken before mu
	writing  sync.Mutex // one Batch at a time; held over appends, taken before updating and mu

	mu      sync.RWMutex // guards what follows; never held over an append or a callback
	writers []*writer    // authorised, in the order learned, the source first
	byKey   map[hypercore.Key]*writer
	local   *writer         // nil on a node that only reads
	list    []hypercore.Key // of the local feed: what its numbers are relative to
	inflate uint64          // block of the local feed that holds list; 0: none yet
	named   []Writer        // writers that some list names and that are not admitted yet, and by whom, in the order learned
}

// writer is a feed and what was seen of it.
type writer struct {
	Writer
	log        Log
	authorized bool
	head       *Entry // newest good entry that is stored
	learned    *Entry // the head whose list was taken up
	scanned    uint64 // blocks below this were looked at for head
	whole      uint64 // blocks below this are all stored and were looked at
	base       *Entry // newest good entry below whole: what a put is written over
	lists      lists
	told       Writer // what OnWriter heard last
}

// lists is what block seq of a feed, the last one that an entry named as the place of its list, says. It is changed with mu held, or while a batch reads
// with mu shared, of which there is one at a time.
type lists struct {
	seq     uint64 // 0: none
	feeds   []hypercore.Key
	content []byte
}

// Open opens a database and looks at what its feeds hold. It appends the header to an empty local feed.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.Cache == 0 {
		cfg.Cache = 8192
	}
	entries, err := lru.New[Version, *Entry](cfg.Cache)
	if err != nil {
		return nil, err
	}
	db := &DB{cfg: cfg, entries: entries, crowded: crowded, byKey: map[hypercore.Key]*writer{}}
	if cfg.Local != nil {
		if cfg.Local.Len() == 0 {
			if _, err := cfg.Local.Append(ctx, [][]byte{header}); err != nil {
				return nil, fmt.Errorf("header of the local feed: %w", err)
			}
		}
		db.local = &writer{Writer: Writer{Key: cfg.Local.Key(), Content: cfg.LocalContent}, log: cfg.Local}
		db.byKey[db.local.Key] = db.local
	}
	for _, k := range cfg.Known {
		db.name(k, hypercore.Key{})
	}
	if err := db.admit(ctx, Writer{Key: cfg.Source}); err != nil {
		return nil, err
	}
	if err := db.Update(ctx); err != nil {
		return nil, err
	}
	db.loadList()
	return db, nil
}

// loadList takes up the list that the local feed's newest entry names.
func (db *DB) loadList() {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.local != nil && db.local.head != nil {
		db.list, db.inflate = slices.Clone(db.local.head.list), db.local.head.Inflate
	}
}

// Update looks at the blocks that arrived since, learns of writers from them, opens their feeds, and goes on until nothing is new.
// An entry that is no good hides neither the writer's earlier entries nor anybody else's.
func (db *DB) Update(ctx context.Context) error {
	db.updating.Lock()
	defer db.updating.Unlock()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		db.mu.Lock()
		db.look()
		next := db.named
		db.named = nil
		tell := db.news()
		db.mu.Unlock()
		if db.cfg.OnWriter != nil {
			for _, w := range tell {
				db.cfg.OnWriter(w)
			}
		}
		if len(next) == 0 {
			return nil
		}
		for i, w := range next {
			if err := db.admit(ctx, w); err != nil {
				db.mu.Lock()
				db.named = append(next[i:], db.named...) // to be tried again
				db.mu.Unlock()
				return err
			}
		}
	}
}

// admit makes n an authorised writer. Called with updating held, or while opening.
func (db *DB) admit(ctx context.Context, n Writer) error {
	db.mu.RLock()
	w := db.byKey[n.Key]
	db.mu.RUnlock()
	if w == nil {
		log, err := db.cfg.Open(ctx, n.Key)
		if err != nil {
			return fmt.Errorf("open writer %s: %w", n.Key, err)
		}
		w = &writer{Writer: n, log: log}
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.byKey[n.Key] = w
	if !w.authorized {
		w.authorized, w.By = true, n.By
		db.writers = append(db.writers, w)
	}
	return nil
}

// name notes that by lists key, unless that is known. Called with mu held, or while opening.
func (db *DB) name(key, by hypercore.Key) {
	if w := db.byKey[key]; w != nil && w.authorized {
		return
	}
	if !slices.ContainsFunc(db.named, func(n Writer) bool { return n.Key == key }) {
		db.named = append(db.named, Writer{Key: key, By: by})
	}
}

// news lists the writers whose description changed since OnWriter heard of them. Called with mu held.
func (db *DB) news() (tell []Writer) {
	for _, w := range db.writers {
		if w.told != w.Writer {
			w.told = w.Writer
			tell = append(tell, w.Writer)
		}
	}
	return tell
}

// look finds every writer's newest good entry and takes up the list it names. Called with mu held.
func (db *DB) look() {
	for _, w := range db.byKey {
		length := w.log.Len()
		looked, whole := w.stored(max(w.scanned, w.next()), length), w.stored(w.whole, length) // of now: what arrives while we look was not looked at
		unread := length
		for seq, ok := w.log.LastStored(length); ok && seq >= max(w.scanned, 1); seq, ok = w.log.LastStored(seq) {
			e, err := db.entry(w, seq)
			if err != nil {
				if errors.Is(err, hypercore.ErrNotStored) { // it, or the list it needs, cannot be read yet
					unread = seq
				} else {
					db.warn(w, seq, err)
				}
				continue
			}
			if w.head == nil || w.head.Seq < e.Seq {
				w.head = e
				if w == db.local { // the end of the own feed came from a peer
					db.list, db.inflate = slices.Clone(e.list), e.Inflate
				}
			}
			break
		}
		w.scanned = max(w.scanned, min(max(looked, w.next()), unread))
		db.advance(w, min(whole, unread))
		if w.head != w.learned && w.authorized {
			w.learned = w.head
			db.learn(w, w.head)
		}
	}
}

// next is the block behind the head. Called with mu held.
func (w *writer) next() uint64 {
	if w.head == nil {
		return 0
	}
	return w.head.Seq + 1
}

// stored returns up to where the blocks from from on are stored, length at most.
func (w *writer) stored(from, length uint64) uint64 {
	if gap, ok := w.log.NextMissing(from); ok {
		return min(gap, length)
	}
	return length
}

// advance notes that w is stored up to whole without a gap and was looked at, and finds its newest good entry there. Called with mu held.
func (db *DB) advance(w *writer, whole uint64) {
	from := w.whole
	w.whole = max(from, whole)
	if w.head != nil && w.head.Seq < w.whole {
		w.base = w.head
		return
	}
	for seq := w.whole; seq > from; seq-- {
		if e, err := db.entry(w, seq-1); err == nil {
			w.base = e
			return
		}
	}
}

// learn takes up the feeds that w lists in e. Only an authorised writer's lists count. Called with mu held.
func (db *DB) learn(w *writer, e *Entry) {
	if !w.authorized {
		return
	}
	if !e.Content.IsZero() {
		w.Content = e.Content
	}
	for _, k := range e.list {
		db.name(k, w.Key)
	}
}

func (db *DB) warn(w *writer, seq uint64, err error) {
	if db.cfg.Log != nil {
		db.cfg.Log.Warn("entry left out", "feed", w.Key.String(), "seq", seq, "err", err)
	}
}

// Entry returns the entry in block seq of feed. hypercore.ErrNotStored if the block is not here, ErrBadEntry (wrapped) if it is no entry.
// What it lists is learned at the next Update.
func (db *DB) Entry(feed hypercore.Key, seq uint64) (*Entry, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	w := db.byKey[feed]
	if w == nil {
		return nil, fmt.Errorf("feed %s is no writer: %w", feed, hypercore.ErrNotStored)
	}
	e, err := db.entry(w, seq)
	if err == nil && len(e.Feeds) > 0 {
		db.learn(w, e)
	}
	return e, err
}

// entry decodes and checks one entry. Called with mu held.
func (db *DB) entry(w *writer, seq uint64) (*Entry, error) {
	v := Version{w.Key, seq}
	if e, ok := db.entries.Get(v); ok {
		return e, nil
	}
	raw, err := db.rawEntry(w, seq)
	if err != nil {
		return nil, err
	}
	list, content := raw.feeds, raw.content
	if raw.inflate != seq {
		if raw.inflate == 0 || raw.inflate > seq {
			return nil, bad("the list is said to be in block %d", raw.inflate)
		}
		if w.lists.seq != raw.inflate {
			in, err := db.rawEntry(w, raw.inflate)
			if err != nil {
				return nil, fmt.Errorf("list in force: %w", err)
			}
			w.lists = lists{raw.inflate, in.feeds, in.content}
		}
		list, content = w.lists.feeds, w.lists.content
	}
	e, err := raw.resolve(v, list, content)
	if err != nil {
		return nil, err
	}
	db.entries.Add(v, e)
	return e, nil
}

func (db *DB) rawEntry(w *writer, seq uint64) (rawEntry, error) {
	if seq == 0 {
		return rawEntry{}, bad("block 0 is the header")
	}
	b, err := w.log.Block(seq)
	if err != nil {
		return rawEntry{}, err
	}
	return decodeEntry(b)
}

// resolve turns numbers into feed keys and checks them against the list in force.
func (e *rawEntry) resolve(v Version, list []hypercore.Key, content []byte) (*Entry, error) {
	if len(list) == 0 || !slices.Contains(list, v.Feed) {
		return nil, bad("the list in force does not name its writer")
	}
	if len(e.clock) > len(list) {
		return nil, bad("a clock of %d for a list of %d feeds", len(e.clock), len(list))
	}
	length := digits(e.key)
	err := eachLink(e.trie, len(list), func(l link) error {
		if int(l.position) >= length {
			return bad("trie position %d on a path of %d digits", l.position, length)
		}
		if l.seq >= v.Seq && list[l.feed] == v.Feed {
			return bad("a pointer ahead, to block %d", l.seq)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := &Entry{Version: v, Key: e.key, Value: e.value, Deleted: e.deleted, Inflate: e.inflate, list: list, clock: e.clock, encoded: e.trie}
	if content != nil {
		out.Content = hypercore.Key(content)
	}
	if e.inflate == v.Seq {
		out.Feeds = list
	}
	return out, nil
}

// Writers returns the authorised writers in the order they were learned, the source first. The caller owns the slice.
func (db *DB) Writers() []Writer {
	db.mu.RLock()
	defer db.mu.RUnlock()
	out := make([]Writer, len(db.writers))
	for i, w := range db.writers {
		out[i] = w.Writer
	}
	return out
}

// Authorized reports whether the feed with key is reachable from the source through lists.
func (db *DB) Authorized(key hypercore.Key) bool {
	db.mu.RLock()
	defer db.mu.RUnlock()
	w := db.byKey[key]
	return w != nil && w.authorized
}

// Clock returns how many blocks of each authorised feed are seen here: up to the first that is missing, as of the last Update.
func (db *DB) Clock() map[hypercore.Key]uint64 {
	db.mu.RLock()
	defer db.mu.RUnlock()
	clock := map[hypercore.Key]uint64{}
	for _, w := range db.writers {
		clock[w.Key] = w.whole
	}
	return clock
}

// Heads returns the newest entry of each feed that no other newest entry has seen, in the order the feeds were learned.
func (db *DB) Heads() []Version {
	db.mu.RLock()
	defer db.mu.RUnlock()
	var out []Version
	for _, e := range db.heads() {
		out = append(out, e.Version)
	}
	return out
}

// heads is Heads with the entries; the local feed counts also before it is authorised. Called with mu held.
func (db *DB) heads() []*Entry {
	return db.unseen(func(w *writer) *Entry { return w.head })
}

// unseen returns those of the writers' entries, one of each or nil, that none of the others has seen. Called with mu held.
func (db *DB) unseen(of func(*writer) *Entry) []*Entry {
	var newest []*Entry
	for _, w := range db.ordered() {
		if e := of(w); e != nil {
			newest = append(newest, e)
		}
	}
	return slices.DeleteFunc(slices.Clone(newest), func(a *Entry) bool {
		return slices.ContainsFunc(newest, func(b *Entry) bool { return supersedes(b, a) })
	})
}

// ordered lists the writers, the local one among them also before it is authorised. Called with mu held.
func (db *DB) ordered() []*writer {
	if db.local == nil || db.local.authorized {
		return db.writers
	}
	return append(slices.Clone(db.writers), db.local)
}

// sees reports whether b's clock says that its writer had seen a.
func sees(b, a *Entry) bool {
	if b.Feed == a.Feed {
		return b.Seq > a.Seq
	}
	return b.Clock(a.Feed) > a.Seq
}

// supersedes is sees without false claims: of two entries that both say they have seen the other, one lies, and neither counts.
func supersedes(b, a *Entry) bool { return b != a && sees(b, a) && !sees(a, b) }

// ErrNoLocal says that this node only reads.
var ErrNoLocal = errors.New("this node has no feed of its own")
