package hypercore

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
)

// Append adds blocks under one signature and returns the position of the first. They are durable when it returns, and
// only then visible. The signature is made when the bytes it covers are on disk already. If that fails (a full disk), nothing happened; if something fails
// after the signature was made, the feed takes no more until it is opened again: what the disk holds then decides.
func (f *Feed) Append(ctx context.Context, blocks [][]byte) (first uint64, err error) {
	if f.secret == nil {
		return 0, ErrNotWritable
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	f.mu.RLock()
	a := appending{head: f.head, roots: append([]Node(nil), f.roots...)}
	if f.broken != nil {
		err = f.broken
	} else if f.fork != nil {
		err = f.fork
	}
	f.mu.RUnlock()
	if err != nil || len(blocks) == 0 {
		return a.head.Length, err
	}
	first = a.head.Length
	start := a.head
	size := 0
	for _, b := range blocks {
		size += len(b)
	}
	a.data, a.nodes = make([]byte, 0, size), make([]Node, 0, 2*len(blocks))
	for _, b := range blocks {
		if err := a.add(b); err != nil {
			return 0, err
		}
	}
	if signed, err := f.store(&a, start); err != nil {
		f.mu.Lock()
		if signed || len(f.dirty) > 0 { // a failed sync may have dropped what was put, too
			f.broken = errors.Join(ErrBroken, err)
		}
		f.mu.Unlock()
		return 0, fmt.Errorf("append to feed %s: %w", f.key, err)
	}
	f.mu.Lock()
	f.publish(&a, start)
	f.mu.Unlock()
	f.waits.stored(first, a.head.Length)
	return first, nil
}

// appending is a batch on its way into the feed.
type appending struct {
	head  Head
	roots []Node
	data  []byte
	nodes []Node // all new ones, leaves and parents
}

// add puts one more block behind the others.
func (a *appending) add(block []byte) error {
	if len(block) > MaxBlock {
		return ErrTooLong
	}
	if a.head.Length >= maxLength || a.head.Bytes+uint64(len(block)) > maxBytes {
		return fmt.Errorf("feed is full: %w", ErrTooLong)
	}
	n := leafNode(a.head.Length, block)
	a.nodes = append(a.nodes, n)
	for k := len(a.roots); k > 0 && a.roots[k-1].Index == sibling(n.Index); k = len(a.roots) {
		n = parentNode(a.roots[k-1], n)
		a.nodes = append(a.nodes, n)
		a.roots = a.roots[:k-1]
	}
	a.roots = append(a.roots, n)
	a.data = append(a.data, block...)
	a.head.Length++
	a.head.Bytes += uint64(len(block))
	return nil
}

// store makes a durable: the bytes, then the signature over them with the bits, then the head. signed reports whether it came as far as the signature.
// Called with writing held.
func (f *Feed) store(a *appending, start Head) (signed bool, err error) {
	if _, err := f.files.data.WriteAt(a.data, int64(start.Bytes)); err != nil {
		return false, err
	}
	if err := f.writeNodes(a.nodes); err != nil {
		return false, err
	}
	entries := f.entriesWith(a, start) // before the syncs: a bit never precedes the bytes it speaks of
	if err := f.files.data.Sync(); err != nil {
		return false, err
	}
	if err := f.files.tree.Sync(); err != nil {
		return false, err
	}
	a.head.TreeHash = treeHash(a.roots)
	copy(a.head.Signature[:], ed25519.Sign(f.secret, a.head.TreeHash[:]))
	if err := f.blankSignatures(start.Length+1, a.head.Length); err != nil {
		return true, err
	}
	if err := f.writeSignature(a.head.Length, a.head.Signature[:]); err != nil {
		return true, err
	}
	if err := f.files.signatures.Sync(); err != nil {
		return true, err
	}
	if err := f.writeBitfield(entries); err != nil {
		return true, err
	}
	return true, f.writeHead(a.head)
}

// writeNodes writes nodes, neighbours in one go.
func (f *Feed) writeNodes(nodes []Node) error {
	inside := map[uint64]Node{}
	low, high := uint64(2*maxLength), uint64(0)
	for _, n := range nodes {
		if n.Index%2 == 0 {
			low, high = min(low, n.Index), max(high, n.Index)
		}
	}
	for _, n := range nodes {
		if n.Index >= low && n.Index <= high {
			inside[n.Index] = n
		} else if _, err := f.files.tree.WriteAt(encodeNode(n), int64(sizeHeader+sizeNode*n.Index)); err != nil {
			return err
		}
	}
	buf := make([]byte, 0, sizeNode*(high-low+1))
	for i := low; i <= high; i++ {
		if n, ok := inside[i]; ok {
			buf = append(buf, encodeNode(n)...)
		} else {
			buf = append(buf, make([]byte, sizeNode)...)
		}
	}
	_, err := f.files.tree.WriteAt(buf, int64(sizeHeader+sizeNode*low))
	return err
}

// writeSignature writes the signature for length.
func (f *Feed) writeSignature(length uint64, signature []byte) error {
	_, err := f.files.signatures.WriteAt(signature, signatureAt(length))
	return err
}

func signatureAt(length uint64) int64 { return int64(sizeHeader + sizeSignature*(length-1)) }

// blankSignatures takes away what an append that never committed left for the lengths from from up to, not including, to. There is nearly never
// anything: the file ends before, and what is inside a batch stays a hole in it.
func (f *Feed) blankSignatures(from, to uint64) error {
	size, err := f.files.signatures.Size()
	if err != nil || size <= signatureAt(from) || from == to {
		return err
	}
	return f.files.signatures.Punch(signatureAt(from), signatureAt(to)-signatureAt(from))
}

// entriesWith builds the bitfield entries as they are when a is in.
func (f *Feed) entriesWith(a *appending, start Head) map[uint64][]byte {
	f.mu.RLock()
	defer f.mu.RUnlock()
	entries := map[uint64][]byte{}
	bit := func(entry uint64, at uint64) {
		if entries[entry] == nil {
			entries[entry] = f.entry(entry)
		}
		entries[entry][at/8] |= 0x80 >> (at % 8)
	}
	for seq := start.Length; seq < a.head.Length; seq++ {
		bit(seq/(8*pageBytes), seq%(8*pageBytes))
	}
	for _, n := range a.nodes {
		bit(n.Index/(16*pageBytes), 8*pageBytes+n.Index%(16*pageBytes))
	}
	return entries
}

// publish makes a visible. Called with mu held.
func (f *Feed) publish(a *appending, start Head) {
	for seq := start.Length; seq < a.head.Length; seq++ {
		f.data.set(seq, true)
	}
	f.have += a.head.Length - start.Length
	f.raiseFull()
	for _, n := range a.nodes {
		f.tree.set(n.Index, true)
		f.nodes.Add(n.Index, n)
	}
	f.head, f.roots, f.committed = a.head, a.roots, a.head
}
