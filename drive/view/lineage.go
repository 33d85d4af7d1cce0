package view

import (
	"encoding/binary"
	"slices"

	"golang.org/x/crypto/blake2b"

	"hyphafs.org/hyphafs/drive/record"
)

// Past returns version v of inode id as its writer published it, complete with the extents that stand in pages; nil if that is not here or no such record. Nobody changes
// what it returns. It is called while a row is read, and asked only for versions that were folded.
type Past func(id record.ID, v record.Version) (*record.Inode, error)

// maxLineage bounds how many versions of an inode a merge looks at: what one node does to a file in a day, if it never rests, while another changes it apart from that. Where
// there are more, those of which nothing older is known count as changes of everything.
const maxLineage = 1 << 13

// maxMerges is how many merges are kept in memory, those of the inodes that were asked for last.
const maxMerges = 256

// The parts of an inode that are merged each for itself. Beside them there is one for each extended attribute; ctime is the latest of all heads'.
const (
	partContent  = "content" // kind, size, bytes, target of a symlink, device number
	partMode     = "mode"    // 01777
	partSetID    = "set-id"  // 06000: a write clears them, which is no chmod
	partOwner    = "owner"
	partAtime    = "atime"
	partMtime    = "mtime"
	partXattrs   = "xattrs" // all of them, where they are too many to be put together
	partUnknown  = "unknown"
	partOneXattr = "xattr " // and its name
)

// ancestor is what a merge needs of one version of an inode.
type ancestor struct {
	stamp    record.Stamp
	replaces []record.Version
	parts    map[string]string // comparable; "": the attribute is not there
}

// ancestorAt names one.
type ancestorAt struct {
	id      record.ID
	version record.Version
}

// ancestor returns version v of inode id; nil if it was not folded or is not here.
func (t *txn) ancestor(id record.ID, v record.Version) (*ancestor, error) {
	if a, ok := t.view.ancestors.Get(ancestorAt{id, v}); ok {
		return a, nil
	}
	position, err := t.count(feedRow(rowPosition, v.Feed))
	if err != nil || v.Seq >= position || t.view.past == nil {
		return nil, err
	}
	rec, err := t.view.past(id, v)
	if err != nil || rec == nil {
		return nil, err
	}
	a := newAncestor(rec)
	t.view.ancestors.Add(ancestorAt{id, v}, a)
	return a, nil
}

func newAncestor(n *record.Inode) *ancestor {
	number := func(x int64) string { return string(binary.BigEndian.AppendUint64(nil, uint64(x))) }
	owner := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(n.Owner[:], n.UID), n.GID)
	parts := map[string]string{
		partContent: digest((&record.Inode{Kind: n.Kind, Size: n.Size, Extents: joined(n.Extents), Pages: pagesAlone(n), Target: n.Target, Rdev: n.Rdev}).Encode()),
		partMode:    number(int64(n.Mode &^ setID)),
		partSetID:   number(int64(n.Mode & setID)),
		partOwner:   string(owner),
		partAtime:   number(n.Atime),
		partMtime:   number(n.Mtime),
		partXattrs:  digest((&record.Inode{Xattrs: n.Xattrs}).Encode()),
		partUnknown: digest(n.Unknown),
	}
	for _, x := range n.Xattrs {
		parts[partOneXattr+x.Name] = digest(x.Value)
	}
	return &ancestor{n.Stamp, n.Replaces, parts}
}

// setID are the bits of a mode that a write clears.
const setID = 0o6000

func digest(b []byte) string {
	sum := blake2b.Sum256(b)
	return string(sum[:16])
}

// joined is extents with those joined that go on in file and feed: whether they are depends on who wrote them down.
func joined(extents []record.Extent) (out []record.Extent) {
	for _, e := range extents {
		if k := len(out) - 1; k >= 0 && out[k].Feed == e.Feed && out[k].Block+out[k].Count == e.Block && out[k].Seq+out[k].Count == e.Seq {
			out[k].Count += e.Count
			continue
		}
		out = append(out, e)
	}
	return out
}

// pagesAlone is the pages of an inode whose extents nobody read.
func pagesAlone(n *record.Inode) []record.Page {
	if len(n.Extents) > 0 {
		return nil
	}
	return n.Pages
}

// kin is a version in a lineage.
type kin struct {
	*ancestor
	version record.Version
	parents []int // the versions that it replaced, as far as they are in the lineage
}

// lineage is versions of an inode by their stamps, so that parents are before children: several heads, and what they came from until it is one version.
type lineage []kin

// lineage follows heads into the past, always the newest version next, until all come from one. at is where each head stands; whole says that no version was missing.
func (t *txn) lineage(id record.ID, heads []head[*record.Inode]) (l lineage, at []int, whole bool, err error) {
	known := map[record.Version]*ancestor{}
	whole = true
	var open []record.Version // known and not followed
	for _, h := range heads {
		a, err := t.ancestor(id, h.version)
		if err != nil {
			return nil, nil, false, err
		}
		if a == nil {
			a, whole = newAncestor(h.record), false
		}
		known[h.version], open = a, append(open, h.version)
	}
	for followed := 0; len(open) > 1 && followed < maxLineage; followed++ {
		newest := slices.MaxFunc(open, func(a, b record.Version) int {
			if record.Less(known[a].stamp, a, known[b].stamp, b) {
				return -1
			}
			return 1
		})
		open = slices.DeleteFunc(open, func(v record.Version) bool { return v == newest })
		for _, v := range known[newest].replaces {
			if known[v] != nil {
				continue
			}
			a, err := t.ancestor(id, v)
			if err != nil {
				return nil, nil, false, err
			}
			if a == nil {
				whole = false
				continue
			}
			known[v], open = a, append(open, v)
		}
	}
	l, at = ordered(known, heads)
	return l, at, whole, nil
}

// ordered puts the known versions in order, which is that of their stamps: who replaces a version has a greater one. Who says otherwise is not believed. The second result
// is where heads stand.
func ordered(known map[record.Version]*ancestor, heads []head[*record.Inode]) (l lineage, at []int) {
	for v, a := range known {
		l = append(l, kin{ancestor: a, version: v})
	}
	slices.SortFunc(l, func(a, b kin) int {
		if record.Less(a.stamp, a.version, b.stamp, b.version) {
			return -1
		}
		return 1
	})
	index := make(map[record.Version]int, len(l))
	for i := range l {
		for _, v := range l[i].replaces {
			if p, ok := index[v]; ok {
				l[i].parents = append(l[i].parents, p)
			}
		}
		index[l[i].version] = i
	}
	for _, h := range heads {
		at = append(at, index[h.version])
	}
	return l, at
}

// origins returns for each version which one a part of it comes from: the last that changed it.
//
// A version may have the content of a head that it does not replace, since something else in that is kept: what its writer was shown was merged. No two writes make the same
// content, but to cut the same file alike, so that is known by itself. Of other parts such a version counts as a change.
func (l lineage) origins(part string) []int {
	o := make([]int, len(l))
	first := map[string]int{}
	var parents []int
	for i, k := range l {
		value := k.parts[part]
		parents = parents[:0]
		for _, p := range k.parents {
			parents = append(parents, o[p])
		}
		from := l.newest(parents)
		same, is := first[value]
		switch {
		case len(from) == 1 && l[from[0]].parts[part] == value:
			o[i] = from[0]
		case part == partContent && is && !slices.ContainsFunc(from, func(w int) bool { return !l.before(w, same) }):
			o[i] = same
		default:
			o[i] = i
		}
		if !is {
			first[value] = i
		}
	}
	return o
}

// newest keeps of some versions those that no other of them comes from.
func (l lineage) newest(of []int) []int {
	if len(of) < 2 {
		return of
	}
	of = slices.Compact(slices.Sorted(slices.Values(of)))
	var out []int
	for i, a := range of {
		if !slices.ContainsFunc(of[i+1:], func(b int) bool { return l.before(a, b) }) {
			out = append(out, a)
		}
	}
	return out
}

// before reports whether b comes from a.
func (l lineage) before(a, b int) bool {
	seen := map[int]bool{}
	for open := []int{b}; len(open) > 0; {
		i := open[len(open)-1]
		open = open[:len(open)-1]
		for _, p := range l[i].parents {
			if p == a {
				return true
			}
			if p > a && !seen[p] {
				seen[p] = true
				open = append(open, p)
			}
		}
	}
	return false
}
