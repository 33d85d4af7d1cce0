package powerloss

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"hyphafs.org/hyphafs/drive/record"
)

// node is a file, directory or symlink of the model.
type node struct {
	id       record.ID
	kind     record.Kind
	mode     uint32
	target   string
	xattr    string
	names    map[string]*node // of a directory
	versions []version        // of a file
}

// version is what a file held from operation op on.
type version struct {
	op   int
	data []byte
}

func (n *node) now() []byte { return n.versions[len(n.versions)-1].data }

// fact says what is durable once the log has at operations.
type fact struct {
	at       int
	names    int               // every name as of this operation
	contents map[record.ID]int // every file as of this version
}

// model is what the drive was asked to do. Operations are counted over all lives.
type model struct {
	root      *node
	nodes     map[record.ID]*node
	snapshots []string // names and attributes behind operation i
	begun     []int    // length of the log when operation i began
	done      []int    // and when it had returned
	facts     []fact   // since the system runs, ascending
	over      []over
	excused   bool // the disk may fail: what is not fsynced may be lost whatever becomes of its name
}

// over is a rename over another file: whoever sees it sees at least that version.
type over struct {
	op, version int
	id          record.ID
}

func newModel() *model {
	m := &model{nodes: map[record.ID]*node{}}
	m.root = &node{id: record.Root, kind: record.Dir, mode: 0o755, names: map[string]*node{}}
	m.nodes[record.Root] = m.root
	m.snapshots, m.begun, m.done = []string{m.snapshot()}, []int{0}, []int{0}
	return m
}

// op notes that an operation returned: begun is the length of the log when it was called, done the length now.
func (m *model) op(begun, done int) {
	m.snapshots, m.begun, m.done = append(m.snapshots, m.snapshot()), append(m.begun, begun), append(m.done, done)
}

// excuse frees the drive, until the system starts again, of what renames over other files owe, and of the newest bytes after a kill: the disk may have failed to store
// them. What was fsynced it still owes.
func (m *model) excuse() { m.excused = true }

// last is the number of the last operation.
func (m *model) last() int { return len(m.snapshots) - 1 }

// write gives n new bytes, as of the operation that is about to be noted.
func (m *model) write(n *node, data []byte) {
	n.versions = append(n.versions, version{len(m.snapshots), data})
}

// durable notes that everything so far is: names, and the bytes of the nodes given.
func (m *model) durable(at int, files ...*node) {
	f := fact{at: at, names: m.last(), contents: map[record.ID]int{}}
	for _, n := range files {
		if n.kind == record.File {
			f.contents[n.id] = len(n.versions) - 1
		}
	}
	m.facts = append(m.facts, f)
}

// snapshot describes names and attributes, one line each.
func (m *model) snapshot() string {
	var lines []string
	var walk func(dir *node)
	walk = func(dir *node) {
		for name, n := range dir.names {
			lines = append(lines, line(dir.id, name, n.id, n.kind, n.mode, n.target, n.xattr))
			if n.kind == record.Dir {
				walk(n)
			}
		}
	}
	walk(m.root)
	return join(lines)
}

func line(dir record.ID, name string, id record.ID, kind record.Kind, mode uint32, target, xattr string) string {
	return fmt.Sprintf("%s/%s %s %d %o %q %q\n", dir, name, id, kind, mode, target, xattr)
}

func join(lines []string) string {
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// seen is what an opened drive shows.
type seen struct {
	names   string
	entries []shownEntry
	files   map[record.ID][]byte
}

// verify compares what is shown after a crash behind the first n recorded operations with what may be. With lossless only a process died.
func (m *model) verify(s seen, n int, lossless bool) error {
	least, contents := 0, map[record.ID]int{}
	for _, f := range m.facts {
		if f.at > n {
			break
		}
		least = max(least, f.names)
		maps.Copy(contents, f.contents)
	}
	most := m.last()
	for most > 0 && m.begun[most] > n {
		most--
	}
	if lossless {
		for least < most && m.done[least+1] <= n {
			least++
		}
	}
	match := -1
	for i := least; i <= most && match < 0; i++ {
		if m.snapshots[i] == s.names {
			match = i
		}
	}
	if match < 0 {
		return fmt.Errorf("the names are those of no operation from %d to %d:\n%sclosest: %s", least, most, s.names, m.closest(s.names, least, most))
	}
	for _, o := range m.over {
		if o.op <= match && !m.excused {
			contents[o.id] = max(contents[o.id], o.version)
		}
	}
	for id, data := range s.files {
		f := m.nodes[id]
		from, to := contents[id], len(f.versions)
		for to > from+1 && f.versions[to-1].op > most {
			to--
		}
		if lossless && !m.excused {
			for from < to-1 && f.versions[from+1].op <= most && m.done[f.versions[from+1].op] <= n {
				from++
			}
		}
		vs := f.versions[from:to]
		if op := f.versions[to-1].op; to > from+1 && m.done[op] > n { // what was being written may be a hole still
			grown := append([]byte{}, f.versions[to-1].data...)
			clear(grown[min(len(f.versions[to-2].data), len(grown)):])
			vs = append(slices.Clone(vs), version{op, grown})
		}
		if err := holds(vs, data, lossless && m.excused); err != nil {
			return fmt.Errorf("inode %s, operations %d to %d, names of %d, versions %d to %d: %w", id, least, most, match, from, to-1, err)
		}
	}
	return nil
}

// closest describes how names differ from the snapshot that differs least.
func (m *model) closest(names string, from, to int) string {
	best, text := 1<<30, ""
	for i := from; i <= to; i++ {
		var diff []string
		have, want := strings.SplitAfter(names, "\n"), strings.SplitAfter(m.snapshots[i], "\n")
		for _, l := range have {
			if !slices.Contains(want, l) {
				diff = append(diff, "+"+l)
			}
		}
		for _, l := range want {
			if !slices.Contains(have, l) {
				diff = append(diff, "-"+l)
			}
		}
		if len(diff) < best {
			best, text = len(diff), fmt.Sprintf("operation %d\n%s", i, strings.Join(diff, ""))
		}
	}
	return text
}

// holds is nil if data may be what is left of a file that held vs in turn. What was cut off and written again since may be zeros, as on other file systems; with dropped,
// because the disk dropped what it failed to store, what the file grew by as well.
func holds(vs []version, data []byte, dropped bool) error {
	size := false
	for i, v := range vs {
		if bytes.Equal(v.data, data) {
			return nil
		}
		size = size || len(v.data) == len(data) || i > 0 && len(vs[i-1].data) < len(data) && len(data) < len(v.data) // half of a write
	}
	if !size {
		var sizes []int
		for _, v := range vs {
			sizes = append(sizes, len(v.data))
		}
		return fmt.Errorf("%d bytes, had %v", len(data), sizes)
	}
	for i, b := range data {
		if !slices.ContainsFunc(vs, func(v version) bool {
			return i < len(v.data) && v.data[i] == b || b == 0 && i >= len(v.data) && (dropped || v.op > vs[0].op)
		}) {
			return fmt.Errorf("byte %d of %d is %#x, which it never was", i, len(data), b)
		}
	}
	return nil
}

// nextBoot lets what was durable at the end of a life be so from the beginning of the next. The rest may or may not have stayed.
func (m *model) nextBoot() {
	kept := fact{contents: map[record.ID]int{}}
	for _, f := range m.facts {
		kept.names = max(kept.names, f.names)
		maps.Copy(kept.contents, f.contents)
	}
	m.facts, m.excused = []fact{kept}, false
	for i := range m.begun {
		m.begun[i], m.done[i] = 0, math.MaxInt
	}
}
