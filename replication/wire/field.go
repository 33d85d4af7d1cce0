package wire

import (
	"encoding/binary"
	"fmt"
)

// The protobuf wire types that the messages use or may skip.
const (
	kindVarint  = 0
	kindFixed64 = 1
	kindBytes   = 2
	kindFixed32 = 5
)

// fields reads a protobuf message field by field.
type fields struct {
	b    []byte
	num  uint64
	kind uint64
	val  uint64 // of a varint
	data []byte // of bytes; aliases b
	err  error
}

// next moves to the next field and reports whether there is one.
func (f *fields) next() bool {
	if f.err != nil || len(f.b) == 0 {
		return false
	}
	tag := f.uvarint()
	f.num, f.kind = tag>>3, tag&7
	switch f.kind {
	case kindVarint:
		f.val = f.uvarint()
	case kindFixed64:
		f.take(8)
	case kindBytes:
		f.data = f.take(f.uvarint())
	case kindFixed32:
		f.take(4)
	default:
		f.fail("wire type %d", f.kind)
	}
	return f.err == nil
}

func (f *fields) uvarint() uint64 {
	if f.err != nil {
		return 0
	}
	v, n := binary.Uvarint(f.b)
	if n <= 0 {
		f.fail("bad varint")
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) take(n uint64) []byte {
	if f.err != nil || n > uint64(len(f.b)) {
		f.fail("cut off")
		return nil
	}
	out := f.b[:n:n]
	f.b = f.b[n:]
	return out
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf(format+": %w", append(args, ErrMessage)...)
	}
}

// number is the current field as a number.
func (f *fields) number() uint64 {
	if f.kind != kindVarint || f.val > MaxNumber {
		f.fail("field %d is no number", f.num)
	}
	return f.val
}

// bool is the current field as a boolean.
func (f *fields) bool() bool {
	if f.kind != kindVarint {
		f.fail("field %d is no boolean", f.num)
	}
	return f.val != 0
}

// bytes is the current field as bytes, never nil. It aliases the message.
func (f *fields) bytes() []byte {
	if f.kind != kindBytes {
		f.fail("field %d is not bytes", f.num)
		return []byte{}
	}
	return f.data
}

// require fails unless all fields of the mask (bit n: field n) were in seen.
func (f *fields) require(seen, mask uint64) error {
	if f.err == nil && seen&mask != mask {
		f.fail("a required field is missing")
	}
	return f.err
}

// mark notes field n in a mask.
func mark(seen, n uint64) uint64 {
	if n < 64 {
		seen |= 1 << n
	}
	return seen
}

func appendUint(b []byte, field int, v uint64) []byte {
	return binary.AppendUvarint(append(b, byte(field<<3|kindVarint)), v)
}

func appendBool(b []byte, field int, v bool) []byte {
	if v {
		return appendUint(b, field, 1)
	}
	return appendUint(b, field, 0)
}

func appendBytes[T string | []byte](b []byte, field int, v T) []byte {
	b = binary.AppendUvarint(append(b, byte(field<<3|kindBytes)), uint64(len(v)))
	return append(b, v...)
}

func sizeUint(v uint64) int { return 1 + uvarintLen(v) }

func sizeBytes(n int) int { return 1 + uvarintLen(uint64(n)) + n }
