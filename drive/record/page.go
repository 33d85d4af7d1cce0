package record

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// Page is where part of a file's extents stands, when they are too many for the file's own record: those of the blocks from First up to the next page's First are in the
// record (DecodePage) at block Seq of the metadata feed Feed.
type Page struct {
	First  uint64
	Feed   hypercore.Key
	Seq    uint64
	Blocks uint64 // blocks of the file that its extents hold
}

// EncodePage returns the record of a page. The caller owns it.
func EncodePage(extents []Extent) []byte { return (&Inode{Extents: extents}).appendExtents(nil) }

// DecodePage returns the extents of a page, ascending and not overlapping.
func DecodePage(b []byte) ([]Extent, error) {
	n := &Inode{}
	d := inodeDecoder{inode: n}
	_, err := decode(b, func(f field) (bool, error) {
		if f.kind == protowire.BytesType && (f.number == 13 || f.number == 14) {
			return d.field(f)
		}
		return false, nil
	})
	if err == nil {
		err = d.extents()
	}
	if err == nil {
		err = validExtents(n.Extents, MaxSize/BlockSize)
	}
	if err != nil {
		return nil, err
	}
	return n.Extents, nil
}

// validExtents refuses extents that are empty, that overlap, or that reach beyond so many blocks.
func validExtents(extents []Extent, blocks uint64) error {
	end := uint64(0)
	for _, e := range extents {
		if e.Count == 0 || e.Block < end || e.Count > blocks || e.Block > blocks-e.Count || e.Seq+e.Count < e.Seq {
			return fmt.Errorf("extent of %d blocks at %d in a file of %d: %w", e.Count, e.Block, blocks, ErrInvalid)
		}
		end = e.Block + e.Count
	}
	return nil
}

// appendPages writes the pages, each with the feed of its own: nearly always that of the record.
func (n *Inode) appendPages(b []byte) []byte {
	for _, p := range n.Pages {
		page := appendNum(appendBytes(appendNum(nil, 1, p.First), 2, p.Feed[:]), 3, p.Seq)
		b = appendBytes(b, 19, appendNum(page, 4, p.Blocks))
	}
	return b
}

func (d *inodeDecoder) page(b []byte) error {
	var p Page
	_, err := decode(b, func(f field) (bool, error) {
		switch f.number {
		case 1:
			p.First = f.num
		case 2:
			return true, copyExactly(p.Feed[:], f.bytes)
		case 3:
			p.Seq = f.num
		case 4:
			p.Blocks = f.num
		}
		return true, nil
	})
	if k := len(d.inode.Pages); err == nil && (k >= MaxPages || k > 0 && d.inode.Pages[k-1].First >= p.First || p.First > MaxSize/BlockSize || p.Blocks > MaxSize/BlockSize) {
		err = fmt.Errorf("page %d at block %d: %w", k, p.First, ErrInvalid)
	}
	d.inode.Pages = append(d.inode.Pages, p)
	return err
}
