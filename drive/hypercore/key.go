package hypercore

import (
	"encoding/hex"
	"errors"
)

// Key is an Ed25519 public key that names a feed, or the discovery key made from one. 32 bytes.
type Key [32]byte

// String returns 64 lower-case hex digits.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// IsZero reports whether k is all zeros, which names no feed.
func (k Key) IsZero() bool { return k == Key{} }

// ParseKey reads 64 hex digits.
func ParseKey(s string) (Key, error) {
	var k Key
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(k) {
		return Key{}, errors.New("a feed key is 64 hex digits")
	}
	copy(k[:], b)
	return k, nil
}
