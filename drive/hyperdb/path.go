package hyperdb

import (
	"strings"

	"github.com/dchest/siphash"
)

// end is the digit behind the last part of a path.
const end = 4

// parts splits a key at its slashes; one empty part at either end does not count.
func parts(key string) []string {
	p := strings.Split(key, "/")
	if p[0] == "" {
		p = p[1:]
	}
	if k := len(p); k > 0 && p[k-1] == "" {
		p = p[:k-1]
	}
	return p
}

// path is the way of key through the trie: 32 digits of 2 bits for each part, from SipHash-2-4 with a zero key (hyperdb 3.5.0, lib/hash.js),
// and, if terminated, the digit 4.
func path(key string, terminated bool) []byte {
	var digits []byte
	for _, part := range parts(key) {
		h := siphash.Hash(0, 0, []byte(part))
		for range 32 {
			digits = append(digits, byte(h&3))
			h >>= 2
		}
	}
	if terminated {
		digits = append(digits, end)
	}
	return digits
}

// digits is how long path(key, true) is.
func digits(key string) int {
	n := strings.Count(key, "/") + 1
	if strings.HasPrefix(key, "/") || key == "" {
		n--
	}
	if strings.HasSuffix(key, "/") {
		n--
	}
	return 32*n + 1
}

// normalize drops one leading slash (hyperdb 3.5.0, lib/normalize.js).
func normalize(key string) string { return strings.TrimPrefix(key, "/") }
