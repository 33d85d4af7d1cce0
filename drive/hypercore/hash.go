package hypercore

import (
	"encoding/binary"

	"golang.org/x/crypto/blake2b"
)

// hashParts is unkeyed BLAKE2b-256 over the parts, one after the other.
func hashParts(parts ...[]byte) (sum [32]byte) {
	h, err := blake2b.New256(nil)
	if err != nil {
		panic(err) // only a key of wrong size makes New256 fail
	}
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}

func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// leafNode hashes a block: H(00 || size || data).
func leafNode(seq uint64, data []byte) Node {
	size := uint64(len(data))
	return Node{Index: 2 * seq, Hash: hashParts([]byte{0}, be64(size), data), Size: size}
}

// parentNode hashes two siblings, in either order: H(01 || size of both || left hash || right hash).
func parentNode(a, b Node) Node {
	if a.Index > b.Index {
		a, b = b, a
	}
	size := a.Size + b.Size
	buf := append(make([]byte, 0, 1+8+2*32), 1)
	buf = append(append(binary.BigEndian.AppendUint64(buf, size), a.Hash[:]...), b.Hash[:]...)
	return Node{Index: parent(a.Index), Hash: blake2b.Sum256(buf), Size: size}
}

// treeHash is what a writer signs: H(02 || for each root: hash || index || size).
func treeHash(roots []Node) [32]byte {
	buf := make([]byte, 1, 1+48*len(roots))
	buf[0] = 2
	for _, r := range roots {
		buf = append(buf, r.Hash[:]...)
		buf = binary.BigEndian.AppendUint64(buf, r.Index)
		buf = binary.BigEndian.AppendUint64(buf, r.Size)
	}
	return blake2b.Sum256(buf)
}

// DiscoveryKey names a feed without telling its key: BLAKE2b-256 keyed with the public key, over "hypercore"
// (npm hypercore-crypto 1.0.0).
func DiscoveryKey(key Key) (dk Key) {
	h, err := blake2b.New256(key[:])
	if err != nil {
		panic(err) // the key is 32 bytes
	}
	h.Write([]byte("hypercore"))
	h.Sum(dk[:0])
	return dk
}
