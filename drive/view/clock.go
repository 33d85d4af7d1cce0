package view

import (
	"encoding/binary"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// Clock is what the records of a feed say of its writer's clock.
type Clock struct {
	// Latest is the greatest stamp: what is changed after it was seen has to get a greater one.
	Latest record.Stamp
	// Wall is the greatest wall time, in ms since 1970, that the writer read from its own clock. A stamp that had to be greater than one seen keeps the wall time of
	// that one and counts the logical part up, so those with 0 there are the writer's own.
	Wall uint64
}

// saw takes in the stamp of one record.
func (c *Clock) saw(s record.Stamp) {
	if c.Latest.Before(s) {
		c.Latest = s
	}
	if s.Logical == 0 {
		c.Wall = max(c.Wall, s.Wall)
	}
}

// encode is the row: wall (8) and logical (4) of Latest, then Wall (8), all big endian.
func (c Clock) encode() []byte {
	b := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, c.Latest.Wall), c.Latest.Logical)
	return binary.BigEndian.AppendUint64(b, c.Wall)
}

func (t *txn) readClock(feed hypercore.Key) (c Clock, err error) {
	b, err := t.get(feedRow(rowClock, feed))
	if err != nil || b == nil {
		return c, err
	}
	if len(b) != 20 {
		return c, ErrDamaged
	}
	c.Latest = record.Stamp{Wall: binary.BigEndian.Uint64(b), Logical: binary.BigEndian.Uint32(b[8:])}
	c.Wall = binary.BigEndian.Uint64(b[12:])
	return c, nil
}

// Clock returns what was folded of feed says of its writer's clock; zero if nothing was.
func (v *View) Clock(feed hypercore.Key) (c Clock, err error) {
	err = v.read(func(t *txn) error {
		c, err = t.readClock(feed)
		return err
	})
	return c, err
}
