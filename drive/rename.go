package drive

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hyphafs.org/hyphafs/drive/record"
)

// Rename moves an entry, over an existing one if there is one. renameat2(2) says what the flags do.
func (d *Drive) Rename(ctx context.Context, dir record.ID, name string, toDir record.ID, toName string, flags RenameFlags) error {
	if err := d.mayCreate(toDir, toName); err != nil {
		return err
	}
	d.pace.wait(ctx)
	if err := d.withRoom(ctx, func() error { return d.room(recordNeed) }); err != nil {
		return err
	}
	if flags&^(RenameNoReplace|RenameExchange) != 0 || flags == RenameNoReplace|RenameExchange {
		return ErrInvalid
	}
	err := d.rename(dir, name, toDir, toName, flags, false)
	if errors.Is(err, errPromise) {
		d.owing.RLock()
		defer d.owing.RUnlock()
		err = d.rename(dir, name, toDir, toName, flags, true)
	}
	return err
}

// rename is Rename. If it has to promise something and may not, it changes nothing and is errPromise.
func (d *Drive) rename(dir record.ID, name string, toDir record.ID, toName string, flags RenameFlags, mayPromise bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, err := d.lookup(dir, name)
	if err != nil {
		return err
	}
	if err := d.isLiveDir(toDir); err != nil {
		return err
	}
	to, err := d.lookup(toDir, toName)
	exists := err == nil
	if err != nil && !errors.Is(err, ErrNotExist) {
		return err
	}
	switch {
	case exists && flags&RenameNoReplace != 0:
		return ErrExist
	case !exists && flags&RenameExchange != 0:
		return ErrNotExist
	case exists && from.id == to.id:
		return nil
	}
	for _, id := range []record.ID{from.id, to.id} {
		if err := d.mayStay(id, dir, name, toDir, toName); err != nil {
			return err
		}
	}
	c := d.change()
	defer c.end()
	if exists {
		c.promise(from.id)
		if flags&RenameExchange != 0 {
			c.promise(to.id)
		}
	}
	if len(c.promised) > 0 && !mayPromise {
		return errPromise
	}
	if flags&RenameExchange != 0 {
		c.put(dir, name, from, to.id, to.kind, false).moved(to)
		c.put(toDir, toName, to, from.id, from.kind, false).moved(from)
	} else if err := c.move(dir, name, from, toDir, toName, to, exists); err != nil {
		return err
	}
	for _, id := range slices.Compact([]record.ID{dir, toDir}) {
		if err := c.touchDir(id); err != nil {
			return err
		}
	}
	if err := c.commit(); err != nil {
		return err
	}
	if exists {
		d.bury(to.id)
	}
	return nil
}

// mayStay refuses to move what other nodes have into a place that stays on this node: there it would be lost to them. Programs then copy and delete.
func (d *Drive) mayStay(id, dir record.ID, name string, toDir record.ID, toName string) error {
	in := d.overlay.inodes[id]
	if id == (record.ID{}) || in != nil && !in.published {
		return nil
	}
	if d.staysHere(toDir, toName) && !d.staysHere(dir, name) {
		return fmt.Errorf("%q stays on this node: %w", toName, ErrCrossDevice)
	}
	return nil
}

// moved notes where the entry stood before, if other nodes know it, and that its stamp has to be greater: of two places of a directory the greater
// stamp counts.
func (e *entry) moved(from found) {
	if len(from.base) > 0 {
		p := from.place
		e.movedFrom = &p
	}
	e.stamp = later(e.stamp, from.stamp)
}

func later(a, b record.Stamp) record.Stamp {
	if a.Before(b) {
		return b
	}
	return a
}

// move renames from to to, over what to names if it exists.
func (c *change) move(dir record.ID, name string, from found, toDir record.ID, toName string, to found, exists bool) error {
	if exists {
		if err := c.d.removable(to, from.kind == record.Dir); err != nil {
			return err
		}
		if err := c.unname(to); err != nil {
			return err
		}
	}
	left := c.put(dir, name, from, from.id, from.kind, true)
	left.movedTo = &record.Place{Dir: to.place.Dir, Name: to.place.Name}
	arrived := c.put(toDir, toName, to, from.id, from.kind, false)
	arrived.moved(from)
	if from.entry != nil && from.entry.movedFrom != nil {
		arrived.movedFrom = from.entry.movedFrom
	}
	return nil
}
