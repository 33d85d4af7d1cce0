package view

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hyphafs.org/hyphafs/drive/record"
)

// merge is several live heads of an inode shown as one (rule 1).
type merge struct {
	heads  []head[*record.Inode] // ascending by version
	parts  []part                // those in which the heads differ
	winner int                   // the head that decides where several changed the same
	lost   []bool                // of each head: it has a change that is not shown
}

// part is one part of an inode in which the heads differ.
type part struct {
	name   string
	values []string // of each head
	// newest are the heads that have a change of it which no other head replaced, ascending; changed says when that was.
	newest  []int
	changed []moment
}

// moment is when a version was made: the total order of the merge rules.
type moment struct {
	stamp   record.Stamp
	version record.Version
}

func (m moment) compare(o moment) int {
	return b2i(record.Less(o.stamp, o.version, m.stamp, m.version)) - b2i(record.Less(m.stamp, m.version, o.stamp, o.version))
}

// contested reports whether several changed it, apart from each other and not to the same.
func (p *part) contested() bool {
	return slices.ContainsFunc(p.newest, func(i int) bool { return p.values[i] != p.values[p.newest[0]] })
}

// from returns the head that says what the part is, if decides is the head that decides.
func (p *part) from(decides int) int {
	if slices.Contains(p.newest, decides) {
		return decides
	}
	return slices.MaxFunc(p.newest, p.compare)
}

// compare orders heads by when they changed the part.
func (p *part) compare(a, b int) int { return p.changed[a].compare(p.changed[b]) }

// merge merges the live heads of an inode; ErrDamaged if there is none.
func (t *txn) merge(id record.ID, all *heads[*record.Inode]) (*merge, error) {
	var live []head[*record.Inode]
	for _, h := range all.heads {
		if !h.record.Removed {
			live = append(live, h)
		}
	}
	switch len(live) {
	case 0:
		return nil, fmt.Errorf("inode %s has no version: %w", id, ErrDamaged)
	case 1:
		return &merge{heads: live, lost: []bool{false}}, nil
	}
	if m, ok := t.view.merges.Get(id); ok && slices.EqualFunc(m.heads, live, func(a, b head[*record.Inode]) bool { return a.version == b.version }) {
		return &merge{live, m.parts, m.winner, m.lost}, nil
	}
	l, at, whole, err := t.lineage(id, live)
	if err != nil {
		return nil, err
	}
	m := l.merge(live, at)
	if whole {
		t.view.merges.Add(id, m.bare())
	}
	return m, nil
}

// bare is m without the records.
func (m *merge) bare() *merge {
	b := &merge{make([]head[*record.Inode], len(m.heads)), m.parts, m.winner, m.lost}
	for i, h := range m.heads {
		b.heads[i].version = h.version
	}
	return b
}

// merge merges heads, which stand at those places of the lineage.
func (l lineage) merge(heads []head[*record.Inode], at []int) *merge {
	m := &merge{heads: heads, lost: make([]bool, len(heads))}
	for i := range heads {
		if m.moment(i).compare(m.moment(m.winner)) > 0 {
			m.winner = i
		}
	}
	for _, name := range m.differing(l, at) {
		p := l.part(name, at)
		if name == partContent && p.contested() {
			m.winner = slices.MaxFunc(p.newest, func(a, b int) int { return cmp.Or(p.compare(a, b), m.moment(a).compare(m.moment(b))) })
		}
		m.parts = append(m.parts, p)
	}
	if m.heads[m.winner].record.Kind == record.Dir { // nobody keeps or drops a version of a directory
		return m
	}
	for _, p := range m.parts {
		if p.name == partAtime || p.name == partMtime {
			continue
		}
		shown := p.values[p.from(m.winner)]
		for _, i := range p.newest {
			m.lost[i] = m.lost[i] || p.values[i] != shown
		}
	}
	return m
}

// unseen reports whether the live heads of an inode have something that no deletion among its heads has seen. Times are nothing: that an inode lost or got another name, or that
// something was made in it and removed again, brings nothing back that was deleted elsewhere.
func (t *txn) unseen(id record.ID, all *heads[*record.Inode]) (bool, error) {
	if n := liveHeads(all); n == 0 || n == len(all.heads) {
		return n > 0, nil
	}
	l, at, _, err := t.lineage(id, all.heads)
	if err != nil {
		return false, err
	}
	names := map[string]bool{}
	for _, k := range l {
		for name := range k.parts {
			names[name] = true
		}
	}
	delete(names, partAtime)
	delete(names, partMtime)
	for name := range names {
		o := l.origins(name)
		for i, h := range all.heads {
			seen := h.record.Removed
			for j, by := range all.heads {
				seen = seen || by.record.Removed && l.before(o[at[i]], at[j])
			}
			if !seen {
				return true, nil
			}
		}
	}
	return false, nil
}

// moment is when head i was made.
func (m *merge) moment(i int) moment { return moment{m.heads[i].record.Stamp, m.heads[i].version} }

// differing lists the parts in which the heads differ, in an order that is the same everywhere.
func (m *merge) differing(l lineage, at []int) []string {
	names := map[string]bool{}
	for _, h := range at {
		for name := range l[h].parts {
			names[name] = true
		}
	}
	whole := m.tooManyXattrs()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(names)), func(name string) bool {
		differs := slices.ContainsFunc(at, func(h int) bool { return l[h].parts[name] != l[at[0]].parts[name] })
		return !differs || name == partXattrs && !whole || strings.HasPrefix(name, partOneXattr) && whole
	})
}

// tooManyXattrs reports whether what the heads have of attributes could be more than an inode may have: then those of one head are taken.
func (m *merge) tooManyXattrs() bool {
	most := map[string]int{}
	for _, h := range m.heads {
		for _, x := range h.record.Xattrs {
			most[x.Name] = max(most[x.Name], len(x.Name)+len(x.Value))
		}
	}
	total := 0
	for _, n := range most {
		total += n
	}
	return total > record.MaxXattr || len(most) > record.MaxXattrs
}

// part finds who changed a part of the heads, which stand at those places of the lineage.
func (l lineage) part(name string, at []int) part {
	p := part{name: name}
	o := l.origins(name)
	var from []int
	for _, h := range at {
		from = append(from, o[h])
		p.values = append(p.values, l[h].parts[name])
		p.changed = append(p.changed, moment{l[o[h]].stamp, l[o[h]].version})
	}
	newest := l.newest(slices.Clone(from))
	for i := range at {
		if slices.Contains(newest, from[i]) {
			p.newest = append(p.newest, i)
		}
	}
	return p
}

// as is what the inode is if head decides: the winner, to be shown, or another, which the person may keep. It has that head's stamp and what that replaces.
func (m *merge) as(decides int) record.Inode {
	n := *m.heads[decides].record
	for _, p := range m.parts {
		switch from := m.heads[p.from(decides)].record; {
		case p.name == partContent:
			n.Kind, n.Size, n.Extents, n.Pages, n.Target, n.Rdev = from.Kind, from.Size, from.Extents, from.Pages, from.Target, from.Rdev
		case p.name == partMode:
			n.Mode = n.Mode&setID | from.Mode&^setID
		case p.name == partSetID:
			n.Mode = n.Mode&^setID | from.Mode&setID
		case p.name == partOwner:
			n.Owner, n.UID, n.GID = from.Owner, from.UID, from.GID
		case p.name == partXattrs:
			n.Xattrs = from.Xattrs
		case p.name == partUnknown:
			n.Unknown = from.Unknown
		case p.name == partAtime:
			n.Atime = latest(m, &p, func(n *record.Inode) int64 { return n.Atime })
		case p.name == partMtime:
			n.Mtime = latest(m, &p, func(n *record.Inode) int64 { return n.Mtime })
		default:
			n.Xattrs = withXattr(n.Xattrs, strings.TrimPrefix(p.name, partOneXattr), from.Xattrs)
		}
	}
	for _, h := range m.heads {
		n.Ctime = max(n.Ctime, h.record.Ctime)
	}
	return n
}

// latest is the latest of the times that somebody set.
func latest(m *merge, p *part, of func(*record.Inode) int64) int64 {
	t := of(m.heads[p.newest[0]].record)
	for _, i := range p.newest {
		t = max(t, of(m.heads[i].record))
	}
	return t
}

// withXattr is xs with attribute name as it is in from, or without it.
func withXattr(xs []record.Xattr, name string, from []record.Xattr) []record.Xattr {
	named := func(x record.Xattr, name string) int { return strings.Compare(x.Name, name) }
	i, has := slices.BinarySearchFunc(xs, name, named)
	j, is := slices.BinarySearchFunc(from, name, named)
	xs = slices.Clone(xs)
	switch {
	case has && is:
		xs[i] = from[j]
	case has:
		xs = slices.Delete(xs, i, i+1)
	case is:
		xs = slices.Insert(xs, i, from[j])
	}
	return xs
}
