package view_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
)

// newViewOf is a view that can look up in logs what an inode was.
func newViewOf(t testing.TB, logs []*log) *view.View {
	t.Helper()
	past := func(id record.ID, v record.Version) (*record.Inode, error) {
		for _, l := range logs {
			if l.feed != v.Feed || v.Seq == 0 || v.Seq > uint64(len(l.entries)) {
				continue
			}
			e := l.entries[v.Seq-1]
			if e.Key != record.InodeKey(id) {
				return nil, nil
			}
			plain, err := keys.Open(l.feed, e.Key, e.Value)
			if err != nil {
				return nil, err
			}
			return record.DecodeInode(plain)
		}
		return nil, nil
	}
	v, err := view.Open(view.NewMemory(), keys, [32]byte{9}, past, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// wrote is one change of a part of the file, with those that its writer was shown or that these replaced.
type wrote struct {
	value string
	after map[string]bool // values
}

// causes is who changed what after what: what a merge has to find out from records alone.
type causes map[string]map[string]wrote // part, value

// change notes that somebody to whom part was shown made it value.
func (c causes) change(part, shown, value string) {
	w := wrote{value, maps.Clone(c[part][shown].after)}
	if w.after == nil {
		w.after = map[string]bool{}
	}
	w.after[shown] = true
	c[part][value] = w
}

// newest are the values that nobody changed who was shown them.
func (c causes) newest(part string) (values []string) {
	for v := range c[part] {
		if !slices.ContainsFunc(slices.Collect(maps.Values(c[part])), func(w wrote) bool { return w.after[v] }) {
			values = append(values, v)
		}
	}
	slices.Sort(values)
	return values
}

// The parts that the model changes, each to values that nobody else makes it.
const (
	target = "target" // which stands for the content: no extent is needed to tell one from another
	owner  = "owner"
	attrA  = "user.a"
	attrB  = "user.b"
)

func partOf(n *record.Inode, part string) string {
	switch part {
	case target:
		return n.Target
	case owner:
		return fmt.Sprint(n.UID)
	}
	for _, x := range n.Xattrs {
		if x.Name == part {
			return string(x.Value)
		}
	}
	return ""
}

func setPart(n *record.Inode, part string, value int) {
	switch part {
	case target:
		n.Target = fmt.Sprint(value)
	case owner:
		n.UID = uint32(value)
	default:
		n.Xattrs = slices.DeleteFunc(slices.Clone(n.Xattrs), func(x record.Xattr) bool { return x.Name == part })
		n.Xattrs = append(n.Xattrs, record.Xattr{Name: part, Value: fmt.Append(nil, value)})
		slices.SortFunc(n.Xattrs, func(a, b record.Xattr) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	}
}

// TestMergeFindsCauses: two or three nodes change one symlink, each what it is shown, and take over each other's records at random. A part that only one changed last is
// what that one said; of what several did one is shown and the content of the others kept; a change of anything but that hides no content; and all that in whatever order
// the records come.
func TestMergeFindsCauses(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		id := record.ID{5}
		var logs []*log
		n := rapid.IntRange(2, 3).Draw(rt, "nodes")
		for i := range n {
			logs = append(logs, &log{feed: hypercore.Key{byte(i + 1)}})
		}
		first := record.Inode{Kind: record.Symlink, Target: "0", Stamp: stamp(1)}
		logs[0].dirent(t, record.Root, record.Dirent{Name: "f", Inode: id, Kind: record.Symlink, Stamp: stamp(1)})
		logs[0].inode(t, id, first)
		model := causes{}
		for _, part := range []string{target, owner, attrA, attrB} {
			model[part] = map[string]wrote{partOf(&first, part): {value: partOf(&first, part)}}
		}
		taken := make([][]int, n)
		views := make([]*view.View, n)
		for i := range n {
			views[i], taken[i] = newViewOf(t, logs), make([]int, n)
			fold(t, views[i], logs[0], 0, 2)
			taken[i][0] = 2
		}
		take := func(node, from, to int) {
			if to > taken[node][from] {
				fold(t, views[node], logs[from], taken[node][from], to)
				taken[node][from] = to
			}
		}
		peaceful := true
		clock := uint64(1)
		for i := range rapid.IntRange(2, 20).Draw(rt, "steps") {
			node := rapid.IntRange(0, n-1).Draw(rt, "node")
			if from := rapid.IntRange(0, 2*n-1).Draw(rt, "from"); from < n && from != node {
				take(node, from, rapid.IntRange(taken[node][from], len(logs[from].entries)).Draw(rt, "upto"))
			}
			s, err := views[node].Inode(id)
			if err != nil {
				rt.Fatal(err)
			}
			clock += rapid.Uint64Range(1, 3).Draw(rt, "tick")
			rec := s.Inode
			rec.Stamp, rec.Replaces, rec.Ctime = stamp(clock), s.Replaces, int64(clock)
			if part := rapid.SampledFrom([]string{target, owner, attrA, attrB, ""}).Draw(rt, "part"); part != "" { // else a link: ctime alone
				model.change(part, partOf(&rec, part), fmt.Sprint(i+1))
				setPart(&rec, part, i+1)
			}
			logs[node].inode(t, id, rec)
			take(node, node, len(logs[node].entries))
			peaceful = peaceful && decided(rt, views[node])
		}
		v := newViewOf(t, logs)
		for i, l := range logs {
			fold(t, v, l, 0, len(l.entries))
			for from := range logs {
				take(i, from, len(logs[from].entries))
			}
		}
		peaceful = peaceful && decided(rt, v)
		s, kept := state(rt, v, id)
		for i, other := range views {
			if so, ko := state(rt, other, id); so != s || ko != kept {
				rt.Fatalf("node %d shows\n%s %s\nanother order\n%s %s", i+1, so, ko, s, kept)
			}
		}
		check(rt, v, id, model, peaceful)
	})
}

// decided reports whether nobody has to decide anything.
func decided(rt *rapid.T, v *view.View) bool {
	kept, err := v.Conflicts()
	if err != nil {
		rt.Fatal(err)
	}
	return !slices.ContainsFunc(kept, func(k view.Kept) bool { return !k.Merged })
}

// state is all that a view says of id, to be compared.
func state(rt *rapid.T, v *view.View, id record.ID) (string, string) {
	s, err := v.Inode(id)
	if err != nil {
		rt.Fatal(err)
	}
	kept, err := v.Conflicts()
	if err != nil {
		rt.Fatal(err)
	}
	return fmt.Sprintf("%+v", s), fmt.Sprintf("%+v", kept)
}

// check compares with the model. Where people had to decide between versions, of attributes only one that somebody gave is sure to be shown.
func check(rt *rapid.T, v *view.View, id record.ID, model causes, peaceful bool) {
	s, err := v.Inode(id)
	if err != nil {
		rt.Fatal(err)
	}
	kept, err := v.Conflicts()
	if err != nil {
		rt.Fatal(err)
	}
	for part := range model {
		want := model.newest(part)
		is := partOf(&s.Inode, part)
		if (peaceful || part == target) && !slices.Contains(want, is) || peaceful && len(want) > 1 {
			rt.Fatalf("%s is %q, want one of %q, kept %+v", part, is, want, kept)
		}
		for _, w := range want {
			if part == target && w != is && !slices.ContainsFunc(kept, func(k view.Kept) bool { return !k.Merged && k.Inode.Target == w }) {
				rt.Fatalf("the content %q is neither shown nor kept: %+v, kept %+v", w, s, kept)
			}
		}
	}
}

// TestLongLineage: a link stands against as many writes as a node makes in a day, and hides none of them. Where there are more than a merge looks at, the
// link is a version to be kept or dropped.
func TestLongLineage(t *testing.T) {
	for _, c := range []struct{ writes, kept int }{{5000, 0}, {9000, 1}} {
		id := record.ID{5}
		logs := []*log{{feed: hypercore.Key{1}}, {feed: hypercore.Key{2}}}
		logs[0].dirent(t, record.Root, record.Dirent{Name: "f", Inode: id, Kind: record.File, Stamp: stamp(1)})
		first := logs[0].inode(t, id, record.Inode{Kind: record.File, Stamp: stamp(1)})
		at := first
		for i := range c.writes {
			at = logs[0].inode(t, id, record.Inode{Kind: record.File, Size: uint64(i + 1), Stamp: stamp(uint64(i + 2)), Replaces: []record.Version{at}})
		}
		link := logs[1].inode(t, id, record.Inode{Kind: record.File, Ctime: 7, Stamp: stamp(1_000_000), Replaces: []record.Version{first}})
		v := newViewOf(t, logs)
		for _, l := range logs {
			fold(t, v, l, 0, len(l.entries))
		}
		s, err := v.Inode(id)
		kept, err2 := v.Conflicts()
		kept = slices.DeleteFunc(kept, func(k view.Kept) bool { return k.Merged })
		if err != nil || err2 != nil || len(kept) != c.kept || s.Ctime != 7 {
			t.Errorf("%d writes: %+v, kept %+v, %v %v", c.writes, s, kept, err, err2)
		}
		if s.Size != uint64(c.writes) || c.kept > 0 && kept[0].Version != link {
			t.Errorf("%d writes: %+v, kept %+v", c.writes, s, kept)
		}
	}
}
