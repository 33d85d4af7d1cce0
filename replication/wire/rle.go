package wire

import (
	"encoding/binary"
	"fmt"
)

// EncodeBits writes a bitfield in the run-length code, byte for byte as bitfield-rle 2.2.1 does: trailing zero bytes are not
// written, and a run is used only where it is shorter.
func EncodeBits(bits []byte) []byte {
	for len(bits) > 0 && bits[len(bits)-1] == 0 {
		bits = bits[:len(bits)-1]
	}
	out := []byte{}
	start, run, value := 0, 0, byte(0) // bits[start:] is not written yet; the last run bytes are value
	literal := func(end int) {
		if end > start {
			out = binary.AppendUvarint(out, uint64(end-start)<<1)
			out = append(out, bits[start:end]...)
		}
	}
	flush := func(end int) { // bits[:end] ends with the run
		head := end - run - start
		code := uint64(run)<<2 | 1
		if value != 0 {
			code |= 2
		}
		cost := uvarintLen(code)
		if head > 0 {
			cost += uvarintLen(uint64(head)<<1) + head
		}
		if cost >= uvarintLen(uint64(end-start)<<1)+end-start {
			return
		}
		literal(end - run)
		out = binary.AppendUvarint(out, code)
		start = end
	}
	for i, b := range bits {
		if b == value {
			run++
			continue
		}
		if run > 0 {
			flush(i)
		}
		run = 0
		if b == 0 || b == 0xff {
			value, run = b, 1
		}
	}
	if run > 0 {
		flush(len(bits))
	}
	literal(len(bits))
	return out
}

// DecodeBits reads the run-length code, however it was split, into at most limit bytes. The caller owns the result.
func DecodeBits(code []byte, limit int) ([]byte, error) {
	size, err := walkBits(code, limit, nil)
	if err != nil {
		return nil, err
	}
	out := make([]byte, size)
	_, err = walkBits(code, limit, out)
	return out, err
}

// walkBits checks code and, if out is there, fills it. It returns the decoded size.
func walkBits(code []byte, limit int, out []byte) (int, error) {
	size := 0
	for len(code) > 0 {
		v, n := binary.Uvarint(code)
		if n <= 0 || v > MaxNumber {
			return 0, fmt.Errorf("bitfield: bad part: %w", ErrMessage)
		}
		code = code[n:]
		count := v >> 2
		if v&1 == 0 {
			count = v >> 1
		}
		if count > uint64(limit-size) {
			return 0, fmt.Errorf("bitfield of more than %d bytes: %w", limit, ErrMessage)
		}
		end := size + int(count)
		switch {
		case v&1 == 0 && count > uint64(len(code)):
			return 0, fmt.Errorf("bitfield: cut off: %w", ErrMessage)
		case v&1 == 0:
			if out != nil {
				copy(out[size:end], code)
			}
			code = code[count:]
		case v&2 != 0 && out != nil:
			for i := size; i < end; i++ {
				out[i] = 0xff
			}
		}
		size = end
	}
	return size, nil
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
