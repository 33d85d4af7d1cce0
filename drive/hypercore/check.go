package hypercore

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
)

// Check recomputes every stored block's leaf, every known parent whose children are known, the roots, and every signature whose
// roots are known, and returns all that is wrong, joined. ErrDamaged is in it then.
func (f *Feed) Check(ctx context.Context) error {
	var wrong []error
	bad := func(format string, args ...any) {
		if len(wrong) < 100 {
			wrong = append(wrong, fmt.Errorf("feed %s: "+format+": %w", append(append([]any{f.key}, args...), ErrDamaged)...))
		}
	}
	head := f.Root()
	for seq := range head.Length {
		if err := ctx.Err(); err != nil {
			return err
		}
		f.mu.RLock()
		f.checkBlock(seq, bad)
		f.checkSignature(seq+1, head, bad)
		f.mu.RUnlock()
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	if fork := f.fork; fork != nil {
		wrong = append(wrong, fork)
	}
	return errors.Join(wrong...)
}

// checkBlock looks at block seq and at the parent that ends there. Called with mu held.
func (f *Feed) checkBlock(seq uint64, bad func(string, ...any)) {
	if f.data.has(seq) {
		block, err := f.block(seq)
		if err != nil {
			bad("%v", err)
		} else if leaf, err := f.readNode(2 * seq); err != nil || leafNode(seq, block) != leaf {
			bad("block %d does not fit its leaf (%v)", seq, err)
		}
	}
	for i := 2*seq + 1; ; i = parent(i) { // the parents whose left half ends with this block
		if i%2 == 0 || leftSpan(i) > 2*seq || rightSpan(i) >= 2*f.head.Length {
			return
		}
		if l, r := children(i); rightSpan(l) == 2*seq && f.tree.has(i) && f.tree.has(l) && f.tree.has(r) {
			left, err1 := f.readNode(l)
			right, err2 := f.readNode(r)
			both, err3 := f.readNode(i)
			if err := errors.Join(err1, err2, err3); err != nil || parentNode(left, right) != both {
				bad("node %d is not the hash of its children (%v)", i, err)
			}
			return
		}
	}
}

// checkSignature verifies the signature of length, if there is one and its roots are known. Called with mu held.
func (f *Feed) checkSignature(length uint64, head Head, bad func(string, ...any)) {
	var signature [sizeSignature]byte
	if err := readFull(f.files.signatures, signature[:], int64(sizeHeader+sizeSignature*(length-1))); err != nil {
		bad("signature of length %d: %v", length, err)
		return
	}
	if signature == [sizeSignature]byte{} && length < head.Length {
		return // inside a batch
	}
	var roots []Node
	for _, i := range fullRoots(length) {
		if !f.tree.has(i) {
			return
		}
		n, err := f.readNode(i)
		if err != nil {
			bad("%v", err)
			return
		}
		roots = append(roots, n)
	}
	hash := treeHash(roots)
	fits := ed25519.Verify(f.key[:], hash[:], signature[:])
	switch {
	case length == head.Length:
		fits = fits && hash == head.TreeHash && signature == head.Signature
	case f.secret == nil:
		fits = true // a crash may tear a signature of a shorter length, which Proof then leaves alone
	}
	if !fits {
		bad("signature of length %d does not fit", length)
	}
}
