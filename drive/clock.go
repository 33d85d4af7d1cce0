package drive

import (
	"fmt"
	"math"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// stamp returns the next stamp of this node, greater than after.
func (d *Drive) stamp(after record.Stamp) record.Stamp {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.nextStamp(after)
}

// nextStamp is stamp with mu held. It follows every stamp that was folded, whatever its wall time: a change made after another one was seen comes behind it in the order of
// all. A peer's clock that is far ahead costs the meaning of the wall time, which clockAlarms tells; what was made without knowledge of it
// is a head of its own as ever, kept and shown.
func (d *Drive) nextStamp(after record.Stamp) record.Stamp {
	now := record.Stamp{Wall: uint64(min(max(d.cfg.Now().UnixMilli(), 1), record.MaxWall))}
	for _, s := range []record.Stamp{d.clock, after} {
		if !s.Before(now) {
			now = following(s)
		}
	}
	d.clock = now
	return now
}

// following returns the stamp behind s. Its logical part is never 0, which is for wall times read from a clock. The last stamp of all is followed by itself.
func following(s record.Stamp) record.Stamp {
	switch {
	case s.Logical < math.MaxUint32:
		s.Logical++
	case s.Wall < record.MaxWall:
		s = record.Stamp{Wall: s.Wall + 1, Logical: 1}
	}
	return s
}

// follow takes up the stamps that were folded of feed. Called with mu held.
func (d *Drive) follow(feed hypercore.Key) error {
	c, err := d.view.Clock(feed)
	d.clock = later(d.clock, c.Latest)
	return err
}

// readClocks takes up the stamps of all that was folded before this start.
func (d *Drive) readClocks() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.db.Writers() {
		if err := d.follow(w.Key); err != nil {
			return err
		}
	}
	return nil
}

// maxAhead is how far a writer's clock may be ahead of this node's before a person is told.
const maxAhead = 24 * time.Hour

// clockAlarms says which writers' clocks were far ahead of this node's.
func (d *Drive) clockAlarms() (alarms []string, err error) {
	now := d.cfg.Now()
	nodes, err := d.Nodes()
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		c, err := d.view.Clock(n.Feed)
		if err != nil {
			return nil, err
		}
		if wall := time.UnixMilli(int64(min(c.Wall, record.MaxWall))); wall.Sub(now) > maxAhead {
			alarms = append(alarms, fmt.Sprintf("%s wrote when its clock said %s, which is far ahead of this node's: until then, of changes made at the same time its own win and the others are kept as conflicts; set the clock that is wrong",
				record.NodeDir(n.Name, n.Feed), wall.UTC().Format(time.DateOnly)))
		}
	}
	return alarms, nil
}
