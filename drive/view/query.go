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
	Dir      record.ID        // the directory whose record it is: of several merged ones, not always the one that was asked
	Stored   string           // the name in the record; differs from Name for a conflict copy
	Versions []record.Version // the heads that say so: what a change of this entry replaces
}

// entity is what a key shows: an inode, or several directories that are shown as one.
type entity struct {
	EntryState
	stamp  record.Stamp
	newest record.Version
	dirs   []record.ID // of merged directories all, the one that stands for them first
	orphan bool        // no live head names it: shown because a change outlived its deletion
}

// entitiesAt lists what the key p shows, the winner first. Entities of several merged directories are joined by join.
func (t *txn) entitiesAt(p place) ([]entity, error) {
	h, err := t.dirent(p)
	if err != nil {
		return nil, err
	}
	byID := map[record.ID]*entity{}
	take := func(v record.Version, d *record.Dirent) *entity {
		e := byID[d.Inode]
		if e == nil {
			e = &entity{EntryState: EntryState{Name: d.Name, ID: d.Inode, Kind: d.Kind, Dir: p.dir, Stored: d.Name}, stamp: d.Stamp, newest: v, dirs: []record.ID{d.Inode}}
			byID[d.Inode] = e
		} else if record.Less(e.stamp, e.newest, d.Stamp, v) {
			e.stamp, e.newest, e.Kind = d.Stamp, v, d.Kind
		}
		return e
	}
	for _, o := range h.heads {
		if !o.record.Removed {
			e := take(o.version, o.record)
			e.Versions = append(e.Versions, o.version)
		}
	}
	if err := t.orphansAt(p, h, take); err != nil {
		return nil, err
	}
	out := make([]entity, 0, len(byID))
	for _, e := range byID {
		out = append(out, *e)
	}
	return join(out), nil
}

// orphansAt adds what is shown at p although no live head says so.
func (t *txn) orphansAt(p place, h *heads[*record.Dirent], take func(record.Version, *record.Dirent) *entity) error {
	prefix := orphanRow(p, record.ID{})[:1+len(p.dir)+len(p.token)]
	var ids []record.ID
	err := t.scan(prefix, func(row, _ []byte) (bool, error) {
		ids = append(ids, record.ID(row[len(prefix):]))
		return true, nil
	})
	if err != nil {
		return err
	}
	for row, plain := range t.dirty { // those of this very fold
		if plain != nil && len(row) == len(prefix)+len(record.ID{}) && row[:len(prefix)] == string(prefix) {
			if id := record.ID([]byte(row[len(prefix):])); !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	for _, id := range ids {
		if b, ok := t.dirty[string(orphanRow(p, id))]; ok && b == nil {
			continue
		}
		b, err := t.get(namedRow(id, p))
		if err != nil {
			return err
		}
		named, err := decodeHeads(dirents, p.dir, b)
		if err != nil || len(named.heads) == 0 {
			return errors.Join(err, fmt.Errorf("orphan %s: %w", id, ErrDamaged))
		}
		e := take(named.heads[0].version, named.heads[0].record)
		e.orphan = true
		for _, o := range h.heads {
			if o.record.Inode == id && !slices.Contains(e.Versions, o.version) {
				e.Versions = append(e.Versions, o.version)
			}
		}
	}
	return nil
}

// join merges the directories among es, but those that lost their entry, into one entity and sorts all, the greatest stamp first.
func join(es []entity) []entity {
	slices.SortFunc(es, func(a, b entity) int {
		if record.Less(a.stamp, a.newest, b.stamp, b.newest) {
			return 1
		}
		return -1
	})
	first := -1
	out := es[:0]
	for _, e := range es {
		if e.Kind == record.Dir && !e.orphan && first >= 0 {
			out[first].dirs = append(out[first].dirs, e.dirs...)
			out[first].Versions = append(out[first].Versions, e.Versions...)
			continue
		}
		if e.Kind == record.Dir && !e.orphan {
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
				es[i].Name = conflictName(es[i].Stored, label, es[i].stamp, n)
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
	es, err := t.entitiesAt(p)
	if err != nil || len(es) == 0 {
		return nil, err
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

// compare notes what changed at p since before.
func (f *fold) compare(p place, before map[string]record.ID) error {
	now, err := f.shownAt(p)
	if err != nil {
		return err
	}
	for name, id := range now {
		if was := before[name]; was != id {
			f.changes = append(f.changes, Change{ID: id, Dir: p.dir, Name: name, Was: was})
			f.touched[p.dir] = true
		}
	}
	for name, was := range before {
		if _, still := now[name]; !still {
			f.changes = append(f.changes, Change{Dir: p.dir, Name: name, Was: was})
			f.touched[p.dir] = true
		}
	}
	if len(now)+len(before) > 0 {
		for _, id := range []map[string]record.ID{before, now} {
			for _, id := range id {
				f.touched[id] = true // the number of its links may differ
			}
		}
	}
	return nil
}

// members lists the directories that are shown as one with dir, the one that stands for them first. Without merged directories, which is
// nearly always, it is dir alone.
func (t *txn) members(dir record.ID, depth int) ([]record.ID, error) {
	merged, err := t.count([]byte{rowTotals, 'm'})
	if err != nil || merged == 0 || dir == record.Root || depth > maxDepth {
		return []record.ID{dir}, err
	}
	var at *place
	var name string
	err = t.eachNamed(dir, func(p place, h head[*record.Dirent]) error {
		d, err := t.dirent(p)
		if err == nil && liveInodes(d)[dir] != nil {
			at, name = &p, h.record.Name
		}
		return err
	})
	if err != nil || at == nil {
		return []record.ID{dir}, err
	}
	parents, err := t.members(at.dir, depth+1)
	if err != nil {
		return nil, err
	}
	es, err := t.lookup(parents, name)
	if err != nil {
		return nil, err
	}
	for _, e := range es {
		if slices.Contains(e.dirs, dir) {
			return e.dirs, nil
		}
	}
	return []record.ID{dir}, nil
}

// lookup lists what name means in the merged directories dirs, the winner first.
func (t *txn) lookup(dirs []record.ID, name string) ([]entity, error) {
	var es []entity
	for _, dir := range dirs {
		tk, err := parseToken(t.view.keys.Token(dir, name))
		if err != nil {
			return nil, err
		}
		more, err := t.entitiesAt(place{dir, tk})
		if err != nil {
			return nil, err
		}
		es = append(es, more...)
	}
	if len(dirs) > 1 {
		es = join(es)
	}
	return es, nil
}
