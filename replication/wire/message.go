package wire

import (
	"encoding/binary"
	"slices"
)

// Each message has Append, which appends it as a whole frame on a channel, and Decode, which reads a frame's body. Decode leaves the message
// as it was when it fails.

// Feed opens a channel for a feed. The first one of a stream carries the nonce of an encrypted direction.
type Feed struct {
	DiscoveryKey [32]byte
	Nonce        []byte // 24 bytes, or nil
}

// Append appends m as a frame.
func (m Feed) Append(dst []byte, channel uint64) []byte {
	b := appendBytes(make([]byte, 0, 64), 1, m.DiscoveryKey[:])
	if m.Nonce != nil {
		b = appendBytes(b, 2, m.Nonce)
	}
	return appendFrame(dst, channel, TypeFeed, b)
}

// Decode reads a Feed. Unlike with other messages, a stream that holds a bad one is to be closed.
func (m *Feed) Decode(body []byte) error {
	var out Feed
	var seen uint64
	f := fields{b: body}
	for f.next() {
		seen = mark(seen, f.num)
		switch f.num {
		case 1:
			if copy(out.DiscoveryKey[:], f.bytes()) != 32 || len(f.data) != 32 {
				f.fail("discovery key of %d bytes", len(f.data))
			}
		case 2:
			if out.Nonce = f.bytes(); len(out.Nonce) != 24 {
				f.fail("nonce of %d bytes", len(out.Nonce))
			}
		}
	}
	if err := f.require(seen, 1<<1); err != nil {
		return err
	}
	*m = out
	return nil
}

// Handshake is the second frame of each direction.
type Handshake struct {
	ID         []byte // 32 random bytes of the node
	Live       bool
	UserData   []byte // nil: none
	Extensions []string
	Ack        bool
}

// maxExtensions bounds how many names of a peer are looked at.
const maxExtensions = 128

// Append appends m as a frame.
func (m Handshake) Append(dst []byte, channel uint64) []byte {
	b := make([]byte, 0, 128)
	if m.ID != nil {
		b = appendBytes(b, 1, m.ID)
	}
	b = appendBool(b, 2, m.Live)
	if m.UserData != nil {
		b = appendBytes(b, 3, m.UserData)
	}
	for _, e := range m.Extensions {
		b = appendBytes(b, 4, e)
	}
	return appendFrame(dst, channel, TypeHandshake, appendBool(b, 5, m.Ack))
}

// Decode reads a Handshake. Its slices alias body.
func (m *Handshake) Decode(body []byte) error {
	var out Handshake
	f := fields{b: body}
	for f.next() {
		switch f.num {
		case 1:
			out.ID = f.bytes()
		case 2:
			out.Live = f.bool()
		case 3:
			out.UserData = f.bytes()
		case 4:
			if out.Extensions = append(out.Extensions, string(f.bytes())); len(out.Extensions) > maxExtensions {
				f.fail("more than %d extensions", maxExtensions)
			}
		case 5:
			out.Ack = f.bool()
		}
	}
	if f.err == nil {
		*m = out
	}
	return f.err
}

// Info tells a peer what to expect of a channel. Before the first one both are taken for true; in one that lacks a field it is false.
type Info struct{ Uploading, Downloading bool }

// Append appends m as a frame.
func (m Info) Append(dst []byte, channel uint64) []byte {
	return appendFrame(dst, channel, TypeInfo, appendBool(appendBool(make([]byte, 0, 8), 1, m.Uploading), 2, m.Downloading))
}

// Decode reads an Info.
func (m *Info) Decode(body []byte) error {
	var out Info
	f := fields{b: body}
	for f.next() {
		switch f.num {
		case 1:
			out.Uploading = f.bool()
		case 2:
			out.Downloading = f.bool()
		}
	}
	if f.err == nil {
		*m = out
	}
	return f.err
}

// Have tells which blocks a peer has: Length of them from Start on, or, with a bitfield, those whose bits are set.
type Have struct {
	Start, Length uint64 // Length 1 when absent
	Bitfield      []byte // run-length coded (DecodeBits); nil: none
	Ack           bool
}

// Append appends m as a frame, without a Length of 1 where nothing follows, as npm hypercore sends it.
func (m Have) Append(dst []byte, channel uint64) []byte {
	b := appendUint(make([]byte, 0, 64), 1, m.Start)
	if m.Length != 1 || m.Bitfield != nil || m.Ack {
		b = appendUint(b, 2, m.Length)
	}
	if m.Bitfield != nil {
		b = appendBytes(b, 3, m.Bitfield)
	}
	if m.Ack {
		b = appendBool(b, 4, true)
	}
	return appendFrame(dst, channel, TypeHave, b)
}

// Decode reads a Have. Its bitfield aliases body.
func (m *Have) Decode(body []byte) error {
	out := Have{Length: 1}
	var seen uint64
	f := fields{b: body}
	for f.next() {
		seen = mark(seen, f.num)
		switch f.num {
		case 1:
			out.Start = f.number()
		case 2:
			out.Length = f.number()
		case 3:
			out.Bitfield = f.bytes()
		case 4:
			out.Ack = f.bool()
		}
	}
	if err := f.require(seen, 1<<1); err != nil {
		return err
	}
	*m = out
	return nil
}

// Range is the body of Unhave (Length 1 when absent), Want and Unwant (0 when absent).
type Range struct{ Start, Length uint64 }

// Append appends m as a frame of type t: TypeUnhave, TypeWant or TypeUnwant.
func (m Range) Append(dst []byte, channel uint64, t Type) []byte {
	return appendFrame(dst, channel, t, appendUint(appendUint(make([]byte, 0, 24), 1, m.Start), 2, m.Length))
}

// Decode reads the body of a frame of type t.
func (m *Range) Decode(t Type, body []byte) error {
	var out Range
	if t == TypeUnhave {
		out.Length = 1
	}
	var seen uint64
	f := fields{b: body}
	for f.next() {
		seen = mark(seen, f.num)
		switch f.num {
		case 1:
			out.Start = f.number()
		case 2:
			out.Length = f.number()
		}
	}
	if err := f.require(seen, 1<<1); err != nil {
		return err
	}
	*m = out
	return nil
}

// Request is the body of Request and Cancel.
type Request struct {
	Index uint64 // block
	Bytes uint64 // > 0: the block that holds this byte instead
	Hash  bool   // nodes only
	Nodes uint64 // digest; not in a Cancel
}

// Append appends m as a frame of type t: TypeRequest or TypeCancel.
func (m Request) Append(dst []byte, channel uint64, t Type) []byte {
	b := appendBool(appendUint(appendUint(make([]byte, 0, 40), 1, m.Index), 2, m.Bytes), 3, m.Hash)
	if t == TypeRequest {
		b = appendUint(b, 4, m.Nodes)
	}
	return appendFrame(dst, channel, t, b)
}

// Decode reads a Request or a Cancel.
func (m *Request) Decode(body []byte) error {
	var out Request
	var seen uint64
	f := fields{b: body}
	for f.next() {
		seen = mark(seen, f.num)
		switch f.num {
		case 1:
			out.Index = f.number()
		case 2:
			out.Bytes = f.number()
		case 3:
			out.Hash = f.bool()
		case 4:
			out.Nodes = f.number()
		}
	}
	if err := f.require(seen, 1<<1); err != nil {
		return err
	}
	*m = out
	return nil
}

// Node is a node of a feed's tree.
type Node struct {
	Index uint64
	Hash  [32]byte
	Size  uint64
}

// Data answers a Request.
type Data struct {
	Index     uint64
	Value     []byte // nil: a hash answer; empty differs
	Nodes     []Node
	Signature []byte // 64 bytes, or nil
}

// sizeNode is how long n is with its tag and length, and without.
func sizeNode(n Node) (whole, inner int) {
	inner = sizeUint(n.Index) + sizeBytes(32) + sizeUint(n.Size)
	return sizeBytes(inner), inner
}

// Append appends m as a frame. Neither dst nor the frame keeps m's slices.
func (m Data) Append(dst []byte, channel uint64) []byte {
	size := sizeUint(m.Index)
	if m.Value != nil {
		size += sizeBytes(len(m.Value))
	}
	for _, n := range m.Nodes {
		whole, _ := sizeNode(n)
		size += whole
	}
	if m.Signature != nil {
		size += sizeBytes(len(m.Signature))
	}
	dst = slices.Grow(dst, size+8)
	dst = appendUint(appendHead(dst, channel, TypeData, size), 1, m.Index)
	if m.Value != nil {
		dst = appendBytes(dst, 2, m.Value)
	}
	for _, n := range m.Nodes {
		_, inner := sizeNode(n)
		dst = binary.AppendUvarint(append(dst, 3<<3|kindBytes), uint64(inner))
		dst = appendUint(appendBytes(appendUint(dst, 1, n.Index), 2, n.Hash[:]), 3, n.Size)
	}
	if m.Signature != nil {
		dst = appendBytes(dst, 4, m.Signature)
	}
	return dst
}

// maxNodes bounds a proof; the longest honest one has fewer than 110.
const maxNodes = 256

// Decode reads a Data. Its slices alias body. It refuses hashes that are not 32 bytes and signatures that are not 64.
func (m *Data) Decode(body []byte) error {
	var out Data
	var seen uint64
	f := fields{b: body}
	for f.next() {
		seen = mark(seen, f.num)
		switch f.num {
		case 1:
			out.Index = f.number()
		case 2:
			out.Value = f.bytes()
		case 3:
			var n Node
			if err := n.decode(f.bytes()); err != nil {
				return err
			}
			if out.Nodes = append(out.Nodes, n); len(out.Nodes) > maxNodes {
				f.fail("more than %d nodes", maxNodes)
			}
		case 4:
			if out.Signature = f.bytes(); len(out.Signature) != 64 {
				f.fail("signature of %d bytes", len(out.Signature))
			}
		}
	}
	if err := f.require(seen, 1<<1); err != nil {
		return err
	}
	*m = out
	return nil
}

func (n *Node) decode(body []byte) error {
	var seen uint64
	f := fields{b: body}
	for f.next() {
		seen = mark(seen, f.num)
		switch f.num {
		case 1:
			n.Index = f.number()
		case 2:
			if copy(n.Hash[:], f.bytes()) != 32 || len(f.data) != 32 {
				f.fail("hash of %d bytes", len(f.data))
			}
		case 3:
			n.Size = f.number()
		}
	}
	return f.require(seen, 1<<1|1<<2|1<<3)
}

// Extension is a message of an extension: ID is the position of its name in the sender's Handshake.
type Extension struct {
	ID      uint64
	Payload []byte
}

// Append appends m as a frame.
func (m Extension) Append(dst []byte, channel uint64) []byte {
	dst = appendHead(dst, channel, TypeExtension, uvarintLen(m.ID)+len(m.Payload))
	return append(binary.AppendUvarint(dst, m.ID), m.Payload...)
}

// Decode reads an Extension. Its payload, never nil, aliases body.
func (m *Extension) Decode(body []byte) error {
	f := fields{b: body}
	id := f.uvarint()
	if f.err != nil || id > MaxNumber {
		f.fail("extension id")
		return f.err
	}
	*m = Extension{ID: id, Payload: f.b}
	return nil
}
