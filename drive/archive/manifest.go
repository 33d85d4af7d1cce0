package archive

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// maxManifest bounds the object, in bytes. A pack of one run takes about 20 bytes in it: it is enough for terabytes.
const maxManifest = 16 << 20

// packID names a pack: the generation of the manifest that its maker knew, and a random number.
type packID struct{ generation, random uint64 }

func (id packID) String() string { return fmt.Sprintf("%016x-%016x", id.generation, id.random) }

// parsePackID is the inverse of String.
func parsePackID(s string) (packID, bool) {
	a, b, _ := strings.Cut(s, "-")
	generation, err1 := strconv.ParseUint(a, 16, 64)
	random, err2 := strconv.ParseUint(b, 16, 64)
	id := packID{generation, random}
	return id, err1 == nil && err2 == nil && id.String() == s
}

// pack is what the manifest says of one.
type pack struct {
	id     packID
	size   uint64 // bytes of the object
	blocks runs   // never empty
}

// manifest is the one mutable object of a feed. It is never changed in memory either: with makes the next one.
type manifest struct {
	generation uint64 // grows by one with each version, so no two are alike
	floor      uint64 // packs that were named before this generation and are not listed never will be: they are garbage
	compacted  uint64 // generation of the newest one that packs were merged in
	roots      []hypercore.Node
	signature  []byte // of the length that roots are those of; nil with no roots
	fork       *[2]hypercore.Head
	packs      []pack // ascending by first block, then by id
}

// with returns the next manifest: packs added, those called drop left out, and the greater signed length.
func (m *manifest) with(add []pack, drop []packID, roots []hypercore.Node, signature []byte) *manifest {
	next := *m
	next.generation++
	next.packs = slices.DeleteFunc(slices.Clone(m.packs), func(p pack) bool { return slices.Contains(drop, p.id) })
	next.packs = append(next.packs, add...)
	next.sort()
	if signedLength(roots) > signedLength(m.roots) {
		next.roots, next.signature = roots, signature
	}
	return &next
}

func (m *manifest) sort() {
	slices.SortFunc(m.packs, pack.compare)
}

// compare orders packs by first block, then by id.
func (p pack) compare(q pack) int {
	return cmp.Or(cmp.Compare(p.blocks[0].from, q.blocks[0].from), cmp.Compare(p.id.generation, q.id.generation), cmp.Compare(p.id.random, q.id.random))
}

// signedLength is the length, in blocks, that roots are the full roots of.
func signedLength(roots []hypercore.Node) uint64 {
	if len(roots) == 0 {
		return 0
	}
	i := roots[len(roots)-1].Index
	right := i + 1<<bits.TrailingZeros64(^i) - 1 // the last leaf below it
	return right/2 + 1
}

// lists reports whether id is among the packs.
func (m *manifest) lists(id packID) bool {
	return slices.ContainsFunc(m.packs, func(p pack) bool { return p.id == id })
}

// covers reports whether those called drop are listed, and every block of them is in add or in a pack that stays.
func (m *manifest) covers(add []pack, drop []packID) bool {
	var stay, gone runs
	found := 0
	for _, p := range slices.Concat(m.packs, add) {
		to := &stay
		if slices.Contains(drop, p.id) {
			to = &gone
			found++
		}
		for _, r := range p.blocks {
			to.add(r)
		}
	}
	return found == len(drop) && len(gone.without(stay)) == 0
}

// encode is: discovery key (32), generation, floor, compacted, roots (index, hash, size), signature (64; only with roots), whether there is a fork and its two heads (length,
// bytes, tree hash, signature), number of packs, and for each the number of the generation and 8 random bytes of its name, size of the object, number of runs,
// and for each run the distance from the end of the one before and its length.
func (m *manifest) encode(discovery hypercore.Key) []byte {
	b := append([]byte(magicManifest), discovery[:]...)
	for _, v := range []uint64{m.generation, m.floor, m.compacted} {
		b = binary.AppendUvarint(b, v)
	}
	b = appendNodes(b, m.roots)
	b = append(b, m.signature...)
	b = appendBool(b, m.fork != nil)
	if m.fork != nil {
		for _, h := range m.fork {
			b = binary.AppendUvarint(b, h.Length)
			b = binary.AppendUvarint(b, h.Bytes)
			b = append(append(b, h.TreeHash[:]...), h.Signature[:]...)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(m.packs)))
	for _, p := range m.packs {
		b = binary.AppendUvarint(b, p.id.generation)
		b = binary.BigEndian.AppendUint64(b, p.id.random)
		b = binary.AppendUvarint(b, p.size)
		b = binary.AppendUvarint(b, uint64(len(p.blocks)))
		at := uint64(0)
		for _, r := range p.blocks {
			b = binary.AppendUvarint(b, r.from-at)
			b = binary.AppendUvarint(b, r.to-r.from)
			at = r.to
		}
	}
	return seal(b)
}

// decodeManifest is the inverse of encode. ErrFormat.
func decodeManifest(b []byte, discovery hypercore.Key) (*manifest, error) {
	d := unseal(b, magicManifest)
	if d.err == nil && d.hash("discovery key") != discovery {
		d.fail("manifest of another feed")
	}
	const any = 1<<64 - 1
	m := &manifest{generation: d.uint("generation", any), floor: d.uint("floor", any), compacted: d.uint("compacted", any)}
	m.roots = d.nodes("root")
	if len(m.roots) > 0 {
		m.signature = slices.Clone(d.bytes("signature", 64))
	}
	if d.bool("fork") {
		m.fork = new([2]hypercore.Head)
		for i := range m.fork {
			h := hypercore.Head{Length: d.uint("length", maxBlocks), Bytes: d.uint("bytes", maxBytes), TreeHash: d.hash("tree hash")}
			copy(h.Signature[:], d.bytes("signature", 64))
			m.fork[i] = h
		}
	}
	for range d.uint("number of packs", maxManifest) {
		m.packs = append(m.packs, d.pack())
		if d.err != nil {
			break
		}
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if m.floor > m.generation || m.compacted > m.generation {
		return nil, fmt.Errorf("manifest: generations contradict each other: %w", ErrFormat)
	}
	length := signedLength(m.roots)
	for _, p := range m.packs {
		if p.blocks[len(p.blocks)-1].to > length {
			return nil, fmt.Errorf("manifest: blocks beyond the signed length %d: %w", length, ErrFormat)
		}
	}
	for i := 1; i < len(m.packs); i++ {
		if m.packs[i-1].compare(m.packs[i]) >= 0 {
			return nil, fmt.Errorf("manifest: packs are not in order: %w", ErrFormat)
		}
	}
	return m, nil
}

// pack reads what the manifest says of one.
func (d *decoder) pack() pack {
	p := pack{id: packID{generation: d.uint("generation of a pack", 1<<64-1)}}
	if b := d.bytes("name of a pack", 8); b != nil {
		p.id.random = binary.BigEndian.Uint64(b)
	}
	p.size = d.uint("size of a pack", maxPack)
	at := uint64(0)
	for i := range d.uint("runs of a pack", maxManifest) {
		from := at + d.uint("begin of a run", maxBlocks)
		to := from + d.uint("length of a run", maxBlocks)
		if d.err == nil && (to == from || to > maxBlocks || i > 0 && from == at) {
			d.fail("runs that touch")
		}
		if d.err != nil {
			return pack{}
		}
		p.blocks = append(p.blocks, run{from, to})
		at = to
	}
	if len(p.blocks) == 0 {
		d.fail("pack without blocks")
	}
	return p
}
