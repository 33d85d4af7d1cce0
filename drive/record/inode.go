package record

import (
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// Encode returns the record's bytes, sealed by nobody yet. The caller owns them.
func (n *Inode) Encode() []byte {
	b := appendNum(make([]byte, 0, 160+44*len(n.Replaces)+24*len(n.Extents)+len(n.Target)+len(n.Unknown)), 1, uint64(n.Kind))
	b = appendNum(b, 2, uint64(n.Mode))
	b = appendNum(b, 3, uint64(n.UID))
	b = appendNum(b, 4, uint64(n.GID))
	b = appendBytes(b, 5, n.Owner[:])
	b = appendTime(b, 6, n.Atime)
	b = appendHistory(b, n.Stamp, n.Replaces)
	b = appendTime(b, 9, n.Mtime)
	b = appendTime(b, 10, n.Ctime)
	b = appendTime(b, 11, n.Btime)
	b = appendNum(b, 12, n.Size)
	b = n.appendPages(n.appendExtents(b))
	if n.Target != "" {
		b = appendBytes(b, 15, []byte(n.Target))
	}
	b = appendNum(b, 16, uint64(n.Rdev))
	for _, x := range n.Xattrs {
		b = appendBytes(b, 17, appendBytes(appendBytes(nil, 1, []byte(x.Name)), 2, x.Value))
	}
	b = appendNum(b, 18, boolNum(n.Removed))
	return append(b, n.Unknown...)
}

// appendExtents writes the content feeds once each and the extents with their positions among them.
func (n *Inode) appendExtents(b []byte) []byte {
	feeds := map[hypercore.Key]uint64{}
	for _, e := range n.Extents {
		at, ok := feeds[e.Feed]
		if !ok {
			at = uint64(len(feeds))
			feeds[e.Feed] = at
			b = appendBytes(b, 14, e.Feed[:])
		}
		extent := appendNum(appendNum(nil, 1, e.Block), 2, e.Count)
		b = appendBytes(b, 13, appendNum(appendNum(extent, 3, at), 4, e.Seq))
	}
	return b
}

// DecodeInode decodes and validates an inode.
func DecodeInode(b []byte) (*Inode, error) {
	n := &Inode{}
	d := inodeDecoder{inode: n}
	var err error
	if n.Unknown, err = decode(b, d.field); err != nil {
		return nil, err
	}
	if err := d.extents(); err != nil {
		return nil, err
	}
	if err := n.validate(); err != nil {
		return nil, err
	}
	return n, nil
}

type inodeDecoder struct {
	inode *Inode
	feeds []hypercore.Key
	at    []uint64 // of each extent, the position of its feed
}

func (d *inodeDecoder) field(f field) (bool, error) {
	n := d.inode
	switch f.kind {
	case protowire.VarintType:
		return d.number(f)
	case protowire.Fixed64Type:
		return d.time(f), nil
	}
	switch f.number {
	case 5:
		return true, copyExactly(n.Owner[:], f.bytes)
	case 13:
		return true, d.extent(f.bytes)
	case 14:
		var k hypercore.Key
		if len(d.feeds) >= MaxReplaces {
			return true, fmt.Errorf("more than %d content feeds: %w", MaxReplaces, ErrInvalid)
		}
		err := copyExactly(k[:], f.bytes)
		d.feeds = append(d.feeds, k)
		return true, err
	case 15:
		n.Target = string(f.bytes)
		return true, nil
	case 17:
		return true, d.xattr(f.bytes)
	case 19:
		return true, d.page(f.bytes)
	}
	return history(f, &n.Stamp, &n.Replaces)
}

// time takes in a time, in ns since 1970.
func (d *inodeDecoder) time(f field) bool {
	n := d.inode
	switch f.number {
	case 6:
		n.Atime = int64(f.num)
	case 9:
		n.Mtime = int64(f.num)
	case 10:
		n.Ctime = int64(f.num)
	case 11:
		n.Btime = int64(f.num)
	default:
		return false
	}
	return true
}

func (d *inodeDecoder) number(f field) (bool, error) {
	n := d.inode
	small := uint32(min(f.num, math.MaxUint32))
	switch f.number {
	case 1:
		n.Kind = Kind(min(f.num, math.MaxUint8))
	case 2:
		n.Mode = small
	case 3:
		n.UID = small
	case 4:
		n.GID = small
	case 12:
		n.Size = f.num
	case 16:
		n.Rdev = small
	case 18:
		n.Removed = f.num != 0
	default:
		return false, nil
	}
	return true, nil
}

func (d *inodeDecoder) extent(b []byte) error {
	var e Extent
	var at uint64
	_, err := decode(b, func(f field) (bool, error) {
		switch f.number {
		case 1:
			e.Block = f.num
		case 2:
			e.Count = f.num
		case 3:
			at = f.num
		case 4:
			e.Seq = f.num
		}
		return true, nil
	})
	if err == nil && len(d.inode.Extents) >= MaxExtents {
		err = fmt.Errorf("more than %d extents: %w", MaxExtents, ErrInvalid)
	}
	d.inode.Extents = append(d.inode.Extents, e)
	d.at = append(d.at, at)
	return err
}

func (d *inodeDecoder) xattr(b []byte) error {
	x := Xattr{Value: []byte{}} // a value that is not there is an empty one
	_, err := decode(b, func(f field) (bool, error) {
		switch f.number {
		case 1:
			x.Name = string(f.bytes)
		case 2:
			x.Value = append([]byte{}, f.bytes...)
		}
		return true, nil
	})
	if err == nil && len(d.inode.Xattrs) >= MaxXattrs {
		err = fmt.Errorf("more than %d attributes: %w", MaxXattrs, ErrInvalid)
	}
	d.inode.Xattrs = append(d.inode.Xattrs, x)
	return err
}

// extents gives each extent its feed. Those of no blocks, which say nothing, are left out: nodes of November 2026 wrote some.
func (d *inodeDecoder) extents() error {
	for i, at := range d.at {
		if at >= uint64(len(d.feeds)) {
			return fmt.Errorf("extent in content feed %d of %d: %w", at, len(d.feeds), ErrInvalid)
		}
		d.inode.Extents[i].Feed = d.feeds[at]
	}
	if d.inode.Extents = slices.DeleteFunc(d.inode.Extents, func(e Extent) bool { return e.Count == 0 }); len(d.inode.Extents) == 0 {
		d.inode.Extents = nil
	}
	return nil
}

// validate refuses what no node of ours writes and what could mislead a reader.
func (n *Inode) validate() error {
	if n.Kind == 0 || n.Kind > maxKind || n.Mode&^modeBits != 0 || n.Size > MaxSize || len(n.Target) > MaxTarget {
		return fmt.Errorf("inode of kind %d, mode %o, size %d: %w", n.Kind, n.Mode, n.Size, ErrInvalid)
	}
	blocks := (n.Size + BlockSize - 1) / BlockSize
	if err := validExtents(n.Extents, blocks); err != nil {
		return err
	}
	if n.Kind != File && len(n.Extents)+len(n.Pages) > 0 {
		return fmt.Errorf("extents of an inode of kind %d: %w", n.Kind, ErrInvalid)
	}
	total := 0
	for i, x := range n.Xattrs {
		total += len(x.Name) + len(x.Value)
		if x.Name == "" || len(x.Name) > MaxName || i > 0 && n.Xattrs[i-1].Name >= x.Name {
			return fmt.Errorf("attribute %q: %w", x.Name, ErrInvalid)
		}
	}
	if total > MaxXattr {
		return fmt.Errorf("attributes of %d bytes: %w", total, ErrInvalid)
	}
	return nil
}
