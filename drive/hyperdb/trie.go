package hyperdb

import (
	"encoding/binary"
	"sort"
)

// pointer names an entry by position in a list of feeds.
type pointer struct {
	feed int
	seq  uint64
}

// bucket holds, for each of the digits 0 to 4, the entries that go on with it.
type bucket [end + 1][]pointer

// trie maps positions of a path to buckets.
type trie map[int]*bucket

// add keeps p under digit at position once.
func (t trie) add(position int, digit byte, p pointer) {
	b := t[position]
	if b == nil {
		b = new(bucket)
		t[position] = b
	}
	for _, q := range b[digit] {
		if q == p {
			return
		}
	}
	b[digit] = append(b[digit], p)
}

// encode writes, for each position, ascending: position, bits of the digits present, and for each digit its pointers as
// feed<<1|more, seq (hyperdb 3.5.0, lib/trie-encoding.js).
func (t trie) encode() []byte {
	positions := make([]int, 0, len(t))
	for i := range t {
		positions = append(positions, i)
	}
	sort.Ints(positions)
	b := []byte{}
	for _, i := range positions {
		bits := uint64(0)
		for digit, ps := range t[i] {
			if len(ps) > 0 {
				bits |= 1 << digit
			}
		}
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(i)), bits)
		for _, ps := range t[i] {
			for k, p := range ps {
				more := uint64(1)
				if k == len(ps)-1 {
					more = 0
				}
				b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(p.feed)<<1|more), p.seq)
			}
		}
	}
	return b
}

// decodeTrie decodes what encode wrote, for a list of feeds feeds long.
func decodeTrie(b []byte, feeds int) (trie, error) {
	t := trie{}
	d := trieDecoder{rest: b}
	for pointers, last := 0, -1; len(d.rest) > 0; {
		position, bits := d.next(), d.next()
		if d.failed || position > 1<<20 || int(position) <= last || bits >= 1<<(end+1) || bits == 0 {
			return nil, bad("trie at position %d", position)
		}
		last = int(position)
		for digit := byte(0); digit <= end; digit++ {
			for more := bits >> digit & 1; more == 1; {
				f, seq := d.next(), d.next()
				more = f & 1
				if pointers++; d.failed || f>>1 >= uint64(feeds) || seq == 0 || pointers > maxPointers {
					return nil, bad("pointer to feed %d, block %d", f>>1, seq)
				}
				if t.add(int(position), digit, pointer{int(f >> 1), seq}); len(t[int(position)][digit]) > maxShared {
					return nil, bad("more than %d pointers under one value", maxShared)
				}
			}
		}
	}
	return t, nil
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
