package hypercore

import "encoding/binary"

// A node in the tree file is its hash and its size, big endian; 40 zero bytes where none is known.

func encodeNode(n Node) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, sizeNode), n.Hash[:]...), n.Size)
}

func decodeNode(i uint64, b []byte) Node {
	return Node{Index: i, Hash: [32]byte(b[:32]), Size: binary.BigEndian.Uint64(b[32:sizeNode])}
}
