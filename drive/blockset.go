package drive

import (
	"slices"
)

// blockset is a set of block numbers of a file, as ascending runs that neither touch nor overlap.
type blockset []run

// run is the blocks from first up to, not including, end.
type run struct{ first, end uint64 }

func (r run) has(n uint64) bool { return r.first <= n && n < r.end }

func (s blockset) search(n uint64) int {
	i, _ := slices.BinarySearchFunc(s, n, func(r run, n uint64) int {
		if r.end <= n {
			return -1
		}
		return 1
	})
	return i
}

func (s blockset) has(n uint64) bool {
	i := s.search(n)
	return i < len(s) && s[i].first <= n
}

// from returns the part of the first run that ends behind n which is not before n.
func (s blockset) from(n uint64) (run, bool) {
	i := s.search(n)
	if i == len(s) {
		return run{}, false
	}
	return run{max(s[i].first, n), s[i].end}, true
}

// add puts the blocks of r in.
func (s *blockset) add(r run) {
	if r.first >= r.end {
		return
	}
	i := 0
	if r.first > 0 {
		i = s.search(r.first - 1) // a run that ends at r.first is joined
	}
	j := i
	for j < len(*s) && (*s)[j].first <= r.end {
		r.first = min(r.first, (*s)[j].first)
		r.end = max(r.end, (*s)[j].end)
		j++
	}
	*s = slices.Replace(*s, i, j, r)
}

// remove takes the blocks of r out.
func (s *blockset) remove(r run) {
	if r.first >= r.end {
		return
	}
	i := s.search(r.first)
	var left []run
	j := i
	for j < len(*s) && (*s)[j].first < r.end {
		if old := (*s)[j]; old.first < r.first {
			left = append(left, run{old.first, r.first})
		}
		if old := (*s)[j]; old.end > r.end {
			left = append(left, run{r.end, old.end})
		}
		j++
	}
	*s = slices.Replace(*s, i, j, left...)
}

// missing lists the parts of r that are not in the set.
func (s blockset) missing(r run) (out []run) {
	for i := s.search(r.first); r.first < r.end; i++ {
		if i >= len(s) || s[i].first >= r.end {
			return append(out, r)
		}
		if s[i].first > r.first {
			out = append(out, run{r.first, s[i].first})
		}
		r.first = s[i].end
	}
	return out
}

// count returns how many blocks are in the set.
func (s blockset) count() (n uint64) {
	for _, r := range s {
		n += r.end - r.first
	}
	return n
}

// blocksOf returns how many blocks size bytes take.
func blocksOf(size uint64) uint64 { return size>>blockShift + uint64(min(size&(blockSize-1), 1)) }

// blockSize is record.BlockSize as a power of two.
const (
	blockShift = 16
	blockSize  = 1 << blockShift
)
