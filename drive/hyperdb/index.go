package hyperdb

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// Index says what the database holds, computed from logs and clocks alone: hyperdb's own way through the trie returns overwritten
// values at times. It is a picture of the moment it was made and needs memory for every current entry.
type Index struct {
	current map[string][]*Entry
	keys    []string // with a live value, in listing order
}

// Index folds every good entry of the authorised writers and the local feed. An entry is current unless another one for the same key
// has seen it; of two that both claim to have seen the other, both stay.
func (db *DB) Index(ctx context.Context) (*Index, error) {
	if err := db.Update(ctx); err != nil {
		return nil, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	all := map[string][]*Entry{}
	for _, w := range db.ordered() {
		for seq := uint64(1); seq < w.log.Len(); seq++ {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			e, err := db.entry(w, seq)
			if errors.Is(err, ErrBadEntry) || errors.Is(err, hypercore.ErrNotStored) {
				continue
			}
			if err != nil {
				return nil, err
			}
			all[e.Key] = append(all[e.Key], e)
		}
	}
	ix := &Index{current: map[string][]*Entry{}}
	for key, es := range all {
		if top := current(es); slices.ContainsFunc(top, func(e *Entry) bool { return !e.Deleted }) {
			ix.current[key] = top
			ix.keys = append(ix.keys, key)
		}
	}
	slices.SortFunc(ix.keys, compareKeys)
	return ix, nil
}

// current drops every entry that another one supersedes; the rest is sorted by feed key.
func current(es []*Entry) []*Entry {
	newest := map[hypercore.Key]*Entry{} // within one feed only the last counts
	for _, e := range es {
		if n := newest[e.Feed]; n == nil || n.Seq < e.Seq {
			newest[e.Feed] = e
		}
	}
	var top []*Entry
	for _, e := range newest {
		superseded := false
		for _, other := range newest {
			superseded = superseded || supersedes(other, e)
		}
		if !superseded {
			top = append(top, e)
		}
	}
	slices.SortFunc(top, func(a, b *Entry) int { return slices.Compare(a.Feed[:], b.Feed[:]) })
	return top
}

// Get returns the current entries of key, sorted by feed key: none, one, or several in conflict, deleted ones among them marked.
func (ix *Index) Get(key string) []*Entry { return slices.Clone(ix.current[normalize(key)]) }

// List returns the keys with a live value that stand at or below prefix, in hyperdb's order: by path digits, the end of a path first, then by
// key. gt leaves out the prefix itself.
func (ix *Index) List(prefix string, gt bool) []string {
	prefix = normalize(prefix)
	base := string(path(prefix, false))
	var out []string
	for _, key := range ix.keys {
		if prefix != "" && (!strings.HasPrefix(key, prefix) || !strings.HasPrefix(string(path(key, true)), base)) {
			continue
		}
		if (prefix == "" || gt) && string(path(key, false)) == base {
			continue
		}
		out = append(out, key)
	}
	return out
}

// compareKeys orders by digits, the end of a path before 0 to 3, then by key.
func compareKeys(a, b string) int {
	x, y := path(a, true), path(b, true)
	for i := 0; i < len(x) && i < len(y); i++ {
		if x[i] != y[i] {
			return cmp.Compare((x[i]+1)%(end+1), (y[i]+1)%(end+1))
		}
	}
	return strings.Compare(a, b)
}

// Version is the database's version as hyperdb encodes it: for each head, feed key and varint seq.
func (db *DB) Version() []byte {
	var b []byte
	for _, h := range db.Heads() {
		b = append(b, h.Feed[:]...)
		for n := h.Seq; ; n >>= 7 {
			if n < 0x80 {
				b = append(b, byte(n))
				break
			}
			b = append(b, byte(n)|0x80)
		}
	}
	return b
}
