package hypercore

import (
	"crypto/ed25519"
	"fmt"
)

// Marks are the nodes that a peer told it has, in the digests of its requests: one set for each connection and feed
// (hypercore 6.26, tree-index.js). The zero value is empty. Not safe for concurrent use.
type Marks struct{ set bitset }

func (m *Marks) has(i uint64) bool { return m.set.has(i) }

// add marks node i, and every parent both of whose children are marked.
func (m *Marks) add(i uint64) {
	if m.set == nil {
		m.set = bitset{}
	}
	for m.set.set(i, true) && m.has(sibling(i)) {
		i = parent(i)
	}
}

// Digest tells which nodes on the way from block seq to the roots are known here: what a Request carries, so that the
// answer can leave them out. 0 says nothing is known; 1 that the block can be checked with what is known.
func (f *Feed) Digest(seq uint64) uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n := 2 * seq
	if seq >= maxLength || f.tree.has(n) {
		return b2u(seq < maxLength)
	}
	var digest uint64
	for level := uint(0); level < 52; level++ {
		next := sibling(n)
		if f.tree.has(next) {
			digest |= 1 << (level + 1)
		}
		n = parent(n)
		if f.tree.has(n) {
			digest |= 1<<(level+2) | 1
			if digest+1 == 1<<(level+3) {
				return 1
			}
			return digest
		}
		if leftSpan(n) == 0 && rightSpan(n) >= 2*f.head.Length {
			return digest // no ancestor is known from here on
		}
	}
	return digest
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// Proof returns what a peer needs to check block seq, given the digest of its request and what its earlier ones told,
// which marked takes up. hash leaves the block out and puts its leaf node first. ErrNotStored if the block, or for hash its leaf, is not here.
func (f *Feed) Proof(seq, digest uint64, marked *Marks, hash bool) (Proof, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if seq >= f.head.Length || !f.tree.has(2*seq) || !hash && !f.data.has(seq) {
		return Proof{}, fmt.Errorf("proof of block %d of feed %s: %w", seq, f.key, ErrNotStored)
	}
	p := prover{feed: f, marked: marked}
	if hash {
		p.add(2 * seq)
	}
	if digest == 1 {
		return p.proof, p.err
	}
	f.mark(2*seq, digest, marked)
	for n := 2 * seq; !marked.has(n) && p.err == nil; n = parent(n) {
		sib := sibling(n)
		if !f.tree.has(sib) {
			p.roots(n)
			break
		}
		if !marked.has(sib) {
			p.add(sib)
		}
	}
	return p.proof, p.err
}

// mark takes up what digest says of the nodes above leaf n. Called with mu held.
func (f *Feed) mark(n, digest uint64, marked *Marks) {
	ancestor := digest&1 == 1
	for digest >>= 1; digest > 0; digest >>= 1 {
		if digest == 1 && ancestor {
			if f.tree.has(n) {
				marked.add(n)
			}
			n = min(n, sibling(n))
			for _, r := range fullRoots(rightSpan(n)/2 + 1) {
				if f.tree.has(r) {
					marked.add(r)
				}
			}
			return
		}
		if s := sibling(n); digest&1 == 1 && f.tree.has(s) {
			marked.add(s)
		}
		n = parent(n)
		if rightSpan(n) >= 4*maxLength {
			return
		}
	}
}

// prover collects the nodes of a proof. Its feed's mu is held while it lives.
type prover struct {
	feed   *Feed
	marked *Marks
	proof  Proof
	err    error
}

func (p *prover) add(i uint64) {
	n, err := p.feed.node(i)
	if err != nil {
		p.err = err
		return
	}
	p.proof.Nodes = append(p.proof.Nodes, n)
}

// roots ends the proof at n, a root of some signed length: the other roots of that length, and its signature.
func (p *prover) roots(n uint64) {
	for _, length := range p.feed.lengthsWithRoot(n) {
		signature, err := p.feed.signature(length)
		if err != nil {
			p.err = err
			return
		}
		if signature == nil {
			continue // inside a batch: nothing was signed at this length
		}
		for _, r := range fullRoots(length) {
			if r != n && !p.marked.has(r) {
				p.add(r)
			}
		}
		p.proof.Signature = signature
		return
	}
	p.err = fmt.Errorf("feed %s: no signature above node %d: %w", p.feed.key, n, ErrNotStored)
}

// signature returns the signature for length, or nil if there is none that fits: a crash can leave a torn one. Called with mu held.
func (f *Feed) signature(length uint64) ([]byte, error) {
	if length == f.head.Length {
		return append([]byte(nil), f.head.Signature[:]...), nil
	}
	signature := make([]byte, sizeSignature)
	if err := readFull(f.files.signatures, signature, int64(sizeHeader+sizeSignature*(length-1))); err != nil {
		return nil, fmt.Errorf("read signature %d of feed %s: %w", length, f.key, err)
	}
	if [sizeSignature]byte(signature) == [sizeSignature]byte{} {
		return nil, nil
	}
	var roots []Node
	for _, i := range fullRoots(length) {
		n, err := f.node(i)
		if err != nil {
			return nil, err
		}
		roots = append(roots, n)
	}
	if hash := treeHash(roots); !ed25519.Verify(f.key[:], hash[:], signature) {
		return nil, nil
	}
	return signature, nil
}

// lengthsWithRoot lists the lengths of which n is a full root and all full roots are known, the likeliest first: ours, then
// the longest that the nodes right of n give, then shorter ones. Called with mu held.
func (f *Feed) lengthsWithRoot(n uint64) []uint64 {
	var lengths []uint64
	for _, r := range f.roots {
		if r.Index == n {
			lengths = append(lengths, f.head.Length)
		}
	}
	length := rightSpan(n)/2 + 1
	grown := []uint64{length}
	for d := depth(n); d > 0; {
		d--
		if f.tree.has(index(d, length>>d)) {
			length += 1 << d
			grown = append(grown, length)
		}
	}
	for i := len(grown) - 1; i >= 0; i-- {
		if grown[i] <= f.head.Length {
			lengths = append(lengths, grown[i])
		}
	}
	return lengths
}
