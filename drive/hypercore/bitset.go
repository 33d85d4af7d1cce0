package hypercore

import "math/bits"

// pageBytes is the size of a page of a bitset.
const pageBytes = 1024

// bitset is a set of numbers below 2^53, kept as pages of 8192 bits, most significant bit first. Pages without a
// set bit may be absent.
type bitset map[uint64]*[pageBytes]byte

func (s bitset) has(n uint64) bool {
	p := s[n/(8*pageBytes)]
	return p != nil && p[n/8%pageBytes]&(0x80>>(n%8)) != 0
}

// set puts n in or takes it out and reports whether that changed anything.
func (s bitset) set(n uint64, in bool) bool {
	if s.has(n) == in {
		return false
	}
	p := s[n/(8*pageBytes)]
	if p == nil {
		p = new([pageBytes]byte)
		s[n/(8*pageBytes)] = p
	}
	p[n/8%pageBytes] ^= 0x80 >> (n % 8)
	return true
}

// nextClear returns the first number at or behind from, below end, that is not in the set.
func (s bitset) nextClear(from, end uint64) (uint64, bool) {
	for n := from; n < end; {
		p := s[n/(8*pageBytes)]
		if p == nil {
			return n, true
		}
		for stop := min(end, (n/(8*pageBytes)+1)*8*pageBytes); n < stop; {
			if b := p[n/8%pageBytes]; b == 0xff && n%8 == 0 {
				n += 8
			} else if b&(0x80>>(n%8)) == 0 {
				return n, true
			} else {
				n++
			}
		}
	}
	return 0, false
}

// last returns the greatest number below below that is in the set. It costs the pages that are there, not the numbers.
func (s bitset) last(below uint64) (uint64, bool) {
	for {
		page, found := uint64(0), false
		for n := range s {
			if n*8*pageBytes < below && (!found || n > page) {
				page, found = n, true
			}
		}
		if !found {
			return 0, false
		}
		for n := min(below, (page+1)*8*pageBytes); n > page*8*pageBytes; {
			if n%8 == 0 && s[page][(n-1)/8%pageBytes] == 0 {
				n -= 8
			} else if n--; s.has(n) {
				return n, true
			}
		}
		below = page * 8 * pageBytes
	}
}

// count returns how many numbers are in the set.
func (s bitset) count() (n uint64) {
	for _, p := range s {
		for _, b := range p {
			n += uint64(bits.OnesCount8(b))
		}
	}
	return n
}
