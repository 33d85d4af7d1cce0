package drive

import (
	"encoding/binary"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"hyphafs.org/hyphafs/drive/record"
)

// A journal frame is a protobuf of items, carried out in order; all of one frame or none. Items:
//
//	1 boot            the system's run in which what follows was written
//	2 inode           {1 id, 2 flags, 3 record, 4 present runs, 7 runs of pages}: the inode as it is; the record's replaces are its base
//	3 entry           {1 dir, 2 shown name, 3 directory of its place, 4 dirent record, 5 under}
//	4 inode done      {1 id}: published, or never to be
//	5 entry done      {1 dir, 2 shown name}
//	6 blocks          {1 id, 2 first, 3 end}: their bytes are in the backing file
//	7 cut             {1 id, 2 first, 3 end}: no longer
//	8 synced          {1 id, 2 flags, 3 record, 4 present runs, 6 changes, 7 runs of pages}: what survives a power loss
//	9 intent          {2 first block of the own feed, repeated 5 {1 id, 2 changes} or {1 dir, 2 name} of each record}
//	10 bytes          {1 id, 2 offset, 3 bytes, 4 mtime, 5 small}: were written there; with small they are nowhere else
//	11 spilled        {1 id}: the bytes of a small file are in a backing file from now on
//	12 carried out    {2 first block}: what that intent said is done and in the items before
//	13 needs          {1 id, 6 changes}: after a power loss this frame, and all behind it, count only if a later item says that the inode's bytes are synced,
//	                  as they were after that many changes, or published, with no such item behind it in its frame
//	14 pages          {1 id, 2 first, 3 end}: these pages of 4 KiB, of blocks that are not, are in the backing file
//	15 absolved       {1 id}: the disk lost the inode's bytes, and nothing needs them any more
//	16 synced more    {1 id, 2 size, 4 present runs, 6 changes, 7 runs of pages, 8 mtime}: what survives a power loss is what the last synced item of the inode says, and
//	                  this. It is short however many extents the file has
const (
	itemBoot protowire.Number = iota + 1
	itemInode
	itemEntry
	itemInodeDone
	itemEntryDone
	itemBlocks
	itemCut
	itemSynced
	itemIntent
	itemBytes
	itemSpilled
	itemCarriedOut
	itemNeeds
	itemPages
	itemAbsolved
	itemSyncedMore
)

const (
	flagDirty = 1 << iota
	flagGone
	flagPublished
	flagLost
)

// flagDurable of a synced item: the backing file itself was synced, so the bytes that were journalled before need not be looked at.
const flagDurable = 1

// frame collects items.
type frame struct{ b []byte }

// field is one field of an item, not encoded yet: a number, or bytes.
type field struct {
	number  protowire.Number
	isBytes bool
	num     uint64
	bytes   []byte
}

func bytesField(n protowire.Number, v []byte) field {
	return field{number: n, isBytes: true, bytes: v}
}

func numField(n protowire.Number, v uint64) field { return field{number: n, num: v} }

func (f field) size() int {
	if f.isBytes {
		return protowire.SizeTag(f.number) + protowire.SizeBytes(len(f.bytes))
	}
	return protowire.SizeTag(f.number) + protowire.SizeVarint(f.num)
}

func (f field) append(b []byte) []byte {
	if f.isBytes {
		return protowire.AppendBytes(protowire.AppendTag(b, f.number, protowire.BytesType), f.bytes)
	}
	return protowire.AppendVarint(protowire.AppendTag(b, f.number, protowire.VarintType), f.num)
}

func (f *frame) item(n protowire.Number, fields ...field) {
	size := 0
	for _, field := range fields {
		size += field.size()
	}
	b := slices.Grow(f.b, protowire.SizeTag(n)+protowire.SizeBytes(size))
	b = protowire.AppendVarint(protowire.AppendTag(b, n, protowire.BytesType), uint64(size))
	for _, field := range fields {
		b = field.append(b)
	}
	f.b = b
}

// inode adds the state of in, and the bytes of a small file that the journal does not have yet. Called with in.mu held.
func (f *frame) inode(in *inode) {
	in.grown = nil
	known := in.journalled.Swap(true)
	flags := uint64(0)
	if in.dirty {
		flags |= flagDirty
	}
	if in.gone {
		flags |= flagGone
	}
	if in.published {
		flags |= flagPublished
	}
	if in.lost {
		flags |= flagLost
	}
	f.item(itemInode, bytesField(1, in.id[:]), numField(2, flags), bytesField(3, in.record()), bytesField(4, in.present.encode()), bytesField(7, in.pages.encode()))
	if small, ok := in.backing.(*smallFile); ok && !known && len(in.present) > 0 {
		f.bytes(in, small.b, 0)
	}
}

// encode is the runs as varints, first and end of each.
func (s blockset) encode() (b []byte) {
	for _, r := range s {
		b = binary.AppendUvarint(binary.AppendUvarint(b, r.first), r.end)
	}
	return b
}

// record encodes rec with its base.
func (in *inode) record() []byte {
	rec := in.rec
	rec.Replaces = in.base
	return rec.Encode()
}

func (f *frame) entry(e *entry) {
	d := record.Dirent{Name: e.place.Name, Inode: e.id, Kind: e.kind, Removed: e.gone, MovedFrom: e.movedFrom, MovedTo: e.movedTo, Stamp: e.stamp, Replaces: e.base}
	f.item(itemEntry, bytesField(1, e.dir[:]), bytesField(2, []byte(e.name)), bytesField(3, e.place.Dir[:]), bytesField(4, d.Encode()), bytesField(5, e.under[:]))
}

// published says that a version of in was published that had seen changes: what the journal had of it is done, what was changed or
// fsynced since is not, nor what a rename is owed, who needs as many changes as owed. Called with Drive.mu and in.mu held.
func (f *frame) published(in *inode, changes, owed uint64) {
	if in.dirty && (in.synced > changes || in.isSmall()) {
		f.inode(in)
		return
	}
	f.inodeDone(in)
	in.unsynced = unsynced{all: true} // the bytes that the journal had are done with the rest
	if in.dirty {
		f.inode(in)
	}
	if owed > changes {
		f.needs(in.id, owed)
	}
}

// inodeDone ends all that the journal has of in. Called with in.mu held.
func (f *frame) inodeDone(in *inode) {
	in.grown = nil
	in.journalled.Store(false)
	f.item(itemInodeDone, bytesField(1, in.id[:]))
}

func (f *frame) entryDone(e *entry) {
	f.item(itemEntryDone, bytesField(1, e.dir[:]), bytesField(2, []byte(e.name)))
}

func (f *frame) blocks(id record.ID, r run) {
	f.item(itemBlocks, bytesField(1, id[:]), numField(2, r.first), numField(3, r.end))
}

func (f *frame) pages(id record.ID, r run) {
	f.item(itemPages, bytesField(1, id[:]), numField(2, r.first), numField(3, r.end))
}

func (f *frame) cut(id record.ID, r run) {
	f.item(itemCut, bytesField(1, id[:]), numField(2, r.first), numField(3, r.end))
}

// synced adds what a power loss must leave of in; durable says that its backing file was synced. Called with in.mu held.
func (f *frame) synced(in *inode, durable bool) {
	flags := uint64(0)
	if durable {
		flags = flagDurable
	}
	f.state(in, in.present, in.pages, flags)
}

func (f *frame) state(in *inode, present, pages blockset, flags uint64) {
	in.grown = nil
	f.item(itemSynced, bytesField(1, in.id[:]), numField(2, flags), bytesField(3, in.record()), bytesField(4, present.encode()), numField(6, in.changes), bytesField(7, pages.encode()))
}

// syncedMore is synced of an inode that has grown since the last synced item. Called with in.mu held.
func (f *frame) syncedMore(in *inode) {
	f.item(itemSyncedMore, bytesField(1, in.id[:]), numField(2, in.rec.Size), bytesField(4, in.grown.present.encode()), numField(6, in.changes),
		bytesField(7, in.grown.pages.encode()), numField(8, uint64(in.rec.Mtime)))
}

// before adds what a power loss must leave of a file that was published and is about to change, if its bytes are in a backing file. Called with in.mu held.
func (f *frame) before(in *inode) {
	if !in.dirty && in.backing != nil && !in.isSmall() && in.rec.Size > 0 {
		f.state(in, nil, nil, 0) // none of it is in the backing file alone
	}
}

// placed is synced for the record of a candidate, all of whose bytes are in content feeds.
func (f *frame) placed(c *candidate) {
	rec := c.rec
	rec.Replaces = c.base
	f.item(itemSynced, bytesField(1, c.in.id[:]), numField(2, flagDurable), bytesField(3, rec.Encode()), numField(6, c.changes))
}

// bytes adds what was written to in at off. Called with in.mu held.
func (f *frame) bytes(in *inode, p []byte, off uint64) {
	small := uint64(0)
	if in.isSmall() {
		small = 1
	}
	f.item(itemBytes, bytesField(1, in.id[:]), numField(2, off), bytesField(3, p), numField(4, uint64(in.rec.Mtime)), numField(5, small))
}

func (f *frame) carriedOut(first uint64) { f.item(itemCarriedOut, numField(2, first)) }

func (f *frame) spilled(id record.ID) { f.item(itemSpilled, bytesField(1, id[:])) }

func (f *frame) absolved(id record.ID) { f.item(itemAbsolved, bytesField(1, id[:])) }

func (f *frame) needs(id record.ID, changes uint64) {
	f.item(itemNeeds, bytesField(1, id[:]), numField(6, changes))
}

// parsed is one item taken apart.
type parsed struct {
	kind   protowire.Number
	bytes  map[protowire.Number][]byte
	nums   map[protowire.Number]uint64
	nested [][]byte // the values of field 5, in order
}

func parseFrame(b []byte, each func(parsed) error) error {
	for len(b) > 0 {
		n, kind, k := protowire.ConsumeTag(b)
		if k < 0 || kind != protowire.BytesType {
			return fmt.Errorf("journal item: %w", ErrDamaged)
		}
		v, m := protowire.ConsumeBytes(b[k:])
		if m < 0 {
			return fmt.Errorf("journal item: %w", ErrDamaged)
		}
		p, err := parseItem(n, v)
		if err != nil {
			return err
		}
		if err := each(p); err != nil {
			return err
		}
		b = b[k+m:]
	}
	return nil
}

func parseItem(kind protowire.Number, b []byte) (parsed, error) {
	p := parsed{kind: kind, bytes: map[protowire.Number][]byte{}, nums: map[protowire.Number]uint64{}}
	if kind == itemBoot {
		p.bytes[1] = b
		return p, nil
	}
	for len(b) > 0 {
		n, t, k := protowire.ConsumeTag(b)
		if k < 0 {
			return p, fmt.Errorf("journal field: %w", ErrDamaged)
		}
		m := 0
		switch t {
		case protowire.VarintType:
			p.nums[n], m = protowire.ConsumeVarint(b[k:])
		case protowire.BytesType:
			p.bytes[n], m = protowire.ConsumeBytes(b[k:])
			if n == 5 {
				p.nested = append(p.nested, p.bytes[n])
			}
		default:
			m = protowire.ConsumeFieldValue(n, t, b[k:])
		}
		if m < 0 {
			return p, fmt.Errorf("journal field: %w", ErrDamaged)
		}
		b = b[k+m:]
	}
	return p, nil
}

func (p parsed) id(n protowire.Number) (id record.ID, err error) {
	if len(p.bytes[n]) != len(id) {
		return id, fmt.Errorf("journal id of %d bytes: %w", len(p.bytes[n]), ErrDamaged)
	}
	return record.ID(p.bytes[n]), nil
}

func (p parsed) run() run { return run{p.nums[2], p.nums[3]} }

// runs decodes the runs in field n of an inode or synced item.
func (p parsed) runs(n protowire.Number) (s blockset, err error) {
	for b := p.bytes[n]; len(b) > 0; {
		first, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, fmt.Errorf("journal runs: %w", ErrDamaged)
		}
		end, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return nil, fmt.Errorf("journal runs: %w", ErrDamaged)
		}
		s.add(run{first, end})
		b = b[n+m:]
	}
	return s, nil
}
