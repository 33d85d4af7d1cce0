package wire

import (
	"crypto/subtle"
	"encoding/binary"

	//lint:ignore SA1019 salsa20.XORKeyStream begins at block 0 on every call; the stream here goes on over many
	"golang.org/x/crypto/salsa20/salsa"
)

// Cipher is one direction's key stream: XSalsa20 from byte 0 on, however it is cut into calls. Not safe for concurrent use.
type Cipher struct {
	key   [32]byte // of Salsa20, derived from key and nonce
	input [16]byte // last 8 bytes of the nonce, then the number of the next block
	block [64]byte // key stream that a call left over: block[used:]
	used  int
}

// NewCipher starts the key stream of key and nonce.
func NewCipher(key *[32]byte, nonce *[24]byte) *Cipher {
	c := &Cipher{used: 64}
	salsa.HSalsa20(&c.key, (*[16]byte)(nonce[:16]), key, &salsa.Sigma)
	copy(c.input[:], nonce[16:])
	return c
}

// XOR encrypts or decrypts b in place and moves on by len(b).
func (c *Cipher) XOR(b []byte) {
	if c.used < len(c.block) {
		n := min(len(b), len(c.block)-c.used)
		subtle.XORBytes(b[:n], b[:n], c.block[c.used:c.used+n])
		c.used += n
		b = b[n:]
	}
	if whole := len(b) &^ 63; whole > 0 {
		salsa.XORKeyStream(b[:whole], b[:whole], &c.input, &c.key)
		c.advance(uint64(whole / 64))
		b = b[whole:]
	}
	if len(b) > 0 {
		clear(c.block[:])
		salsa.XORKeyStream(c.block[:], c.block[:], &c.input, &c.key)
		c.advance(1)
		subtle.XORBytes(b, b, c.block[:len(b)])
		c.used = len(b)
	}
}

func (c *Cipher) advance(blocks uint64) {
	binary.LittleEndian.PutUint64(c.input[8:], binary.LittleEndian.Uint64(c.input[8:])+blocks)
}
