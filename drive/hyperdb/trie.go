package hyperdb

import (
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

// add keeps p under digit at position once.
func (t *trie) add(position int, digit byte, p pointer) {
	l := link{int32(position), digit, p}
	k := len(*t)
	for ; k > 0 && (*t)[k-1].follows(l); k-- { // nearly always none
	}
	for i := k; i > 0 && (*t)[i-1].position == l.position && (*t)[i-1].digit == digit; i-- {
		if (*t)[i-1].pointer == p {
			return
		}
	}
	*t = slices.Insert(*t, k, l)
}

// follows reports whether l stands behind o whatever their pointers are.
func (l link) follows(o link) bool {
	return l.position > o.position || l.position == o.position && l.digit > o.digit
}

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
		t.add(int(l.position), l.digit, l.pointer)
		if k := len(t) - 1 - maxShared; k >= 0 && t[k].position == l.position && t[k].digit == l.digit {
			return bad("more than %d pointers under one value", maxShared)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// checkTrie says of b what decodeTrie says, and what check says of its links, without keeping any: who only reads needs no trie.
func checkTrie(b []byte, feeds int, check func(link) error) error {
	var before link
	shared, crowd := 0, false
	err := eachLink(b, feeds, func(l link) error {
		if l.position != before.position || l.digit != before.digit {
			shared = 0
		}
		shared++
		crowd = crowd || shared > maxShared
		before = l
		return check(l)
	})
	if err == nil && crowd {
		_, err = decodeTrie(b, feeds) // which counts those that are there twice once
	}
	return err
}

// eachLink tells yield of the links that encode wrote, in order, for a list of feeds feeds long, until it says an error.
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
