package wire

import (
	"slices"
	"unicode/utf16"
)

// SortExtensions puts names into the order that Handshake.Extensions must have: by UTF-16 code units.
func SortExtensions(names []string) { slices.SortFunc(names, compareUTF16) }

// MatchExtensions translates a peer's extension ids: element i is the position in ours of what the peer calls i, or -1. Like the npm package it
// walks both lists once, so names of a peer's list that is not sorted may be lost; both ends lose the same ones.
func MatchExtensions(ours, theirs []string) []int {
	ids := make([]int, len(theirs))
	i, j := 0, 0
	for i < len(ours) && j < len(theirs) {
		switch c := compareUTF16(ours[i], theirs[j]); {
		case c == 0:
			ids[j] = i
			j++
		case c < 0:
			i++
		default:
			ids[j] = -1
			j++
		}
	}
	for ; j < len(theirs); j++ {
		ids[j] = -1
	}
	return ids
}

func compareUTF16(a, b string) int {
	return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
}
