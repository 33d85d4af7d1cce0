package hyperdb

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sort"
)

// pointer names an entry by position in a list of feeds.
type pointer struct {
	feed int
	seq  uint64
}

// link says that pointer goes on with digit at a position of a path.
type link struct {
	position int32
	digit    byte
	pointer
}

// trie is the links of an entry, ascending by position and digit, and under one value in the order they came.
type trie []link

// from returns the links at position i and behind it.
func (t trie) from(i int) trie {
	return t[sort.Search(len(t), func(k int) bool { return int(t[k].position) >= i }):]
}

// at cuts the links at position i off, of links that begin there or behind it.
func (t trie) at(i int) (at, rest trie) {
	k := 0
	for k < len(t) && int(t[k].position) == i {
		k++
	}
	return t[:k], t[k:]
}

// under cuts the links under the first value off.
func (t trie) under() (under, rest trie) {
	k := 1
	for k < len(t) && t[k].value() == t[0].value() {
		k++
	}
	return t[:k], t[k:]
}

// add appends l, or puts it a few places further front if it belongs there, which is all that the links of one head need; sorted does the rest.
func (t *trie) add(l link) {
	k := len(*t)
	for k > 0 && len(*t)-k < crowded && (*t)[k-1].value() > l.value() {
		k--
	}
	*t = slices.Insert(*t, k, l)
}

// sorted makes a trie of links that were added in any order, in their place: ascending, those under one value in the order they came, and of those that came twice the first.
func (t trie) sorted() trie {
	if !slices.IsSortedFunc(t, compareLinks) {
		slices.SortStableFunc(t, compareLinks)
	}
	return t.once()
}

// once drops, in place, links that are there twice.
func (t trie) once() trie {
	kept := t[:0]
	for rest := t; len(rest) > 0; {
		var under trie
		under, rest = rest.under()
		if len(under) > crowded {
			seen := make(map[pointer]bool, len(under))
			under = slices.DeleteFunc(under, func(l link) bool {
				twice := seen[l.pointer]
				seen[l.pointer] = true
				return twice
			})
			kept = append(kept, under...)
			continue
		}
		from := len(kept)
		for _, l := range under {
			if !slices.Contains(kept[from:], l) {
				kept = append(kept, l)
			}
		}
	}
	return kept
}

// value orders links by position and digit.
func (l link) value() int { return int(l.position)<<3 | int(l.digit) }

func compareLinks(a, b link) int { return cmp.Compare(a.value(), b.value()) }

// encode writes, for each position, ascending: position, bits of the digits present, and for each digit its pointers as
// feed<<1|more, seq (hyperdb 3.5.0, lib/trie-encoding.js).
func (t trie) encode() []byte {
	b := make([]byte, 0, 8*len(t))
	for len(t) > 0 {
		var at trie
		i := t[0].position
		at, t = t.at(int(i))
		bits := uint64(0)
		for _, l := range at {
			bits |= 1 << l.digit
		}
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(i)), bits)
		for k, l := range at {
			more := uint64(0)
			if k+1 < len(at) && at[k+1].digit == l.digit {
				more = 1
			}
			b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(l.feed)<<1|more), l.seq)
		}
	}
	return b
}

// decodeTrie decodes what encode wrote, for a list of feeds feeds long.
func decodeTrie(b []byte, feeds int) (trie, error) {
	t := make(trie, 0, min(len(b)/3, 1024))
	err := eachLink(b, feeds, func(l link) error {
		t = append(t, l)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t.once(), nil
}

// eachLink tells yield of the links that encode wrote, in order, for a list of feeds feeds long, until it says an error. It keeps none: who only reads
// needs no trie.
func eachLink(b []byte, feeds int, yield func(link) error) error {
	d := trieDecoder{rest: b}
	for pointers, last := 0, -1; len(d.rest) > 0; {
		position, bits := d.next(), d.next()
		if d.failed || position > 1<<20 || int(position) <= last || bits >= 1<<(end+1) || bits == 0 {
			return bad("trie at position %d", position)
		}
		last = int(position)
		for digit := byte(0); digit <= end; digit++ {
			for more := bits >> digit & 1; more == 1; {
				f, seq := d.next(), d.next()
				more = f & 1
				if pointers++; d.failed || f>>1 >= uint64(feeds) || seq == 0 || pointers > maxPointers {
					return bad("pointer to feed %d, block %d", f>>1, seq)
				}
				if err := yield(link{int32(position), digit, pointer{int(f >> 1), seq}}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

type trieDecoder struct {
	rest   []byte
	failed bool
}

func (d *trieDecoder) next() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || v > maxInteger {
		d.failed, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}
