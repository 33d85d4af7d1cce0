package view_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
)

// naive is the merge rules in the simplest way: everything from all records, each time anew, without a thought for what it costs.
type naive struct {
	dirents map[record.Place][]said[*record.Dirent]
	inodes  map[record.ID][]said[*record.Inode]
	stands  map[record.ID]record.Place // of every directory
	by      map[record.ID]said[*record.Dirent]
}

// said is one version of a record; head: nobody replaced it.
type said[R any] struct {
	version record.Version
	record  R
	head    bool
}

func before[R interface{ *record.Dirent | *record.Inode }](a, b said[R], stamp func(R) record.Stamp) bool {
	return record.Less(stamp(a.record), a.version, stamp(b.record), b.version)
}

func direntStamp(d *record.Dirent) record.Stamp { return d.Stamp }

func newNaive(rt *rapid.T, logs []*log) *naive {
	m := &naive{dirents: map[record.Place][]said[*record.Dirent]{}, inodes: map[record.ID][]said[*record.Inode]{}}
	for _, l := range logs {
		for _, e := range l.entries {
			k, err := record.ParseKey(e.Key)
			if err != nil {
				rt.Fatal(err)
			}
			plain, err := keys.Open(l.feed, e.Key, e.Value)
			if err != nil {
				rt.Fatal(err)
			}
			version := record.Version{Feed: l.feed, Seq: e.Seq}
			switch k.Family {
			case record.Dirents:
				d, err := record.DecodeDirent(k.ID, plain)
				if err != nil {
					rt.Fatal(err)
				}
				p := record.Place{Dir: k.ID, Name: d.Name}
				m.dirents[p] = append(m.dirents[p], said[*record.Dirent]{version, d, true})
			case record.Inodes:
				n, err := record.DecodeInode(plain)
				if err != nil {
					rt.Fatal(err)
				}
				m.inodes[k.ID] = append(m.inodes[k.ID], said[*record.Inode]{version, n, true})
			}
		}
	}
	for _, vs := range m.dirents {
		markHeads(vs, func(d *record.Dirent) []record.Version { return d.Replaces })
	}
	for _, vs := range m.inodes {
		markHeads(vs, func(n *record.Inode) []record.Version { return n.Replaces })
	}
	m.settle()
	return m
}

func markHeads[R any](vs []said[R], replaces func(R) []record.Version) {
	for i, a := range vs {
		for _, b := range vs {
			if slices.Contains(replaces(b.record), a.version) && !slices.Contains(replaces(a.record), b.version) {
				vs[i].head = false
			}
		}
	}
}

// each calls fn for every version of an entry that names id.
func (m *naive) each(id record.ID, fn func(record.Place, said[*record.Dirent])) {
	for p, vs := range m.dirents {
		for _, v := range vs {
			if v.record.Inode == id {
				fn(p, v)
			}
		}
	}
}

// live lists the places where live heads name id.
func (m *naive) live(id record.ID) map[record.Place]bool {
	out := map[record.Place]bool{}
	m.each(id, func(p record.Place, v said[*record.Dirent]) {
		if v.head && !v.record.Removed {
			out[p] = true
		}
	})
	return out
}

// entry is the greatest live head that names id, or else the greatest version.
func (m *naive) entry(id record.ID) (at record.Place, best said[*record.Dirent]) {
	live := len(m.live(id)) > 0
	m.each(id, func(p record.Place, v said[*record.Dirent]) {
		if live && (!v.head || v.record.Removed) {
			return
		}
		if best.record == nil || before(best, v, direntStamp) {
			at, best = p, v
		}
	})
	return at, best
}

// settle is rules 3 and 4.
func (m *naive) settle() {
	m.stands, m.by = map[record.ID]record.Place{}, map[record.ID]said[*record.Dirent]{}
	for _, vs := range m.dirents {
		for _, v := range vs {
			if v.record.Kind == record.Dir {
				m.stands[v.record.Inode], m.by[v.record.Inode] = m.entry(v.record.Inode)
			}
		}
	}
	fell := map[record.ID]bool{}
	for {
		cycle := m.cycle()
		if cycle == nil {
			return
		}
		id := slices.MaxFunc(cycle, func(a, b record.ID) int {
			if before(m.by[a], m.by[b], direntStamp) {
				return -1
			}
			return 1
		})
		from := m.by[id].record.MovedFrom
		if from != nil && !fell[id] && (from.Dir == record.Root || len(m.live(from.Dir)) > 0) {
			m.stands[id] = *from
		} else {
			m.stands[id] = record.Place{Name: m.by[id].record.Name}
		}
		fell[id] = true
	}
}

func (m *naive) cycle() []record.ID {
	for id := range m.stands {
		path := []record.ID{}
		for at := id; ; at = m.stands[at].Dir {
			if _, ok := m.stands[at]; !ok || len(path) > len(m.stands) {
				break
			}
			if at == id && len(path) > 0 {
				return path
			}
			path = append(path, at)
		}
	}
	return nil
}

// item is what a name of a directory stands for.
type item struct {
	id    record.ID
	kind  record.Kind
	name  string
	by    said[*record.Dirent]
	guest bool
	dirs  []record.ID // the directories it is, merged
}

// alive is rule 5: whether an inode that no live entry names is shown.
func (m *naive) alive(id record.ID) bool {
	for _, v := range m.inodes[id] {
		if v.head && !v.record.Removed {
			return true
		}
	}
	_, dir := m.stands[id]
	return dir && len(m.inodes[id]) > 0 && len(m.items(id)) > 0
}

// items lists what is shown in one directory, not merged.
func (m *naive) items(dir record.ID) (out []item) {
	ids := map[record.ID]bool{}
	for _, vs := range m.dirents {
		for _, v := range vs {
			ids[v.record.Inode] = true
		}
	}
	for id := range ids {
		live := m.live(id)
		at, by := m.entry(id)
		if stands, ok := m.stands[id]; ok {
			if stands.Dir == dir && (len(live) > 0 || m.alive(id)) {
				if live[stands] { // not always the greatest, after a fall
					m.each(id, func(p record.Place, v said[*record.Dirent]) {
						if p == stands && v.head && !v.record.Removed && (at != stands || before(by, v, direntStamp)) {
							at, by = p, v
						}
					})
				}
				out = append(out, item{id, record.Dir, stands.Name, by, !live[stands], []record.ID{id}})
			}
			continue
		}
		if len(live) == 0 && at.Dir == dir && m.alive(id) {
			out = append(out, item{id, by.record.Kind, at.Name, by, true, []record.ID{id}})
		}
		for p := range live {
			if p.Dir == dir {
				it := item{id: id, name: p.Name, dirs: []record.ID{id}}
				for _, v := range m.dirents[p] {
					if v.record.Inode == id && v.head && !v.record.Removed && (it.by.record == nil || before(it.by, v, direntStamp)) {
						it.by, it.kind = v, v.record.Kind
					}
				}
				out = append(out, it)
			}
		}
	}
	return out
}

// show is rule 2: what merged directories show, by path. nlink counts the names of every inode.
func (m *naive) show(dirs []record.ID, at string, out map[string]record.ID, nlink map[record.ID]int) {
	byName := map[string][]item{}
	for _, dir := range dirs {
		for _, it := range m.items(dir) {
			byName[it.name] = append(byName[it.name], it)
			nlink[it.id]++
		}
	}
	for name, items := range byName {
		slices.SortFunc(items, func(a, b item) int {
			if a.guest != b.guest {
				if a.guest {
					return 1
				}
				return -1
			}
			if before(b.by, a.by, direntStamp) {
				return -1
			}
			return 1
		})
		var shown []item
		merged := -1
		for _, it := range items {
			switch {
			case it.kind == record.Dir && !it.guest && merged >= 0:
				shown[merged].dirs = append(shown[merged].dirs, it.id)
				continue
			case it.kind == record.Dir && !it.guest:
				merged = len(shown)
			}
			shown = append(shown, it)
		}
		used := map[string]bool{}
		for i, it := range shown {
			as := name
			for n := 1; i > 0 && (n == 1 || used[as]); n++ {
				as = view.ConflictName(name, record.Fingerprint(it.by.version.Feed)[:8], it.by.record.Stamp, n)
			}
			used[as] = true
			out[at+"/"+as] = it.id
			if it.kind == record.Dir {
				m.show(it.dirs, at+"/"+as, out, nlink)
			}
		}
	}
}

// walk is what a view shows, by path, as people come to it.
func walk(rt *rapid.T, v *view.View, dir record.ID, at string, out map[string]record.ID, depth int) {
	if depth > 60 {
		rt.Fatalf("too deep: %s", at)
	}
	es, err := v.ReadDir(dir)
	if err != nil {
		rt.Fatal(err)
	}
	for _, e := range es {
		path := at + "/" + e.Name
		if _, twice := out[path]; twice {
			rt.Fatalf("%s is there twice", path)
		}
		out[path] = e.ID
		if got, err := v.Lookup(dir, e.Name); err != nil || got.ID != e.ID || got.Kind != e.Kind || got.Dir != e.Dir || got.Stored != e.Stored || !slices.Equal(got.Versions, e.Versions) {
			rt.Fatalf("lookup of %s: %+v, listed %+v, %v", path, got, e, err)
		}
		if e.Kind == record.Dir {
			walk(rt, v, e.ID, path, out, depth+1)
		}
	}
	if empty, err := v.Empty(dir); err != nil || empty != (len(es) == 0) {
		rt.Fatalf("%s: %d entries, empty %v %v", at, len(es), empty, err)
	}
}

func lines(m map[string]record.ID) string {
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%s %d\n", path, m[path][0])
	}
	return b.String()
}

// TestNaiveModel: the view shows what the rules say, and every inode has as many links as it has names.
func TestNaiveModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := draw(t, rt)
		m := newNaive(rt, h.logs)
		want, nlink := map[string]record.ID{}, map[record.ID]int{}
		m.show([]record.ID{record.Root}, "", want, nlink)
		v := foldAll(t, h.logs...)
		got := map[string]record.ID{}
		walk(rt, v, record.Root, "", got, 0)
		if lines(got) != lines(want) {
			rt.Fatalf("shown\n%s\nwant\n%s\n%s", lines(got), lines(want), h.dump())
		}
		for id := range m.inodes {
			s, err := v.Inode(id)
			if err != nil || id != record.Root && s.Nlink != nlink[id] {
				rt.Fatalf("%d: %d links, want %d, %v", id[0], s.Nlink, nlink[id], err)
			}
			links, err := v.Links(id)
			if err != nil || len(links) != nlink[id] {
				rt.Fatalf("%d: links %v, want %d, %v", id[0], links, nlink[id], err)
			}
		}
		m.nothingLost(rt, v, nlink)
	})
}

// nothingLost: whatever is live is shown below the root or kept: a name, a directory, a version of a file.
func (m *naive) nothingLost(rt *rapid.T, v *view.View, nlink map[record.ID]int) {
	kept, err := v.Conflicts()
	if err != nil {
		rt.Fatal(err)
	}
	for p, vs := range m.dirents {
		for _, d := range vs {
			if d.head && !d.record.Removed && nlink[d.record.Inode] == 0 {
				rt.Fatalf("%v names %d, which is not shown", p, d.record.Inode[0])
			}
		}
	}
	for id, vs := range m.inodes {
		for _, n := range vs {
			if !n.head || n.record.Removed {
				continue
			}
			s, err := v.Inode(id)
			if err != nil || id != record.Root && nlink[id] == 0 {
				rt.Fatalf("%d is not shown: %v", id[0], err)
			}
			if s.Version != n.version && !slices.ContainsFunc(kept, func(k view.Kept) bool { return k.Version == n.version }) {
				rt.Fatalf("version %v of %d is neither shown nor kept", n.version, id[0])
			}
		}
	}
}

// dump is the history for people.
func (h *history) dump() string {
	var b strings.Builder
	for _, l := range h.logs {
		for _, e := range l.entries {
			k, _ := record.ParseKey(e.Key)
			plain, err := keys.Open(l.feed, e.Key, e.Value)
			if err != nil {
				return err.Error()
			}
			if d, err := record.DecodeDirent(k.ID, plain); k.Family == record.Dirents && err == nil {
				fmt.Fprintf(&b, "%d/%d: %d/%s -> %d kind %d removed %v at %d from %v replaces %v\n", l.feed[0], e.Seq, k.ID[0], d.Name, d.Inode[0], d.Kind, d.Removed, d.Stamp.Wall-1700000000000, d.MovedFrom, short(d.Replaces))
			} else if n, err := record.DecodeInode(plain); err == nil {
				fmt.Fprintf(&b, "%d/%d: inode %d removed %v at %d replaces %v\n", l.feed[0], e.Seq, k.ID[0], n.Removed, n.Stamp.Wall-1700000000000, short(n.Replaces))
			}
		}
	}
	return b.String()
}

func short(vs []record.Version) (out []string) {
	for _, v := range vs {
		out = append(out, fmt.Sprintf("%d/%d", v.Feed[0], v.Seq))
	}
	return out
}
