package replication

import (
	"encoding/binary"
	"math/bits"
)

const (
	pageBits  = 8192     // blocks a page
	maxBlocks = 1 << 28  // blocks of a feed that a peer may announce; what lies beyond is not heeded
	maxPages  = 32 << 10 // pages of its own that a session may make a node keep: 32 MiB
)

type page [pageBits / 8]byte

// fullPage returns a page with all bits set.
func fullPage() *page {
	p := new(page)
	for i := range p {
		p[i] = 0xff
	}
	return p
}

// blockSet is what a peer told it has of a feed: page n holds the bits of blocks n*pageBits on, most significant first. nil: none of them; full: all.
type blockSet struct {
	pages []*page
	full  *page // shared, never written
	used  *int  // pages that the session's sets allocated
}

func (b *blockSet) has(seq uint64) bool {
	n := seq / pageBits
	return n < uint64(len(b.pages)) && b.pages[n] != nil && b.pages[n][seq/8%(pageBits/8)]&(0x80>>(seq%8)) != 0
}

// next returns the first block at or behind from.
func (b *blockSet) next(from uint64) (uint64, bool) {
	for n := from / pageBits; n < uint64(len(b.pages)); n++ {
		p := b.pages[n]
		if p == nil {
			continue
		}
		start := max(from, n*pageBits)
		for i := start / 8 % (pageBits / 8); i < pageBits/8; i++ {
			c := p[i]
			if n*pageBits+8*i < start {
				c &= 0xff >> (start % 8)
			}
			if c != 0 {
				return n*pageBits + 8*i + uint64(bits.LeadingZeros8(c)), true
			}
		}
	}
	return 0, false
}

// last returns the greatest block.
func (b *blockSet) last() (uint64, bool) {
	for n := len(b.pages) - 1; n >= 0; n-- {
		p := b.pages[n]
		if p == nil {
			continue
		}
		for i := len(p) - 8; i >= 0; i -= 8 {
			if word := binary.BigEndian.Uint64(p[i:]); word != 0 {
				return uint64(n)*pageBits + 8*uint64(i) + 63 - uint64(bits.TrailingZeros64(word)), true
			}
		}
	}
	return 0, false
}

// fill puts the blocks from start to end in, or takes them out.
func (b *blockSet) fill(start, end uint64, in bool) {
	end = min(end, maxBlocks)
	if !in {
		end = min(end, uint64(len(b.pages))*pageBits)
	}
	for start < end {
		n := start / pageBits
		stop := min(end, (n+1)*pageBits)
		if stop-start == pageBits {
			b.replace(n, in)
		} else if p := b.own(n); p != nil {
			for ; start < stop; start++ {
				mask := byte(0x80 >> (start % 8))
				if p[start/8%(pageBits/8)] &^= mask; in {
					p[start/8%(pageBits/8)] |= mask
				}
			}
		}
		start = stop
	}
}

// replace makes page n all ones or all zeros.
func (b *blockSet) replace(n uint64, in bool) {
	b.grow(n)
	if p := b.pages[n]; p != nil && p != b.full {
		*b.used--
	}
	b.pages[n] = nil
	if in {
		b.pages[n] = b.full
	}
}

func (b *blockSet) grow(n uint64) {
	for uint64(len(b.pages)) <= n {
		b.pages = append(b.pages, nil)
	}
}

// own returns page n to be written to, or nil when the session has too many.
func (b *blockSet) own(n uint64) *page {
	b.grow(n)
	p := b.pages[n]
	if p != nil && p != b.full {
		return p
	}
	if *b.used >= maxPages {
		return nil
	}
	*b.used++
	own := new(page)
	if p != nil {
		*own = *p
	}
	b.pages[n] = own
	return own
}

// copyBits replaces what is known from start, a multiple of 8, as far as field reaches.
func (b *blockSet) copyBits(start uint64, field []byte) {
	for len(field) > 0 && start < maxBlocks {
		p := b.own(start / pageBits)
		at := start / 8 % (pageBits / 8)
		n := min(len(field), int(pageBits/8-at))
		if p != nil {
			copy(p[at:], field[:n])
		}
		field, start = field[n:], start+8*uint64(n)
	}
}

// lacks counts the bits of ours, which begins at block start, a multiple of 8, that the set has not.
func (b *blockSet) lacks(start uint64, ours []byte) (n uint64) {
	for i, c := range ours {
		seq := start + 8*uint64(i)
		if k := seq / pageBits; c != 0 && k < uint64(len(b.pages)) && b.pages[k] != nil {
			c &^= b.pages[k][seq/8%(pageBits/8)]
		}
		n += uint64(bits.OnesCount8(c))
	}
	return n
}
