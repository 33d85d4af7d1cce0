package view

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"hyphafs.org/hyphafs/drive/record"
)

// ErrNotExist says that the view shows no such entry or inode.
var ErrNotExist = errors.New("not in the view")

// EntryState is one name as it is shown in a directory.
type EntryState struct {
	Name     string // as shown
	ID       record.ID
	Kind     record.Kind
	Dir      record.ID        // the directory whose record it is: of several merged ones, or of one that fell out of a cycle, not always the one that was asked
	Stored   string           // the name in the record; differs from Name for a conflict copy
	Versions []record.Version // the heads that say so: what a change of this entry replaces
	Stamp    record.Stamp     // the greatest of theirs; a directory that is moved on needs a greater one (rule 3)
	Awaited  bool             // of ReadDir: there is no record of the inode yet
}

// entity is what a key shows: an inode, or several directories that are shown as one.
type entity struct {
	EntryState
	slotName string         // the name that the key stands for
	newest   record.Version // the version with Stamp
	dirs     []record.ID    // of merged directories all, the one that stands for them first
	home     *place         // of a guest: where the entry is that speaks for it
}

// entities lists what s shows, the winner first. Guests have no Versions yet, see complete.
func (s *slot) entities() []entity {
	if len(s.heads.heads)+len(s.guests) == 0 {
		return nil
	}
	if o, ok := s.alone(); ok {
		e := newEntity(s.place.dir, o)
		e.Versions = []record.Version{o.version}
		return []entity{e}
	}
	out := make([]entity, 0, len(s.heads.heads)+len(s.guests))
	for _, o := range s.live() {
		id := o.record.Inode
		if _, hidden := slices.BinarySearchFunc(s.hidden, id, compareIDs); hidden {
			continue
		}
		e := newEntity(s.place.dir, o)
		for _, v := range s.heads.heads {
			if v.record.Inode == id && !v.record.Removed {
				e.Versions = append(e.Versions, v.version)
			}
		}
		out = append(out, e)
	}
	for i := range s.guests {
		e := newEntity(s.place.dir, s.guests[i].head)
		e.home = &s.guests[i].home
		out = append(out, e)
	}
	return join(out)
}

func newEntity(dir record.ID, o head[*record.Dirent]) entity {
	d := o.record
	return entity{EntryState: EntryState{Name: d.Name, ID: d.Inode, Kind: d.Kind, Dir: dir, Stored: d.Name, Stamp: d.Stamp}, slotName: d.Name, newest: o.version, dirs: []record.ID{d.Inode}}
}

// complete lets a guest say where its record is, and what a change of it replaces.
func (t *txn) complete(e *entity) error {
	if e.home == nil {
		return nil
	}
	s, err := t.slot(*e.home)
	if err != nil {
		return err
	}
	n, ok, err := t.namedAt(e.ID, *e.home)
	if err != nil || !ok {
		return errors.Join(err, fmt.Errorf("guest %s: %w", e.ID, ErrDamaged))
	}
	e.Dir, e.Stored, e.Versions = e.home.dir, n.ever.record.Name, s.naming(e.ID)
	return nil
}

// join merges the directories among es, but guests, into one entity and sorts all: what an entry names, the greatest stamp first, then guests likewise.
func join(es []entity) []entity {
	if len(es) < 2 {
		return es
	}
	slices.SortFunc(es, func(a, b entity) int {
		switch {
		case (a.home == nil) != (b.home == nil):
			return b2i(a.home != nil) - b2i(b.home != nil)
		case record.Less(a.Stamp, a.newest, b.Stamp, b.newest):
			return 1
		case record.Less(b.Stamp, b.newest, a.Stamp, a.newest):
			return -1
		}
		return compareIDs(a.ID, b.ID)
	})
	first := -1
	out := es[:0]
	for _, e := range es {
		if e.Kind == record.Dir && e.home == nil && first >= 0 {
			out[first].dirs = append(out[first].dirs, e.dirs...)
			out[first].Versions = append(out[first].Versions, e.Versions...)
			continue
		}
		if e.Kind == record.Dir && e.home == nil {
			first = len(out)
		}
		out = append(out, e)
	}
	return out
}

// nameAll gives the winner the name and every other one a conflict name of its own; taken are names that may not be used.
func (t *txn) nameAll(es []entity, taken func(string) (bool, error)) error {
	used := map[string]bool{}
	for i := range es {
		if i > 0 {
			label, err := t.label(es[i].newest)
			if err != nil {
				return err
			}
			for n := 1; ; n++ {
				es[i].Name = conflictName(es[i].slotName, label, es[i].Stamp, n)
				if used[es[i].Name] {
					continue
				}
				if is, err := taken(es[i].Name); err != nil {
					return err
				} else if !is {
					break
				}
			}
		}
		used[es[i].Name] = true
	}
	return nil
}

// conflictName is "name (conflict, <node> <date>).ext", at most 255 bytes; from the second one of a kind on with a number.
func conflictName(name, label string, stamp record.Stamp, n int) string {
	ext := path.Ext(name)
	if len(ext) == len(name) || len(ext) > 32 {
		ext = ""
	}
	base := strings.TrimSuffix(name, ext)
	mark := fmt.Sprintf(" (conflict, %s %s)", label, time.UnixMilli(int64(stamp.Wall)).UTC().Format(time.DateOnly))
	if n > 1 {
		mark = fmt.Sprintf("%s %d", mark, n)
	}
	return truncate(base, record.MaxName-len(mark)-len(ext)) + mark + ext
}

// truncate cuts s to at most n bytes, not within a rune.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// label is what the writer of a version is called.
func (t *txn) label(v record.Version) (string, error) {
	w, ok, err := t.writer(v)
	if err != nil {
		return "", err
	}
	if !ok {
		return record.Fingerprint(v.Feed)[:8], nil
	}
	return truncate(record.CleanName(w.Name), 100), nil
}

func (t *txn) writer(v record.Version) (*record.Writer, bool, error) {
	b, err := t.get(feedRow(rowWriter, v.Feed))
	if err != nil {
		return nil, false, err
	}
	h, err := decodeHeads(writers, record.Root, b)
	if err != nil {
		return nil, false, err
	}
	o, _, ok := h.winner(writers)
	return o.record, ok, nil
}

// shownAt is what key p shows, by name, as if its directory were not merged with another.
func (t *txn) shownAt(p place) (map[string]record.ID, error) {
	s, err := t.shown(p)
	if err != nil {
		return nil, err
	}
	if o, ok := s.alone(); ok {
		return map[string]record.ID{o.record.Name: o.record.Inode}, nil
	}
	es := s.entities()
	if len(es) == 0 {
		return nil, nil
	}
	if err := t.nameAll(es, func(string) (bool, error) { return false, nil }); err != nil {
		return nil, err
	}
	shown := make(map[string]record.ID, len(es))
	for _, e := range es {
		shown[e.Name] = e.ID
	}
	return shown, nil
}

// eachPlace calls fn for every place where id is shown.
func (t *txn) eachPlace(id record.ID, fn func(place) error) error {
	h, err := t.home(id)
	if err != nil {
		return err
	}
	if h.dir {
		n, err := t.count(aboutRow(rowLive, id))
		if err != nil || n == 0 && !h.guest {
			return err
		}
		return fn(h.at)
	}
	if h.guest {
		return fn(h.at)
	}
	if t.changed != nil { // what a fold changed is at hand, and nearly always all
		live, err := t.count(aboutRow(rowLive, id))
		if err != nil {
			return err
		}
		for _, n := range t.named[id] {
			live -= uint64(b2i(n.live.record != nil))
		}
		if live == 0 {
			for p, n := range t.named[id] {
				if n.live.record != nil {
					if err := fn(p); err != nil {
						return err
					}
				}
			}
			return nil
		}
	}
	return t.eachNamed(id, func(p place, n named) error {
		if n.live.record == nil {
			return nil
		}
		return fn(p)
	})
}

// members lists the directories that are shown as one with dir, the one that stands for them first. Without merged directories, which is
// nearly always, it is dir alone.
func (t *txn) members(dir record.ID) ([]record.ID, error) {
	alone := []record.ID{dir}
	merged, err := t.count([]byte{rowTotals, 'm'})
	if err != nil || merged == 0 || dir == record.Root {
		return alone, err
	}
	h, err := t.home(dir)
	if err != nil || !h.dir || h.guest {
		return alone, err
	}
	s, err := t.shown(h.at)
	if err != nil {
		return nil, err
	}
	here := s.entities()
	i := slices.IndexFunc(here, func(e entity) bool { return slices.Contains(e.dirs, dir) })
	if i < 0 {
		return alone, nil
	}
	parents, err := t.members(h.at.dir)
	if err != nil || len(parents) == 1 {
		return here[i].dirs, err
	}
	es, err := t.lookup(parents, here[i].slotName)
	if err != nil {
		return nil, err
	}
	for _, e := range es {
		if slices.Contains(e.dirs, dir) {
			return e.dirs, nil
		}
	}
	return alone, nil
}

// lookup lists what name means in the merged directories dirs, the winner first.
func (t *txn) lookup(dirs []record.ID, name string) ([]entity, error) {
	var es []entity
	for _, dir := range dirs {
		s, err := t.shown(place{dir, t.view.keys.RawToken(dir, name)})
		if err != nil {
			return nil, err
		}
		es = append(es, s.entities()...)
	}
	if len(dirs) > 1 {
		es = join(es)
	}
	return es, nil
}
