package view

import (
	"maps"
	"slices"

	"hyphafs.org/hyphafs/drive/record"
)

// teller finds out what a fold made different, before it is flushed: what the rows still say was before, what the fold says is now.
type teller struct {
	*fold
	old     *txn
	merged  bool // directories are or were merged somewhere: nearly always not
	groups  [2]map[record.ID][]record.ID
	told    map[record.Place]bool
	changes []Change
}

// tell lists what this fold made different, and keeps the marks of what it edited.
func (f *fold) tell() ([]Change, error) {
	t := teller{fold: f, old: f.view.reader(f.tx), groups: [2]map[record.ID][]record.ID{{}, {}}, told: map[record.Place]bool{}}
	for _, p := range f.edited {
		s, err := f.slot(p)
		if err != nil {
			return nil, err
		}
		if err := f.mark(p.row(rowShared), s.size().entries > 1); err != nil {
			return nil, err
		}
		if err := f.add([]byte{rowTotals, 'm'}, s.size().merged-f.before[p].size.merged); err != nil {
			return nil, err
		}
	}
	for _, txn := range []*txn{t.old, f.txn} {
		n, err := txn.count([]byte{rowTotals, 'm'})
		if err != nil {
			return nil, err
		}
		t.merged = t.merged || n > 0
	}
	for _, p := range f.edited {
		if err := t.key(p); err != nil {
			return nil, err
		}
	}
	for _, id := range f.first {
		if err := t.appeared(id); err != nil {
			return nil, err
		}
	}
	for id := range f.touched {
		t.changes = append(t.changes, Change{ID: id})
	}
	return t.changes, nil
}

func (t *teller) tell(c Change) {
	if name := (record.Place{Dir: c.Dir, Name: c.Name}); !t.told[name] {
		t.told[name] = true
		t.changes = append(t.changes, c)
	}
	t.touched[c.Dir] = true
}

// compare tells how names of dir differ.
func (t *teller) compare(dir record.ID, before, now map[string]record.ID) {
	for name, was := range before {
		if _, still := now[name]; !still {
			t.tell(Change{Dir: dir, Name: name, Was: was})
		}
		t.touched[was] = true // the number of its links may differ
	}
	for name, id := range now {
		if was := before[name]; was != id {
			t.tell(Change{ID: id, Dir: dir, Name: name, Was: was})
		}
		t.touched[id] = true
	}
}

// key tells what became of an edited key.
func (t *teller) key(p place) error {
	if t.merged {
		return t.mergedKey(p)
	}
	now, err := t.shownAt(p)
	t.compare(p.dir, t.before[p].names, now)
	return err
}

// appeared tells of the names of an inode whose first record arrived: until now who asked for them was told that there is nothing, and may remember it.
func (t *teller) appeared(id record.ID) error {
	return t.eachPlace(id, func(p place) error {
		if before, edited := t.before[p]; edited && !t.merged && !before.shows(id) {
			return nil // if it is shown there now, key told that
		}
		is, _, err := t.groupsOf(p.dir)
		if err != nil {
			return err
		}
		s, err := t.slot(p)
		if err != nil || len(s.entities()) == 0 {
			return err
		}
		now, err := t.meaning(t.txn, is, s.entities()[0].slotName)
		for name, means := range now {
			for _, dir := range is {
				if means == id {
					t.tell(Change{ID: id, Dir: dir, Name: name})
				}
			}
		}
		return err
	})
}

// groupsOf returns with which directories dir is shown as one, and with which it was.
func (t *teller) groupsOf(dir record.ID) (is, was []record.ID, err error) {
	if !t.merged {
		return []record.ID{dir}, []record.ID{dir}, nil
	}
	var both [2][]record.ID
	for i, txn := range []*txn{t.txn, t.old} {
		group, ok := t.groups[i][dir]
		if !ok {
			if group, err = txn.members(dir); err != nil {
				return nil, nil, err
			}
			t.groups[i][dir] = group
		}
		both[i] = group
	}
	return both[0], both[1], nil
}

// meaning is what name, and what is called after it in conflict, means in merged directories.
func (t *teller) meaning(txn *txn, dirs []record.ID, name string) (map[string]record.ID, error) {
	es, err := txn.lookup(dirs, name)
	if err != nil {
		return nil, err
	}
	err = txn.nameAll(es, func(name string) (bool, error) {
		es, err := txn.lookup(dirs, name)
		return len(es) > 0, err
	})
	shown := make(map[string]record.ID, len(es))
	for _, e := range es {
		shown[e.Name] = e.ID
	}
	return shown, err
}

// mergedKey is key where directories are merged: the name may mean something else in all directories that are shown as one with p's, and directories that are
// or were at p may be shown as one with others than before.
func (t *teller) mergedKey(p place) error {
	names, dirs, err := t.at(p)
	if err != nil {
		return err
	}
	for name := range names {
		if err := t.nameIn(p.dir, name); err != nil {
			return err
		}
	}
	return t.regroup(dirs)
}

// at lists the names that p stands for, of which there is one at most, and the directories that it shows or showed.
func (t *teller) at(p place) (names map[string]bool, dirs []record.ID, err error) {
	names = map[string]bool{}
	for _, txn := range []*txn{t.txn, t.old} {
		s, err := txn.shown(p)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range s.entities() {
			names[e.slotName] = true
			if e.Kind == record.Dir {
				dirs = append(dirs, e.dirs...)
			}
		}
	}
	return names, dirs, nil
}

// nameIn tells how the meaning of name differs in dir and in whatever is or was shown as one with it.
func (t *teller) nameIn(dir record.ID, name string) error {
	is, was, err := t.groupsOf(dir)
	if err != nil {
		return err
	}
	for _, d := range union(is, was) {
		is, was, err := t.groupsOf(d)
		if err != nil {
			return err
		}
		before, err := t.meaning(t.old, was, name)
		if err != nil {
			return err
		}
		now, err := t.meaning(t.txn, is, name)
		if err != nil {
			return err
		}
		t.compare(d, before, now)
	}
	return nil
}

// regroup tells of every name in those of dirs that are shown as one with others than before, and in the directories below.
func (t *teller) regroup(dirs []record.ID) error {
	done := map[record.ID]bool{}
	for len(dirs) > 0 {
		dir := dirs[0]
		dirs = dirs[1:]
		is, was, err := t.groupsOf(dir)
		if err != nil {
			return err
		}
		if done[dir] || slices.Equal(is, was) {
			continue
		}
		all := union(is, was)
		names := map[string]bool{}
		for _, d := range all {
			done[d] = true
			err := t.eachKey(d, func(p place) error {
				n, below, err := t.at(p)
				maps.Copy(names, n)
				dirs = append(dirs, below...)
				return err
			})
			if err != nil {
				return err
			}
		}
		for name := range names {
			for _, d := range all {
				if err := t.nameIn(d, name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// eachKey calls fn for every key of dir that shows something, or did.
func (t *teller) eachKey(dir record.ID, fn func(place) error) error {
	for _, p := range t.edited {
		if p.dir == dir {
			if err := fn(p); err != nil {
				return err
			}
		}
	}
	return t.tx.Scan(idRow(rowDirent, dir), nil, func(row, _ []byte) (bool, error) {
		p := parsePlace(row[1:])
		if _, edited := t.before[p]; edited {
			return true, nil
		}
		return true, fn(p)
	})
}

func union(a, b []record.ID) []record.ID {
	out := slices.Clone(a)
	for _, id := range b {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}
