package record

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Bounds of what a record may hold.
const (
	MaxReplaces = 4096     // versions
	MaxExtents  = 1 << 21  // runs of a file
	MaxPages    = 1 << 16  // pages that they are in
	MaxTarget   = 4095     // bytes of a symlink's target (PATH_MAX less the NUL)
	MaxXattrs   = 1024     // attributes of an inode
	MaxXattr    = 64 << 10 // bytes of all attribute names and values together
	MaxSize     = 1 << 55  // bytes of a file
	maxEncoded  = 64 << 20 // bytes of an encoded record, in a journal; in a feed it has to fit a block
	MaxWall     = 1 << 46  // ms of a stamp: the year 4199
	maxKind     = BlockDevice
	modeBits    = 0o7777
	maxWriter   = 4096 // bytes of a writer's name
)

// field is one protobuf field: num for varint and fixed64, bytes for the length-delimited kind.
type field struct {
	number protowire.Number
	kind   protowire.Type
	num    uint64
	bytes  []byte
}

// decode calls each for every field; each reports false for a number it does not know, and the field's bytes are collected.
func decode(b []byte, each func(f field) (known bool, err error)) (unknown []byte, err error) {
	if len(b) > maxEncoded {
		return nil, fmt.Errorf("%d bytes: %w", len(b), ErrInvalid)
	}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, protowire.ParseError(n))
		}
		f := field{number: number, kind: kind}
		var m int
		switch kind {
		case protowire.VarintType:
			f.num, m = protowire.ConsumeVarint(b[n:])
		case protowire.Fixed64Type:
			f.num, m = protowire.ConsumeFixed64(b[n:])
		case protowire.BytesType:
			f.bytes, m = protowire.ConsumeBytes(b[n:])
		default:
			m = protowire.ConsumeFieldValue(number, kind, b[n:])
		}
		if m < 0 {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, protowire.ParseError(m))
		}
		known, err := each(f)
		if err != nil {
			return nil, err
		}
		if !known {
			unknown = append(unknown, b[:n+m]...)
		}
		b = b[n+m:]
	}
	return unknown, nil
}

func appendNum(b []byte, n protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func appendBytes(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func appendTime(b []byte, n protowire.Number, v int64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, n, protowire.Fixed64Type), uint64(v))
}

func boolNum(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

// The two fields that all records share.
const (
	fieldStamp    = 7
	fieldReplaces = 8
)

func appendHistory(b []byte, s Stamp, replaces []Version) []byte {
	b = appendBytes(b, fieldStamp, appendNum(appendNum(nil, 1, s.Wall), 2, uint64(s.Logical)))
	for _, v := range replaces {
		b = appendBytes(b, fieldReplaces, appendNum(appendBytes(nil, 1, v.Feed[:]), 2, v.Seq))
	}
	return b
}

// history decodes the shared fields.
func history(f field, s *Stamp, replaces *[]Version) (known bool, err error) {
	switch {
	case f.number == fieldStamp && f.kind == protowire.BytesType:
		_, err = decode(f.bytes, func(f field) (bool, error) {
			switch f.number {
			case 1:
				s.Wall = f.num
			case 2:
				s.Logical = uint32(min(f.num, math.MaxUint32))
			}
			return true, nil
		})
		if s.Wall > MaxWall {
			err = fmt.Errorf("stamp %d: %w", s.Wall, ErrInvalid)
		}
		return true, err
	case f.number == fieldReplaces && f.kind == protowire.BytesType:
		var v Version
		_, err = decode(f.bytes, func(f field) (bool, error) {
			switch f.number {
			case 1:
				return true, copyExactly(v.Feed[:], f.bytes)
			case 2:
				v.Seq = f.num
			}
			return true, nil
		})
		if err == nil && len(*replaces) >= MaxReplaces {
			err = fmt.Errorf("replaces more than %d versions: %w", MaxReplaces, ErrInvalid)
		}
		*replaces = append(*replaces, v)
		return true, err
	}
	return false, nil
}

func copyExactly(to, from []byte) error {
	if len(to) != len(from) {
		return fmt.Errorf("%d bytes where %d belong: %w", len(from), len(to), ErrInvalid)
	}
	copy(to, from)
	return nil
}

// Encode returns the record's bytes, sealed by nobody yet. The caller owns them.
func (d *Dirent) Encode() []byte {
	b := appendBytes(make([]byte, 0, 64+len(d.Name)+44*len(d.Replaces)+len(d.Unknown)), 1, []byte(d.Name))
	b = appendBytes(b, 2, d.Inode[:])
	b = appendNum(b, 3, uint64(d.Kind))
	b = appendNum(b, 4, boolNum(d.Removed))
	if d.MovedFrom != nil {
		b = appendBytes(b, 5, d.MovedFrom.encode())
	}
	if d.MovedTo != nil {
		b = appendBytes(b, 6, d.MovedTo.encode())
	}
	return append(appendHistory(b, d.Stamp, d.Replaces), d.Unknown...)
}

// DecodeDirent decodes and validates an entry of directory dir.
func DecodeDirent(dir ID, b []byte) (*Dirent, error) {
	d := &Dirent{}
	var err error
	d.Unknown, err = decode(b, func(f field) (bool, error) {
		switch {
		case f.number == 1 && f.kind == protowire.BytesType:
			d.Name = string(f.bytes)
		case f.number == 2 && f.kind == protowire.BytesType:
			return true, copyExactly(d.Inode[:], f.bytes)
		case f.number == 3 && f.kind == protowire.VarintType:
			d.Kind = Kind(min(f.num, math.MaxUint8))
		case f.number == 4 && f.kind == protowire.VarintType:
			d.Removed = f.num != 0
		case f.number == 5 && f.kind == protowire.BytesType:
			return true, decodePlace(f.bytes, &d.MovedFrom)
		case f.number == 6 && f.kind == protowire.BytesType:
			return true, decodePlace(f.bytes, &d.MovedTo)
		default:
			return history(f, &d.Stamp, &d.Replaces)
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	if !ValidName(dir, d.Name) || d.Kind == 0 || d.Kind > maxKind || d.Inode == Root {
		return nil, fmt.Errorf("entry %q of kind %d: %w", d.Name, d.Kind, ErrInvalid)
	}
	return d, nil
}

func (p *Place) encode() []byte { return appendBytes(appendBytes(nil, 1, p.Dir[:]), 2, []byte(p.Name)) }

func decodePlace(b []byte, into **Place) error {
	p := &Place{}
	_, err := decode(b, func(f field) (bool, error) {
		switch f.number {
		case 1:
			return true, copyExactly(p.Dir[:], f.bytes)
		case 2:
			p.Name = string(f.bytes)
		}
		return true, nil
	})
	if err == nil && !ValidName(p.Dir, p.Name) {
		err = fmt.Errorf("moved from or to %q: %w", p.Name, ErrInvalid)
	}
	*into = p
	return err
}

// Encode returns the record's bytes, sealed by nobody yet. The caller owns them.
func (w *Writer) Encode() []byte {
	b := appendBytes(nil, 1, []byte(w.Name))
	if !w.ApprovedBy.IsZero() {
		b = appendBytes(b, 2, w.ApprovedBy[:])
	}
	b = appendTime(b, 3, w.Time)
	return append(appendHistory(b, w.Stamp, w.Replaces), w.Unknown...)
}

// DecodeWriter decodes what a node is called. The name is data from another node: clean it before it is shown.
func DecodeWriter(b []byte) (*Writer, error) {
	w := &Writer{}
	var err error
	w.Unknown, err = decode(b, func(f field) (bool, error) {
		switch {
		case f.number == 1 && f.kind == protowire.BytesType:
			w.Name = string(f.bytes)
		case f.number == 2 && f.kind == protowire.BytesType:
			return true, copyExactly(w.ApprovedBy[:], f.bytes)
		case f.number == 3 && f.kind == protowire.Fixed64Type:
			w.Time = int64(f.num)
		default:
			return history(f, &w.Stamp, &w.Replaces)
		}
		return true, nil
	})
	if err == nil && len(w.Name) > maxWriter {
		err = fmt.Errorf("name of %d bytes: %w", len(w.Name), ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}
