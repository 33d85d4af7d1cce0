package archive

import "slices"

// run is the blocks from from to to, not including to.
type run struct{ from, to uint64 }

// runs is a set of blocks.
//
// Invariant: ascending, no run is empty, no two touch.
type runs []run

// at returns the position of the first run that ends behind seq.
func (s runs) at(seq uint64) int {
	i, _ := slices.BinarySearchFunc(s, seq, func(r run, seq uint64) int {
		if r.to <= seq {
			return -1
		}
		return 1
	})
	return i
}

func (s runs) has(seq uint64) bool {
	i := s.at(seq)
	return i < len(s) && s[i].from <= seq
}

// end returns the first block at or behind seq that is not in the set.
func (s runs) end(seq uint64) uint64 {
	if i := s.at(seq); i < len(s) && s[i].from <= seq {
		return s[i].to
	}
	return seq
}

// last returns the greatest block below below.
func (s runs) last(below uint64) (seq uint64, ok bool) {
	if below == 0 {
		return 0, false
	}
	i := s.at(below - 1)
	if i < len(s) && s[i].from < below {
		return below - 1, true
	}
	if i == 0 {
		return 0, false
	}
	return s[i-1].to - 1, true
}

// count returns how many blocks there are.
func (s runs) count() (n uint64) {
	for _, r := range s {
		n += r.to - r.from
	}
	return n
}

// bits sets the bits of the blocks from start up to end, most significant first, in out, whose first bit is that of start.
func (s runs) bits(out []byte, start, end uint64) {
	for i := s.at(start); i < len(s) && s[i].from < end; i++ {
		to := min(s[i].to, end) - start
		for n := max(s[i].from, start) - start; n < to; {
			if n%8 == 0 && n+8 <= to {
				out[n/8] = 0xff
				n += 8
				continue
			}
			out[n/8] |= 0x80 >> (n % 8)
			n++
		}
	}
}

// add puts the blocks of r in.
func (s *runs) add(r run) {
	if r.from >= r.to {
		return
	}
	i := s.at(r.from)
	if i > 0 && (*s)[i-1].to == r.from {
		i--
	}
	j := i
	for ; j < len(*s) && (*s)[j].from <= r.to; j++ {
		r.from, r.to = min(r.from, (*s)[j].from), max(r.to, (*s)[j].to)
	}
	*s = slices.Replace(*s, i, j, r)
}

// remove takes the blocks of r out.
func (s *runs) remove(r run) {
	if r.from >= r.to {
		return
	}
	i := s.at(r.from)
	var rest []run
	j := i
	for ; j < len(*s) && (*s)[j].from < r.to; j++ {
		if it := (*s)[j]; it.from < r.from {
			rest = append(rest, run{it.from, r.from})
		}
		if it := (*s)[j]; it.to > r.to {
			rest = append(rest, run{r.to, it.to})
		}
	}
	*s = slices.Replace(*s, i, j, rest...)
}

// without returns the blocks of s that are not in others.
func (s runs) without(others runs) runs {
	out := slices.Clone(s)
	if len(s) == 0 {
		return nil
	}
	for i := others.at(s[0].from); i < len(others) && others[i].from < s[len(s)-1].to; i++ {
		out.remove(others[i])
	}
	return out
}
