// Package kdf is libsodium's crypto_kdf_derive_from_key: subkeys of a master key by number and context. It imports no
// sibling and does no I/O.
//
// The function is BLAKE2b with a key, an empty message and a parameter block that carries the number as salt and the context as
// personalisation (libsodium, crypto_kdf/blake2b). golang.org/x/crypto/blake2b has no way to set those two; its hash can be loaded
// with a state, so the start state IV xor parameter block is made here and loaded through UnmarshalBinary.
package kdf

import (
	"encoding"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/blake2b"
)

// The start state of BLAKE2b (RFC 7693, section 2.6).
var iv = [8]uint64{
	0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
	0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
}

// Derive returns subkey id of master in context: length bytes, 16 to 64. The caller owns it.
func Derive(master [32]byte, id uint64, context [8]byte, length int) ([]byte, error) {
	if length < 16 || length > 64 {
		return nil, fmt.Errorf("a subkey has 16 to 64 bytes, not %d", length)
	}
	var block [64]byte // digest length, key length, fanout, depth, 28 zeros, salt (16), personalisation (16)
	block[0], block[1], block[2], block[3] = byte(length), 32, 1, 1
	binary.LittleEndian.PutUint64(block[32:], id)
	copy(block[48:], context[:])
	state := append(make([]byte, 0, 213), "b2b"...)
	for i, word := range iv {
		state = binary.BigEndian.AppendUint64(state, word^binary.LittleEndian.Uint64(block[8*i:]))
	}
	state = append(state, make([]byte, 16)...) // bytes hashed so far
	state = append(state, byte(blake2b.Size))  // the hash gives 64 bytes; the first length of them are the subkey
	state = append(state, make([]byte, 128+1)...)
	h, err := blake2b.New512(nil)
	if err != nil {
		return nil, err
	}
	loader, ok := h.(encoding.BinaryUnmarshaler)
	if !ok {
		return nil, fmt.Errorf("blake2b cannot be loaded with a state")
	}
	if err := loader.UnmarshalBinary(state); err != nil {
		return nil, err
	}
	var key [128]byte
	copy(key[:], master[:])
	h.Write(key[:])
	clear(key[:])
	return h.Sum(nil)[:length], nil
}

// Key32 is Derive for a key of 32 bytes, the common case.
func Key32(master [32]byte, id uint64, context [8]byte) (key [32]byte, err error) {
	b, err := Derive(master, id, context, len(key))
	if err == nil {
		copy(key[:], b)
		clear(b)
	}
	return key, err
}
