package hypercore

import "math/bits"

// The flat tree: an in-order numbering of a binary tree whose leaves are the even numbers (npm flat-tree 1.13).

func depth(n uint64) uint           { return uint(bits.TrailingZeros64(^n)) }
func offset(n uint64) uint64        { return n >> (depth(n) + 1) }
func index(d uint, o uint64) uint64 { return o<<(d+1) + 1<<d - 1 }
func sibling(n uint64) uint64       { return index(depth(n), offset(n)^1) }
func parent(n uint64) uint64        { return index(depth(n)+1, offset(n)/2) }
func leftSpan(n uint64) uint64      { return n - (1<<depth(n) - 1) }
func rightSpan(n uint64) uint64     { return n + (1<<depth(n) - 1) }

// children returns the two nodes below n; n must not be a leaf.
func children(n uint64) (left, right uint64) {
	half := uint64(1) << (depth(n) - 1)
	return n - half, n + half
}

// fullRoots returns the roots of the perfect trees that hold the first length blocks, left to right.
func fullRoots(length uint64) []uint64 {
	roots := make([]uint64, 0, bits.OnesCount64(length))
	for at := uint64(0); length > 0; {
		d := uint(bits.Len64(length) - 1)
		roots = append(roots, 2*at+1<<d-1)
		at += 1 << d
		length -= 1 << d
	}
	return roots
}
