package hypercore

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
)

// maxProofNodes bounds a proof: siblings up to the top and the roots beside.
const maxProofNodes = 128

// Put stores block seq, if the proof vouches for it by a node that was verified before or by the writer's signature. A nil value is a
// hash answer: it stores the nodes whose sizes it binds. The feed keeps neither value nor p.
//
// ErrBadProof: the peer lies or is confused; nothing is stored. ErrFork (as a *ForkError): the writer signed a history that contradicts what is
// known; nothing is stored, the evidence is kept. What is stored is not durable before Sync. Putting a block again is no error.
// Rules: hypercore 6.26 (put), made stricter where it takes what it cannot know.
func (f *Feed) Put(ctx context.Context, seq uint64, value []byte, p Proof) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(value) > MaxBlock {
		return fmt.Errorf("block %d: %w", seq, ErrTooLong)
	}
	if err := boundProof(seq, p); err != nil {
		return err
	}
	v := verifier{feed: f, remaining: p.Nodes, signature: p.Signature}
	if value != nil {
		v.top, v.whole = leafNode(seq, value), true
	} else if len(p.Nodes) > 0 && p.Nodes[0].Index == 2*seq {
		v.top, v.remaining = p.Nodes[0], p.Nodes[1:]
	} else {
		return fmt.Errorf("hash answer without the leaf: %w", ErrBadProof)
	}
	if f.secret != nil { // the end of the own feed may come from a peer while Append builds on it
		f.writing.Lock()
		defer f.writing.Unlock()
	}
	f.mu.RLock()
	err := v.run()
	f.mu.RUnlock()
	if err != nil {
		return fmt.Errorf("block %d of feed %s: %w", seq, f.key, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.broken != nil:
		return f.broken
	case v.fork != nil:
		return f.keepFork(v.fork)
	case value != nil && f.data.has(seq):
		return nil
	}
	if value == nil {
		v.seen = v.bound()
	}
	return f.take(seq, value, &v)
}

// PutHead takes up a signed length without a block: roots are its full roots from left to right, as Roots gives them. It is how a store that is handed on
// says how far a feed goes. A length that is not greater than ours changes nothing, but is compared as far as its roots are known. Errors are those of Put.
func (f *Feed) PutHead(ctx context.Context, roots []Node, signature []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(roots) == 0 {
		return fmt.Errorf("signed length without roots: %w", ErrBadProof)
	}
	if err := boundProof(0, Proof{Nodes: roots, Signature: signature}); err != nil {
		return err
	}
	v := verifier{feed: f, top: roots[0], seen: []Node{roots[0]}, remaining: roots[1:], signature: signature}
	if f.secret != nil {
		f.writing.Lock()
		defer f.writing.Unlock()
	}
	f.mu.RLock()
	err := v.vouch()
	f.mu.RUnlock()
	if err == nil && !slices.Equal(v.roots, roots) {
		err = fmt.Errorf("roots are not in order: %w", ErrBadProof)
	}
	if err != nil {
		return fmt.Errorf("signed length of feed %s: %w", f.key, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.broken != nil:
		return f.broken
	case v.fork != nil:
		return f.keepFork(v.fork)
	case v.head.Length <= f.head.Length:
		return nil // roots inside of our tree that are not known need siblings to be believed
	}
	return f.take(0, nil, &v)
}

// keepFork keeps the evidence of a fork, the first for good, and returns it. Called with mu held.
func (f *Feed) keepFork(fork *ForkError) error {
	if f.fork != nil {
		return fork
	}
	f.fork = fork
	return errors.Join(fork, f.writeFork())
}

// boundProof checks sizes before anything is computed.
func boundProof(seq uint64, p Proof) error {
	if seq >= maxLength || len(p.Nodes) > maxProofNodes || len(p.Signature) != 0 && len(p.Signature) != sizeSignature {
		return fmt.Errorf("block %d with %d nodes and a signature of %d bytes: %w", seq, len(p.Nodes), len(p.Signature), ErrBadProof)
	}
	for _, n := range p.Nodes {
		if n.Index >= 2*maxLength || rightSpan(n.Index) >= 2*maxLength || n.Size > maxBytes {
			return fmt.Errorf("node %d of size %d: %w", n.Index, n.Size, ErrBadProof)
		}
	}
	return nil
}

// verifier follows one proof from the block to what vouches for it. It reads the feed with mu held.
type verifier struct {
	feed      *Feed
	top       Node
	remaining []Node
	signature []byte

	whole   bool   // the block itself is at the bottom, so that the hashes bind the size of every node
	seen    []Node // nodes that took part, in the order from the block upwards
	differs bool   // one of them contradicts a node known before
	against uint64 // the lowest node that one of them contradicts
	head    *Head  // the signed head that vouches, if a signature was needed
	roots   []Node // its full roots
	fork    *ForkError
}

// run verifies. With no error and no fork, every node of seen is proved.
func (v *verifier) run() error {
	accepted, err := v.climb()
	if err != nil || accepted { // further nodes then answer an older digest: they are not needed
		return err
	}
	return v.vouch()
}

// vouch looks for the signature that vouches for top.
func (v *verifier) vouch() error {
	if err := v.checkSignature(); err != nil {
		return err
	}
	if v.differs {
		v.fork = &ForkError{Feed: v.feed.key, Ours: v.feed.head, Theirs: *v.head}
	}
	return nil
}

// climb hashes upwards while there are siblings and reports whether it met a node known before.
func (v *verifier) climb() (bool, error) {
	for {
		if known, ok, err := v.known(v.top.Index); err != nil {
			return false, err
		} else if ok && known == v.top {
			return true, v.contradiction()
		} else if ok {
			v.differ(v.top.Index)
		}
		v.seen = append(v.seen, v.top)
		sib := sibling(v.top.Index)
		var other Node
		known, ok, err := v.known(sib)
		switch {
		case err != nil:
			return false, err
		case len(v.remaining) > 0 && v.remaining[0].Index == sib:
			other, v.remaining = v.remaining[0], v.remaining[1:]
			if ok && known != other {
				v.differ(sib)
			}
			v.seen = append(v.seen, other)
		case ok:
			other = known
		default:
			return false, nil
		}
		if rightSpan(parent(v.top.Index)) >= 4*maxLength {
			return false, fmt.Errorf("proof reaches beyond %d blocks: %w", uint64(maxLength), ErrBadProof)
		}
		v.top = parentNode(v.top, other)
	}
}

// differ notes that what the proof says of node i is not what is known here.
func (v *verifier) differ(i uint64) {
	if !v.differs {
		v.differs, v.against = true, i
	}
}

// contradiction tells what it means that a node below one that was proved differs from what was proved for it. If the block is there, the writer signed
// both: this history, of which blocks came before the ones that would have shown it, and the one that v.against belongs to. Otherwise the proof lies.
func (v *verifier) contradiction() error {
	if !v.differs {
		return nil
	}
	if v.whole {
		ours, ok, err := v.feed.headOver(v.against)
		if err != nil {
			return err
		} else if ok {
			v.fork = &ForkError{Feed: v.feed.key, Ours: ours, Theirs: v.feed.head}
			return nil
		}
	}
	return fmt.Errorf("a node contradicts what is known: %w", ErrBadProof)
}

// known returns node i if it was verified before.
func (v *verifier) known(i uint64) (Node, bool, error) {
	if !v.feed.tree.has(i) {
		return Node{}, false, nil
	}
	n, err := v.feed.node(i)
	return n, err == nil, err
}

// checkSignature takes top for a root and looks for the others of a signed length among the rest of the proof and the
// nodes known before.
func (v *verifier) checkSignature() error {
	last := rightSpan(v.top.Index)
	if k := len(v.remaining); k > 0 {
		last = max(last, rightSpan(v.remaining[k-1].Index))
	}
	length := last/2 + 1
	if length > maxLength || len(v.signature) != sizeSignature {
		return fmt.Errorf("no signature for length %d: %w", length, ErrBadProof)
	}
	h := Head{Length: length, Signature: [64]byte(v.signature)}
	for _, i := range fullRoots(length) {
		known, ok, err := v.known(i)
		var root Node
		switch {
		case err != nil:
			return err
		case i == v.top.Index:
			root = v.top
		case len(v.remaining) > 0 && v.remaining[0].Index == i:
			root, v.remaining = v.remaining[0], v.remaining[1:]
			v.seen = append(v.seen, root)
		case ok:
			root = known
		default:
			return fmt.Errorf("root %d of length %d is missing: %w", i, length, ErrBadProof)
		}
		if ok && known != root {
			v.differ(i)
		}
		v.roots = append(v.roots, root)
		h.Bytes += root.Size
	}
	h.TreeHash = treeHash(v.roots)
	if len(v.remaining) > 0 || h.Bytes > maxBytes || !ed25519.Verify(v.feed.key[:], h.TreeHash[:], v.signature) {
		return fmt.Errorf("signature of length %d: %w", length, ErrBadProof)
	}
	v.head = &h
	return nil
}

// bound lists the nodes of a hash answer whose sizes are bound: of the lowest two the hashes bind only the sum, but of a leaf that is
// itself a root the signature binds the size.
func (v *verifier) bound() []Node {
	if v.head != nil && v.top == v.seen[0] {
		return v.seen
	}
	if len(v.seen) < 2 {
		return nil
	}
	low := sibling(v.seen[0].Index)
	rest := v.seen[1:]
	if rest[0].Index == low {
		rest = rest[1:]
	}
	return rest
}

// take stores what v proved. Called with mu held.
func (f *Feed) take(seq uint64, value []byte, v *verifier) error {
	for _, n := range v.seen {
		if f.tree.has(n.Index) {
			continue
		}
		if _, err := f.files.tree.WriteAt(encodeNode(n), int64(sizeHeader+sizeNode*n.Index)); err != nil {
			return fmt.Errorf("store node %d of feed %s: %w", n.Index, f.key, err)
		}
		f.nodes.Add(n.Index, n)
		f.setNode(n.Index)
	}
	if v.head != nil {
		if err := f.writeSignature(v.head.Length, v.head.Signature[:]); err != nil {
			return fmt.Errorf("store signature of feed %s: %w", f.key, err)
		}
		if v.head.Length > f.head.Length {
			f.head, f.roots = *v.head, v.roots
		}
	}
	if value != nil {
		at, err := f.byteOffset(seq)
		if err != nil {
			return err
		}
		if _, err := f.files.data.WriteAt(value, int64(at)); err != nil {
			return fmt.Errorf("store block %d of feed %s: %w", seq, f.key, err)
		}
		f.setData(seq, true)
	}
	f.waits.stored(seq, seq+b2u(value != nil))
	return nil
}
