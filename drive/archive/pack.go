package archive

import (
	"context"
	"encoding/binary"
	"fmt"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// Sizes of packs, in bytes of blocks. A pack has at least one block, which may be larger than all that.
const (
	packTarget = 4 << 20
	maxPack    = hypercore.MaxBlock + packTarget + 1<<20 // bytes of the object
)

// record is one block and what vouches for it: what a peer would be sent that got the records before it and nothing else.
type record struct {
	seq   uint64
	value []byte
	proof hypercore.Proof
}

// encodePack is: discovery key (32), number of records, and for each its block, the size of the value, the value, its nodes (index, hash, size), whether there is a
// signature, the signature (64).
func encodePack(discovery hypercore.Key, records []record) []byte {
	size := 64
	for _, r := range records {
		size += len(r.value) + 48*len(r.proof.Nodes) + 80
	}
	b := append(make([]byte, 0, size+sumSize), magicPack...)
	b = append(b, discovery[:]...)
	b = binary.AppendUvarint(b, uint64(len(records)))
	for _, r := range records {
		b = binary.AppendUvarint(b, r.seq)
		b = binary.AppendUvarint(b, uint64(len(r.value)))
		b = append(b, r.value...)
		b = appendNodes(b, r.proof.Nodes)
		b = appendBool(b, r.proof.Signature != nil)
		b = append(b, r.proof.Signature...)
	}
	return seal(b)
}

// decodePack is the inverse of encodePack. Values and signatures are parts of b. ErrFormat.
func decodePack(b []byte, discovery hypercore.Key) ([]record, error) {
	d := unseal(b, magicPack)
	if d.err == nil && d.hash("discovery key") != discovery {
		d.fail("pack of another feed")
	}
	count := d.uint("number of blocks", maxBlocks)
	var records []record
	for range count {
		r := record{seq: d.uint("block", maxBlocks-1)}
		r.value = d.bytes("value", d.uint("size of the value", hypercore.MaxBlock))
		r.proof.Nodes = d.nodes("node")
		if d.bool("signature") {
			r.proof.Signature = d.bytes("signature", 64)
		}
		if d.err == nil && len(records) > 0 && records[len(records)-1].seq >= r.seq {
			d.fail("blocks are not in order")
		}
		if d.err != nil {
			break
		}
		records = append(records, r)
	}
	if len(records) == 0 && d.err == nil {
		d.fail("pack without blocks")
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return records, nil
}

// packing collects blocks for a pack. It plays the peer that gets them, so that a pack that was built is one that can be read on its own.
type packing struct {
	from    *hypercore.Feed
	reader  *hypercore.Feed
	marks   hypercore.Marks
	records []record
	size    int
	blocks  runs
}

func newPacking(from *hypercore.Feed) (*packing, error) {
	reader, err := hypercore.Open(newSparse(), from.Key(), hypercore.Options{Cache: 1024})
	if err != nil {
		return nil, err
	}
	return &packing{from: from, reader: reader}, nil
}

// full reports whether no block of size bytes should be added.
func (p *packing) full(size int) bool {
	return len(p.records) > 0 && p.size+size > packTarget
}

// add takes block seq of the feed, behind those that were taken before.
func (p *packing) add(ctx context.Context, seq uint64, value []byte) error {
	proof, err := p.from.Proof(seq, p.reader.Digest(seq), &p.marks, false)
	if err != nil {
		return err
	}
	if err := p.reader.Put(ctx, seq, value, proof); err != nil {
		return fmt.Errorf("block %d does not stand on its own: %w", seq, err)
	}
	p.records = append(p.records, record{seq, value, proof})
	p.size += len(value) + 48*len(proof.Nodes)
	p.blocks.add(run{seq, seq + 1})
	return nil
}

// unpack verifies a pack on its own and hands each block, with what it needs to be believed, to the feed to, just as if the two were peers. It returns the blocks
// that to took. ErrFormat: the pack is damaged or not of this feed. hypercore.ErrFork: it is of another history than to.
func unpack(ctx context.Context, to *hypercore.Feed, b []byte) (runs, error) {
	records, err := decodePack(b, to.DiscoveryKey())
	if err != nil {
		return nil, err
	}
	pack, err := hypercore.Open(newSparse(), to.Key(), hypercore.Options{Cache: 1024})
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if err := pack.Put(ctx, r.seq, r.value, r.proof); err != nil {
			return nil, fmt.Errorf("pack: %w: %w", ErrFormat, err)
		}
	}
	var taken runs
	var marks hypercore.Marks
	for _, r := range records {
		if err := hand(ctx, pack, to, &marks, r); err != nil {
			return taken, err
		}
		taken.add(run{r.seq, r.seq + 1})
	}
	return taken, nil
}

// hand gives one block of pack to the feed to.
func hand(ctx context.Context, pack, to *hypercore.Feed, marks *hypercore.Marks, r record) error {
	proof, err := pack.Proof(r.seq, to.Digest(r.seq), marks, false)
	if err == nil {
		err = to.Put(ctx, r.seq, r.value, proof)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	// A proof without what is known cannot tell a fork; a whole one can.
	proof, whole := pack.Proof(r.seq, 0, &hypercore.Marks{}, false)
	if whole != nil {
		return err
	}
	return to.Put(ctx, r.seq, r.value, proof)
}
