package drive

import "fmt"

// New data leave some of the disk free: else nothing could be deleted on a full one, since that is journalled, nor published.
const (
	maxReserve = 64 << 20 // bytes
	maxGrant   = 16 << 20 // bytes that are written without asking the disk
	newInode   = 1 << 10  // bytes that a new file takes, about
)

// reserve is how much of the disk new data leave free, in bytes.
func reserve(s Statfs) uint64 { return min(s.Total/16, maxReserve) }

// room is nil if n bytes of new data may be written, and else ErrNoSpace.
func (d *Drive) room(n int) error {
	if d.granted.Add(-int64(n)) >= 0 || d.cfg.Work == nil {
		return nil
	}
	d.granted.Store(0)
	s, err := d.cfg.Work.Statfs()
	if err != nil || s.Total == 0 { // not known: the disk itself will say
		return err
	}
	if s.Available < reserve(s)+uint64(n) {
		return fmt.Errorf("%w: %d bytes are free, of which %d are kept", ErrNoSpace, s.Available, reserve(s))
	}
	d.granted.Store(int64(min((s.Available-reserve(s)-uint64(n))/8, maxGrant)))
	return nil
}
