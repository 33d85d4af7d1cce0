package view

import (
	"fmt"
	"slices"

	"hyphafs.org/hyphafs/drive/record"
)

// settle makes what is shown fit the heads that this fold changed: first where every directory stands (rules 3 and 4), then what is shown although
// it was deleted (rule 5), which depends on what is shown below it, and last whose records are awaited.
func (f *fold) settle() error {
	if err := f.placeDirs(); err != nil {
		return err
	}
	q := shows{fold: f, waiting: map[record.ID]bool{}, counted: map[place]size{}}
	for id := range f.ids {
		q.push(id)
	}
	for _, p := range slices.Clone(f.edited) {
		if err := q.recount(p); err != nil {
			return err
		}
	}
	for len(q.order) > 0 { // ends, since directories stand in a forest
		id := q.order[0]
		q.order = q.order[1:]
		delete(q.waiting, id)
		if err := q.show(id); err != nil {
			return err
		}
	}
	for id := range f.ids {
		h, err := f.inode(id)
		if err != nil {
			return err
		}
		if err := f.mark(idRow(rowAwaited, id), len(h.heads) == 0); err != nil {
			return err
		}
	}
	return nil
}

// position is where a directory stands while its place is being found.
type position struct {
	entry place                // the greatest live head that names it, or else the greatest version that ever did
	by    head[*record.Dirent] // the version there
	live  []place              // the places where live heads name it
	at    place                // where it is shown
	name  string               // by which
	falls int                  // how often it fell out of a cycle
}

// forest finds the place of every directory. Those it did not load stand where their home says.
type forest struct {
	*fold
	at map[record.ID]*position
}

// placeDirs finds the place of the directories whose entries changed. A directory stands at its greatest live entry (rule 3), and one that was
// deleted where the greatest version stood that ever named it. Of each cycle the directory with the greatest entry falls to
// where it was moved from, from another cycle to the root (rule 4).
//
// Before, the directories stood in a forest in which only the fallen ones were not at their entry: a cycle of now has one of these in it, or one whose
// entries changed. Cycles have no directory in common, and to break one changes no other: the order in which they are found does not matter.
func (f *fold) placeDirs() error {
	if len(f.dirs) == 0 {
		return nil
	}
	g := forest{f, map[record.ID]*position{}}
	var suspects []record.ID
	for id := range f.dirs {
		suspects = append(suspects, id)
	}
	if err := f.tx.Scan([]byte{rowFallen}, nil, func(row, _ []byte) (bool, error) {
		suspects = append(suspects, record.ID(row[1:]))
		return true, nil
	}); err != nil {
		return err
	}
	for _, id := range suspects {
		if _, err := g.load(id); err != nil {
			return err
		}
	}
	if err := g.breakCycles(suspects); err != nil {
		return err
	}
	for id, p := range g.at {
		if err := f.stand(id, p); err != nil {
			return err
		}
	}
	return nil
}

// load puts a directory at its entry.
func (g *forest) load(id record.ID) (*position, error) {
	if p := g.at[id]; p != nil {
		return p, nil
	}
	p := &position{}
	var ever head[*record.Dirent]
	var stood place
	err := g.eachNamed(id, func(at place, n named) error {
		if ever.record == nil || less(ever, n.ever) {
			ever, stood = n.ever, at
		}
		if n.live.record != nil {
			p.live = append(p.live, at)
			if p.by.record == nil || less(p.by, n.live) {
				p.by, p.entry = n.live, at
			}
		}
		return nil
	})
	if err == nil && ever.record == nil {
		err = fmt.Errorf("directory %s: %w", id, ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	if p.by.record == nil {
		p.by, p.entry = ever, stood
	}
	p.at = p.entry
	g.at[id] = p
	return p, nil
}

// parent returns the directory that id stands in; false for the root and for one that nothing here ever named.
func (g *forest) parent(id record.ID) (record.ID, bool, error) {
	if p := g.at[id]; p != nil {
		return p.at.dir, true, nil
	}
	if id == record.Root {
		return id, false, nil
	}
	h, err := g.home(id)
	if err != nil || !h.dir {
		return id, false, err
	}
	return h.at.dir, true, nil
}

// breakCycles breaks every cycle that one of suspects is in or below.
func (g *forest) breakCycles(suspects []record.ID) error {
	free := map[record.ID]bool{} // no cycle above
	for len(suspects) > 0 {
		id := suspects[len(suspects)-1]
		var path []record.ID
		on := map[record.ID]int{}
		cycle := false
		for at := id; !free[at]; {
			if i, ok := on[at]; ok {
				if err := g.fall(path[i:]); err != nil {
					return err
				}
				cycle = true
				break
			}
			on[at] = len(path)
			path = append(path, at)
			up, ok, err := g.parent(at)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			at = up
		}
		if cycle {
			continue // look again
		}
		for _, at := range path {
			free[at] = true
		}
		suspects = suspects[:len(suspects)-1]
	}
	return nil
}

// fall breaks a cycle.
func (g *forest) fall(cycle []record.ID) error {
	var falls *position
	for _, id := range cycle {
		p, err := g.load(id)
		if err != nil {
			return err
		}
		if falls == nil || less(falls.by, p.by) {
			falls = p
		}
	}
	falls.falls++
	to := falls.by.record.MovedFrom
	if to != nil {
		gone, err := g.gone(to.Dir)
		if err != nil {
			return err
		}
		if gone {
			to = nil
		}
	}
	if to == nil || falls.falls > 1 {
		to = &record.Place{Dir: record.Root, Name: falls.by.record.Name}
		if !record.ValidName(to.Dir, to.Name) { // .hypha
			to.Name = "_" + to.Name
		}
	}
	t, err := parseToken(g.view.keys.Token(to.Dir, to.Name))
	falls.at, falls.name = place{to.Dir, t}, to.Name
	return err
}

// gone reports whether no live head names directory id.
func (t *txn) gone(id record.ID) (bool, error) {
	if id == record.Root {
		return false, nil
	}
	h, err := t.home(id)
	if err != nil || !h.dir {
		return true, err
	}
	n, err := t.count(aboutRow(rowLive, id))
	return n == 0, err
}

// stand notes the place that was found for id.
func (f *fold) stand(id record.ID, p *position) error {
	h, err := f.home(id)
	if err != nil {
		return err
	}
	if h.guest && h.at != p.at {
		s, err := f.edit(h.at)
		if err != nil {
			return err
		}
		s.leave(id)
		h.guest = false
	}
	if h.entry != p.entry || h.at != p.at || h.name != p.name {
		h.entry, h.at, h.name = p.entry, p.at, p.name
		f.dirtyH[id] = true
	}
	for _, at := range p.live {
		s, err := f.slot(at)
		if err != nil {
			return err
		}
		if slices.Contains(s.hidden, id) != (at != p.at) {
			if s, err = f.edit(at); err != nil {
				return err
			}
			s.hide(id, at != p.at)
		}
	}
	f.ids[id] = true
	return f.mark(idRow(rowFallen, id), p.at != p.entry)
}

// shows is the work that is left of rule 5, and what the counters say so far.
type shows struct {
	*fold
	order   []record.ID
	waiting map[record.ID]bool
	counted map[place]size
}

func (q *shows) push(id record.ID) {
	if id != record.Root && !q.waiting[id] {
		q.waiting[id] = true
		q.order = append(q.order, id)
	}
}

// recount brings the counters of p's directory up to date. Whether that shows something decides about it if it was deleted.
func (q *shows) recount(p place) error {
	was, ok := q.counted[p]
	if !ok {
		was = q.before[p].size
	}
	s, err := q.slot(p)
	if err != nil {
		return err
	}
	is := s.size()
	q.counted[p] = is
	if err := q.add(aboutRow(rowSubdirs, p.dir), is.dirs-was.dirs); err != nil {
		return err
	}
	if is.entries == was.entries {
		return nil
	}
	q.push(p.dir)
	return q.add(aboutRow(rowChildren, p.dir), is.entries-was.entries)
}

// show makes id a guest where it has to be shown although no live head says so, or takes it away from where it need not be any more.
func (q *shows) show(id record.ID) error {
	h, err := q.home(id)
	if err != nil {
		return err
	}
	g, at, err := q.wanted(id, h)
	if err != nil {
		return err
	}
	if h.guest && (g == nil || at != h.at) {
		if err := q.change(h.at, func(s *slot) { s.leave(id) }); err != nil {
			return err
		}
	}
	if g != nil {
		s, err := q.slot(at)
		if err != nil {
			return err
		}
		if is := s.guest(id); is == nil || !is.equal(g) {
			if err := q.change(at, func(s *slot) { s.host(*g) }); err != nil {
				return err
			}
		}
	}
	now := *h
	now.guest = g != nil
	if !h.dir {
		now.entry, now.at = at, at
	}
	if now != *h {
		*h = now
		q.dirtyH[id] = true
	}
	return nil
}

func (q *shows) change(p place, edit func(*slot)) error {
	s, err := q.edit(p)
	if err != nil {
		return err
	}
	edit(s)
	return q.recount(p)
}

// wanted returns where id has to be a guest, nil if nowhere: a directory that does not stand at an entry and an inode that no entry names, if a head of
// it was not deleted or, in a directory, something is shown.
func (q *shows) wanted(id record.ID, h *home) (*guest, place, error) {
	n, err := q.count(aboutRow(rowLive, id))
	if err != nil || n > 0 && !h.dir {
		return nil, place{}, err
	}
	if n == 0 {
		alive, err := q.alive(id, h)
		if err != nil || !alive {
			return nil, h.at, err
		}
	}
	if !h.dir {
		by, at, err := q.stood(id)
		if err != nil || by.record == nil {
			return nil, place{}, err
		}
		return &guest{by, at}, at, nil
	}
	s, err := q.slot(h.at)
	if err != nil {
		return nil, h.at, err
	}
	if s.live().of(id).record != nil {
		return nil, h.at, nil
	}
	entry, ok, err := q.namedAt(id, h.entry)
	if err != nil || !ok {
		return nil, h.at, err
	}
	by := entry.ever
	if n > 0 {
		by = entry.live
	}
	rec := *by.record
	rec.Kind = record.Dir
	if h.at != h.entry {
		rec.Name = h.name
	}
	return &guest{head[*record.Dirent]{by.version, &rec}, h.entry}, h.at, nil
}

// alive reports whether an inode that no live head names has something that no deletion has seen.
func (q *shows) alive(id record.ID, h *home) (bool, error) {
	heads, err := q.inode(id)
	if err != nil || len(heads.heads) == 0 {
		return false, err
	}
	unseen, err := q.unseen(id, heads)
	if err != nil || unseen || !h.dir {
		return unseen, err
	}
	n, err := q.count(aboutRow(rowChildren, id))
	return n > 0, err
}

// stood returns the greatest version that ever named id, and where; nil if none did.
func (q *shows) stood(id record.ID) (by head[*record.Dirent], at place, err error) {
	err = q.eachNamed(id, func(p place, n named) error {
		if by.record == nil || less(by, n.ever) {
			by, at = n.ever, p
		}
		return nil
	})
	return by, at, err
}
