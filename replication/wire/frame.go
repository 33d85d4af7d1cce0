package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits of hypercore-protocol 6.12.
const (
	MaxFrame    = 8 << 20   // bytes of header and body
	MaxChannels = 256       // feeds a stream
	MaxNumber   = 1<<53 - 1 // of any number in a message
)

const (
	maxFirst  = 1 << 10   // bytes of the frame that opens a stream; the npm package sends 61
	batchSize = 256 << 10 // bytes read at once, at most
	leastSize = 4 << 10   // and at least: a node has many connections on which little comes
	maxIdle   = 1 << 20   // a buffer larger than that is not used again
)

// Type says what the body of a frame is.
type Type uint8

// The types. 10 to 14 are not used.
const (
	TypeFeed Type = iota
	TypeHandshake
	TypeInfo
	TypeHave
	TypeUnhave
	TypeWant
	TypeUnwant
	TypeRequest
	TypeCancel
	TypeData
	TypeExtension Type = 15
)

// The errors of this package. After ErrFrame the stream cannot be read on; after ErrMessage it can.
var (
	ErrFrame   = errors.New("bad frame")
	ErrMessage = errors.New("bad message")
)

// Frame is one frame. Body aliases the buffer of the Batch, or of the Reader, it came from.
type Frame struct {
	Channel uint64 // the sender's number of the feed, below MaxChannels
	Type    Type
	Body    []byte // at least one byte
}

// AppendKeepalive appends a keepalive, the frame that says nothing.
func AppendKeepalive(dst []byte) []byte { return append(dst, 0) }

// appendFrame appends a frame.
func appendFrame(dst []byte, channel uint64, t Type, body []byte) []byte {
	return append(appendHead(dst, channel, t, len(body)), body...)
}

// appendHead appends a frame's length and header, size bytes of body to follow.
func appendHead(dst []byte, channel uint64, t Type, size int) []byte {
	header := channel<<4 | uint64(t)
	dst = binary.AppendUvarint(dst, uint64(uvarintLen(header)+size))
	return binary.AppendUvarint(dst, header)
}

// splitFrame takes the first frame off b. need > 0: b holds no whole frame, and at least need bytes have to follow. ok is false for frames that are to
// be dropped.
func splitFrame(b []byte) (f Frame, rest []byte, ok bool, need int, err error) {
	var length uint64
	n := 0
	for {
		if n == len(b) {
			return f, b, false, 1, nil
		}
		c := b[n]
		length |= uint64(c&0x7f) << (7 * n)
		n++
		if c < 0x80 {
			break
		}
		if n == 4 {
			return f, b, false, 0, fmt.Errorf("length of more than 4 bytes: %w", ErrFrame)
		}
	}
	if length > MaxFrame {
		return f, b, false, 0, fmt.Errorf("length %d: %w", length, ErrFrame)
	}
	if have := len(b) - n; uint64(have) < length {
		return f, b, false, int(length) - have, nil
	}
	frame, rest := b[n:n+int(length)], b[n+int(length):]
	if length < 2 {
		return f, rest, false, 0, nil
	}
	header, k := binary.Uvarint(frame)
	if k <= 0 || header>>4 >= MaxChannels {
		return f, b, false, 0, fmt.Errorf("channel above %d: %w", MaxChannels-1, ErrFrame)
	}
	return Frame{Channel: header >> 4, Type: Type(header & 15), Body: frame[k:]}, rest, true, 0, nil
}

// Batch is the frames that one read brought. It may be used again for another read, which takes its bytes.
type Batch struct {
	Frames []Frame
	buf    []byte
}

// Reader cuts a stream into frames and decrypts it. Not safe for concurrent use.
type Reader struct {
	r      io.Reader
	rest   []byte // read but not returned: decrypted once cipher is set
	cipher *Cipher
	size   int // bytes to be read at once: as many as came lately
	err    error
}

// NewReader returns a Reader of r, in the clear.
func NewReader(r io.Reader) *Reader { return &Reader{r: r, size: leastSize} }

// First returns the first frame of the stream and nothing of what follows it. Its Body is good until the next call.
func (r *Reader) First() (Frame, error) {
	for {
		f, rest, ok, need, err := splitFrame(r.rest)
		switch {
		case err != nil:
			return Frame{}, err
		case need == 0 && !ok:
			r.rest = rest // a keepalive
			continue
		case len(r.rest)-len(rest) <= maxFirst && ok:
			r.rest = rest
			return f, nil
		case ok || len(r.rest)+need > maxFirst:
			return Frame{}, fmt.Errorf("first frame has more than %d bytes: %w", maxFirst, ErrFrame)
		}
		var chunk [maxFirst]byte
		n, err := r.r.Read(chunk[:])
		r.rest = append(r.rest, chunk[:n]...)
		if err == io.EOF && len(r.rest) > 0 && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && n == 0 {
			return Frame{}, err
		}
	}
}

// Decrypt makes c decrypt everything behind the first frame. Called once, after First.
func (r *Reader) Decrypt(c *Cipher) {
	r.cipher = c
	rest := append([]byte(nil), r.rest...) // the frame that First returned stays as it is
	c.XOR(rest)
	r.rest = rest
}

// Read fills b with at least one frame. io.EOF: the stream ended between two frames. ErrFrame: the stream is not to be read on; the good
// frames before it came with the call before.
func (r *Reader) Read(b *Batch) error {
	b.Frames = b.Frames[:0]
	if cap(b.buf) > maxIdle || cap(b.buf) > 16*r.size {
		b.buf = nil
	}
	b.buf = append(b.buf[:0], r.rest...)
	r.rest = r.rest[:0]
	for {
		need, err := r.split(b)
		switch {
		case len(b.Frames) > 0:
			return nil
		case err != nil:
			return err
		case errors.Is(r.err, io.EOF) && len(b.buf) > 0:
			return io.ErrUnexpectedEOF
		case r.err != nil:
			return r.err
		}
		r.fill(b, need)
	}
}

// split takes the frames off b.buf and keeps what is behind them for the next read. need is how many bytes the next frame lacks.
func (r *Reader) split(b *Batch) (need int, err error) {
	rest := b.buf
	for need == 0 && err == nil {
		var f Frame
		var ok bool
		if f, rest, ok, need, err = splitFrame(rest); ok {
			b.Frames = append(b.Frames, f)
		}
	}
	if len(b.Frames) > 0 {
		if cap(r.rest) > maxIdle && len(rest) < maxIdle || cap(r.rest) > 16*r.size && len(rest) < r.size {
			r.rest = nil
		}
		r.rest = append(r.rest[:0], rest...)
	} else {
		b.buf = b.buf[:copy(b.buf, rest)] // keepalives fall out
	}
	return need, err
}

// fill reads once more. A length alone does not make the buffer grow much: the bytes must come.
func (r *Reader) fill(b *Batch, need int) {
	if cap(b.buf)-len(b.buf) < min(need, r.size/4) || cap(b.buf) < r.size {
		grown := make([]byte, len(b.buf), max(r.size, len(b.buf)+min(len(b.buf), need)+r.size/4))
		copy(grown, b.buf)
		b.buf = grown
	}
	at := len(b.buf)
	n, err := r.r.Read(b.buf[at:cap(b.buf)])
	b.buf = b.buf[:at+n]
	switch {
	case n >= r.size/2:
		r.size = min(2*r.size, batchSize)
	case n < r.size/16:
		r.size = max(r.size/2, leastSize)
	}
	if r.cipher != nil {
		r.cipher.XOR(b.buf[at:])
	}
	r.err = err
}
