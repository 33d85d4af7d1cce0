// Package wire is the codec of hypercore-protocol 6: frames, messages, the run-length code of bitfields, the extension tables and the stream
// cipher. It turns bytes into values and back, knows no feed, no peer, no connection and no time, and starts no goroutine.
//
// # Frames
//
//	frame  = varint(length of header and body) || header || body        length <= 8,388,608 in at most 4 bytes
//	header = varint(channel << 4 | type)                                channel < 256
//
// A frame of length 0 is a keepalive; one of length 1 is a header without a body, which the npm package drops. [Reader] drops both. Anything that the npm
// package answers by closing the connection is an error here; what it ignores is ignored: a message that does not decode makes
// Decode fail with [ErrMessage], and the caller goes on.
//
// # Messages
//
// Protobuf, written in the order of the field numbers, with explicit zeros where the npm package writes them. Read in any order; unknown fields are
// skipped, groups and numbers above 2^53-1 refused. Byte slices in decoded messages alias the frame's body. An extension message is
// no protobuf but varint(id) || payload.
//
// # Cipher
//
// Each direction is XORed with one continuous XSalsa20 key stream (key: public key of the source feed; nonce: of that direction's
// first frame) that begins behind the first frame. It hides and does not protect: any bit can be flipped unnoticed.
//
// Sources: npm hypercore-protocol 6.12.0 (index.js, feed.js, schema.proto), bitfield-rle 2.2.1, sorted-indexof 1.0.0.
package wire
