package archive

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/blake2b"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// ErrFormat is returned for an object that cannot have been written by an archive, or was damaged.
var ErrFormat = errors.New("not an object of the archive")

// Objects and the local note are: 8 bytes that name kind and version, a body, BLAKE2b-256 of all that. Numbers are varints of the shortest form.
const (
	magicPack     = "hyphpck1"
	magicManifest = "hyphman1"
	magicNote     = "hyphnot1"
	sumSize       = 32
)

// seal puts the sum behind b.
func seal(b []byte) []byte {
	sum := blake2b.Sum256(b)
	return append(b, sum[:]...)
}

// decoder reads a body; the first thing that is wrong ends it.
type decoder struct {
	rest []byte
	err  error
}

// unseal checks magic and sum and returns a decoder of the body.
func unseal(b []byte, magic string) *decoder {
	n := len(b) - sumSize
	if n < len(magic) || string(b[:len(magic)]) != magic || blake2b.Sum256(b[:n]) != [sumSize]byte(b[n:]) {
		return &decoder{err: fmt.Errorf("%d bytes that should begin with %q: %w", len(b), magic, ErrFormat)}
	}
	return &decoder{rest: b[len(magic):n]}
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", what, ErrFormat)
	}
	d.rest = nil
}

// uint reads a number of at most limit.
func (d *decoder) uint(what string, limit uint64) uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || v > limit || n > 1 && d.rest[n-1] == 0 {
		d.fail(what)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// bytes reads n bytes, which stay those of the input.
func (d *decoder) bytes(what string, n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.fail(what)
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) hash(what string) (h [32]byte) {
	copy(h[:], d.bytes(what, 32))
	return h
}

// bool reads 0 or 1.
func (d *decoder) bool(what string) bool { return d.uint(what, 1) == 1 }

// nodes reads a list of nodes.
func (d *decoder) nodes(what string) []hypercore.Node {
	var nodes []hypercore.Node
	for range d.uint(what, maxNodes) {
		n := hypercore.Node{Index: d.uint(what, 2*maxBlocks), Hash: d.hash(what), Size: d.uint(what, maxBytes)}
		if d.err != nil {
			return nil
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// end reports what was wrong, or that something is left over.
func (d *decoder) end() error {
	if d.err == nil && len(d.rest) > 0 {
		d.fail(fmt.Sprintf("%d bytes too many", len(d.rest)))
	}
	return d.err
}

// Bounds of what is decoded; those of hypercore.
const (
	maxBlocks = 1 << 32
	maxBytes  = 1 << 43
	maxNodes  = 128 // of a proof, or roots
)

func appendNodes(b []byte, nodes []hypercore.Node) []byte {
	b = binary.AppendUvarint(b, uint64(len(nodes)))
	for _, n := range nodes {
		b = binary.AppendUvarint(b, n.Index)
		b = append(b, n.Hash[:]...)
		b = binary.AppendUvarint(b, n.Size)
	}
	return b
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}
