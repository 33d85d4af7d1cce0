package hyperdb

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// Op is one put or delete of a batch.
type Op struct {
	Key    string
	Value  []byte // nil: none, which differs from empty
	Delete bool   // a delete with a Value writes both
}

// Batch writes ops to the local feed as one append under one signature and returns the position of the first. Each entry's
// trie is byte-equal to hyperdb 3.5.0's, up to the order of pointers under one value, as long as there are few of them (doc.go).
func (db *DB) Batch(ctx context.Context, ops []Op) (first uint64, err error) {
	ops = slices.Clone(ops)
	for i, op := range ops {
		key := normalize(op.Key)
		ops[i].Key = key
		if key == "" || strings.HasSuffix(key, "/") || strings.HasPrefix(key, "/") || len(key) > maxKey {
			return 0, fmt.Errorf("key %q shares its path with another, or is too long", op.Key)
		}
	}
	return db.batch(ctx, nil, ops)
}

// Authorize lets the feed with key write: an entry with the empty key whose list names it, and ops behind it in the same append.
// The result is durable when it returns.
func (db *DB) Authorize(ctx context.Context, key hypercore.Key, ops ...Op) error {
	if _, err := db.batch(ctx, []hypercore.Key{key}, append([]Op{{}}, ops...)); err != nil {
		return err
	}
	return db.Update(ctx)
}

// batch appends ops, whose keys are normal; newcomers are named from the first of its entries on.
func (db *DB) batch(ctx context.Context, newcomers []hypercore.Key, ops []Op) (uint64, error) {
	if db.local == nil {
		return 0, ErrNoLocal
	}
	db.writing.Lock()
	defer db.writing.Unlock()
	if err := db.Update(ctx); err != nil {
		return 0, err
	}
	db.mu.RLock()
	b := db.begin(newcomers)
	for _, op := range ops {
		b.put(op.Key, op)
	}
	db.mu.RUnlock()
	first, err := db.local.log.Append(ctx, b.blocks)
	if err != nil {
		return 0, err
	}
	if first != b.first {
		return 0, fmt.Errorf("the local feed grew behind the database: block %d, not %d", first, b.first)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.list, db.inflate = b.list, b.inflate
	for _, e := range b.written {
		db.entries.Add(e.Version, e)
	}
	if k := len(b.written); k > 0 {
		db.local.head = b.written[k-1]
		db.local.scanned, db.local.whole, db.local.base = b.next, b.next, db.local.head
		db.learn(db.local, db.local.head)
	}
	return first, nil
}

// batch is an append being made. The database's mu is held while it is.
type batch struct {
	db          *DB
	first, next uint64
	heads       []*Entry
	list        []hypercore.Key
	positions   map[hypercore.Key]int
	inflate     uint64
	listChanged bool
	clock       []uint64
	trie        trie // room for the one being made
	blocks      [][]byte
	written     []*Entry
}

// begin starts a batch over what the last Update saw, of each feed up to the first block that is missing: a clock that covers what the walk could not come by would hide it from
// hyperdb's readers.
func (db *DB) begin(newcomers []hypercore.Key) *batch {
	base := func(w *writer) *Entry { return w.base }
	b := &batch{db: db, first: db.local.log.Len(), heads: db.unseen(base), list: slices.Clone(db.list), inflate: db.inflate}
	b.next = b.first
	want := append([]hypercore.Key{db.cfg.Source, db.local.Key}, keysOf(db.writers)...)
	for _, k := range append(want, newcomers...) {
		if !slices.Contains(b.list, k) {
			b.list = append(b.list, k)
			b.listChanged = true
		}
	}
	b.positions = make(map[hypercore.Key]int, len(b.list))
	b.clock = make([]uint64, len(b.list))
	for i, k := range b.list {
		b.positions[k] = i
		if w := db.byKey[k]; w != nil {
			b.clock[i] = w.whole
		}
	}
	return b
}

func keysOf(ws []*writer) []hypercore.Key {
	out := make([]hypercore.Key, len(ws))
	for i, w := range ws {
		out[i] = w.Key
	}
	return out
}

// put adds one entry over the current heads and becomes the only head.
func (b *batch) put(key string, op Op) {
	e := &Entry{Version: Version{b.db.local.Key, b.next}, Key: key, Value: op.Value, Deleted: op.Delete, list: b.list}
	w := walk{batch: b, entry: e, path: path(key, true), trie: b.trie[:0]}
	for _, h := range b.heads {
		w.left = maxWork
		w.from(0, h)
	}
	w.left = maxWork
	w.thin()
	b.trie = w.trie
	written := slices.Clone(w.trie)
	e.way = way{w.path, &written}
	e.encoded = w.trie.encode()
	raw := rawEntry{key: key, value: op.Value, deleted: op.Delete, trie: e.encoded}
	if b.listChanged {
		b.listChanged, b.inflate = false, b.next
		raw.feeds, e.Feeds = b.list, b.list
		if !b.db.cfg.LocalContent.IsZero() {
			raw.content = slices.Clone(b.db.cfg.LocalContent[:])
		}
	}
	e.Content = b.db.cfg.LocalContent
	raw.inflate, e.Inflate = b.inflate, b.inflate
	b.next++
	b.clock[b.positions[b.db.local.Key]] = b.next
	raw.clock = slices.Clone(b.clock)
	e.clock = raw.clock
	b.blocks = append(b.blocks, raw.encode())
	b.written = append(b.written, e)
	b.heads = []*Entry{e}
}

// maxWork is how many links a put looks at for each head, and once more when it thins what it took over; an entry that it loads counts as a link, and one more for each 16 bytes of
// its trie and value, a block that is no good entry as a 64th of all.
// That is less than 0.1 s a head (BenchmarkFullTries), whatever other writers point to. Good writers' tries need far less; where it is used up, what lies behind is not taken over, and
// hyperdb's readers may not find it through the new entry.
const maxWork = 1 << 20

// walk fills the trie of a new entry (hyperdb 3.5.0, lib/put.js).
type walk struct {
	batch *batch
	entry *Entry
	path  []byte // of entry
	trie  trie   // of entry; in the order found until thin sorts it
	left  int    // of maxWork
	// taken is nil until a walker first splits: positions only grow, so no step can come twice before. One taken twice adds nothing;
	// without this a web of pointers doubles the walkers at every digit.
	taken map[step]bool
}

// step is a walker at a position of the path, over an entry.
type step struct {
	position int
	at       Version
}

// from follows the way of the new entry through the trie of head, from position i on.
func (w *walk) from(i int, head *Entry) {
	way, rest := head.digits(), head.trie().from(i)
	for ; i < len(w.path) && w.left > 0; i++ {
		digit := w.path[i]
		var at trie
		at, rest = rest.at(i)
		w.left -= len(at)
		w.keepOthers(i, digit, head, at)
		if i < len(way) && way[i] == digit && (digit < end || head.Key == w.entry.Key) {
			continue
		}
		if i < len(way) {
			w.keep(i, way[i], head.Version)
		}
		if digit == end { // nothing lies behind
			return
		}
		ahead := w.ahead(head, at, digit)
		if len(ahead) == 0 {
			return
		}
		for _, e := range ahead[1:] {
			w.from(i+1, e)
		}
		head = ahead[0]
		way, rest = head.digits(), head.trie().from(i+1)
	}
}

// ahead returns the entries that the links of head at a position lead to under digit, without those that a walker was at already.
func (w *walk) ahead(head *Entry, at trie, digit byte) (ahead []*Entry) {
	at = slices.DeleteFunc(slices.Clone(at), func(l link) bool { return l.digit != digit })
	if len(at) > w.batch.db.crowded {
		at = w.newest(head, at)
	}
	for _, l := range at {
		if e := w.look(head, l.pointer); e != nil && w.take(step{int(l.position) + 1, e.Version}, len(at) > 1) {
			ahead = append(ahead, e)
		}
	}
	return ahead
}

// take reports whether s is new. Nothing is remembered before the first split.
func (w *walk) take(s step, split bool) bool {
	if w.taken == nil && split {
		w.taken = map[step]bool{}
	}
	if w.taken == nil {
		return true
	}
	if w.taken[s] {
		return false
	}
	w.taken[s] = true
	return true
}

// look returns the entry that a pointer of e names, as follow does, and nil when no work is left.
func (w *walk) look(e *Entry, p pointer) *Entry {
	if w.left <= 0 {
		return nil
	}
	found, spoilt := w.batch.follow(e, p)
	w.left--
	if spoilt {
		w.left -= maxWork / 64 // it is as long as a block may be, and decoded each time
	}
	if found != nil {
		w.left -= (len(found.encoded) + len(found.Value)) / 16 // what a link costs
	}
	return found
}

// keepOthers takes over the pointers that lead away from our own way.
func (w *walk) keepOthers(i int, digit byte, head *Entry, at trie) {
	for _, l := range at {
		if l.digit == digit && digit != end {
			continue
		}
		if l.digit == end {
			if e := w.look(head, l.pointer); e == nil || e.Key == w.entry.Key {
				continue
			}
		}
		w.keep(i, l.digit, Version{head.list[l.feed], l.seq})
	}
}

// keep adds a pointer to v, if our list names its feed. What somebody says of a block of ours that is not written yet would make the new entry one that readers refuse.
func (w *walk) keep(i int, digit byte, v Version) {
	if v.Feed == w.entry.Feed && v.Seq >= w.entry.Seq {
		return
	}
	if at, ok := w.batch.positions[v.Feed]; ok {
		w.trie.add(link{int32(i), digit, pointer{at, v.Seq}})
	}
	if len(w.trie) == 2*maxPointers { // more than may stay
		w.thin()
	}
}

// crowded is how many pointers stand under one value before only the newest of each feed counts.
const crowded = 8

// maxWritten is how many pointers under one value we write at most: versions of hyphafs until 2026 refuse an entry with more.
const maxWritten = 1 << 10

// thin makes a trie of what was found, and drops, where more than crowded pointers stand under one value, those to an entry that is older than another one of the same feed there (doc.go).
// Heads of several that write at once point to older and to newer entries of the same writers, and the walk takes over all.
func (w *walk) thin() {
	kept := w.trie[:0]
	for rest := w.trie.sorted(); len(rest) > 0; {
		var under trie
		under, rest = rest.under()
		if len(under) > w.batch.db.crowded {
			under = w.newest(w.entry, under)
			if len(under) > maxWritten {
				under = w.leading(under)
				under = under[:min(len(under), maxWritten)]
			}
		}
		kept = append(kept, under...)
	}
	if len(kept) > maxPointers {
		kept = w.leading(kept)
		kept = kept[:min(len(kept), maxPointers)]
	}
	w.trie = kept
}

// leading is what of t leads somewhere now: other writers' false pointers must not make ours an entry that readers refuse.
func (w *walk) leading(t trie) trie {
	return slices.DeleteFunc(t, func(l link) bool {
		_, ok := w.line(w.entry, l)
		return !ok
	})
}

// newest is what of e's pointers under one value is not superfluous. Only an entry that is here and stands where the pointer is displaces others: a
// false pointer of somebody hides nothing. What is older than the newest of its feed is not even looked at, but behind the end of a path.
func (w *walk) newest(e *Entry, under trie) trie {
	superfluous := map[pointer]bool{}
	found := map[line]bool{}
	for _, l := range slices.SortedFunc(slices.Values(under), func(a, b link) int { return cmp.Compare(b.seq, a.seq) }) {
		of, ok := line{feed: l.feed}, true
		if l.digit == end || !found[of] {
			of, ok = w.line(e, l)
		}
		switch {
		case !ok:
		case found[of]:
			superfluous[l.pointer] = true
		default:
			found[of] = true
		}
	}
	return slices.DeleteFunc(under, func(l link) bool { return superfluous[l.pointer] })
}

// line is the entries under one value of which each makes those before it superfluous: those of a feed, and behind the end of a path those of a key.
type line struct {
	feed int
	key  string // of those behind the end
}

// line returns the line of the entry that l of e leads to, if that is here, good, and where l says.
func (w *walk) line(e *Entry, l link) (of line, ok bool) {
	to := w.look(e, l.pointer)
	if to == nil {
		return line{}, false
	}
	i, way := int(l.position), to.digits()
	if i >= len(way) || way[i] != l.digit || !bytes.Equal(way[:i], w.path[:i]) {
		return line{}, false
	}
	of.feed = l.feed
	if l.digit == end {
		of.key = to.Key
	}
	return of, true
}

// follow returns the entry that a pointer of e names, or nil if it is not here or no good: a broken pointer hides
// no other. spoilt says that there is a block.
func (b *batch) follow(e *Entry, p pointer) (found *Entry, spoilt bool) {
	v := Version{e.list[p.feed], p.seq}
	if v.Feed == b.db.local.Key && v.Seq >= b.first {
		if i := v.Seq - b.first; i < uint64(len(b.written)) {
			return b.written[i], false
		}
		return nil, false
	}
	w := b.db.byKey[v.Feed]
	if w == nil {
		return nil, false
	}
	found, err := b.db.entry(w, v.Seq)
	if err != nil {
		return nil, w.log.Has(v.Seq)
	}
	return found, false
}
