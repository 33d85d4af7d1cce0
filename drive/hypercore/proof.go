package hypercore

// Node is one node of the flat Merkle tree (hypercore 6, flat-tree numbering: block b is node 2b).
type Node struct {
	Index uint64   // flat-tree index, below 2^53
	Hash  [32]byte // BLAKE2b-256
	Size  uint64   // bytes of all blocks below the node
}

// Proof is what a seeder sends with a block: siblings bottom-up, then roots left to right, and, when
// the proof runs up to the roots, the 64-byte signature of the signed length (else nil).
type Proof struct {
	Nodes     []Node
	Signature []byte
}
