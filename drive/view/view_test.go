package view_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
	"hyphafs.org/hyphafs/drive/view/viewtest"
)

func TestMemoryKV(t *testing.T) {
	kv := view.NewMemory()
	viewtest.Run(t, func(*testing.T) view.KV { return kv })
}

var keys = &record.Keys{Names: [32]byte{1}, Epochs: map[uint32]record.EpochKeys{0: {Meta: [32]byte{2}, Blocks: [32]byte{3}}}}

// log is one writer's feed as records; position 0 is the header.
type log struct {
	feed    hypercore.Key
	entries []view.Entry
}

func (l *log) add(t testing.TB, key string, plain []byte) record.Version {
	t.Helper()
	sealed, err := keys.Seal(l.feed, key, plain)
	if err != nil {
		t.Fatal(err)
	}
	l.entries = append(l.entries, view.Entry{Seq: uint64(len(l.entries) + 1), Key: key, Value: sealed})
	return record.Version{Feed: l.feed, Seq: uint64(len(l.entries))}
}

func (l *log) dirent(t testing.TB, dir record.ID, d record.Dirent) record.Version {
	t.Helper()
	return l.add(t, record.DirentKey(dir, keys.Token(dir, d.Name)), d.Encode())
}

func (l *log) inode(t testing.TB, id record.ID, n record.Inode) record.Version {
	t.Helper()
	return l.add(t, record.InodeKey(id), n.Encode())
}

func newView(t testing.TB) *view.View {
	t.Helper()
	v, err := view.Open(view.NewMemory(), keys, [32]byte{9}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func fold(t testing.TB, v *view.View, l *log, from, to int) {
	t.Helper()
	if _, err := v.Fold(t.Context(), l.feed, uint64(to+1), l.entries[from:to]); err != nil {
		t.Fatal(err)
	}
}

func foldAll(t testing.TB, logs ...*log) *view.View {
	t.Helper()
	v := newView(t)
	for _, l := range logs {
		fold(t, v, l, 0, len(l.entries))
	}
	return v
}

func names(t testing.TB, v *view.View, dir record.ID) string {
	t.Helper()
	es, err := v.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		out = append(out, e.Name)
		if got, err := v.Lookup(dir, e.Name); err != nil || got.ID != e.ID {
			t.Errorf("lookup of %q: %+v %v", e.Name, got, err)
		}
	}
	return strings.Join(out, "|")
}

func stamp(n uint64) record.Stamp { return record.Stamp{Wall: 1700000000000 + n} }

func TestCreateChangeDelete(t *testing.T) {
	a := &log{feed: hypercore.Key{1}}
	id := record.ID{5}
	d1 := a.dirent(t, record.Root, record.Dirent{Name: "f", Inode: id, Kind: record.File, Stamp: stamp(1)})
	i1 := a.inode(t, id, record.Inode{Kind: record.File, Size: 3, Stamp: stamp(1)})
	i2 := a.inode(t, id, record.Inode{Kind: record.File, Size: 7, Stamp: stamp(2), Replaces: []record.Version{i1}})
	v := foldAll(t, a)
	s, err := v.Inode(id)
	if err != nil || s.Size != 7 || s.Version != i2 || s.Kept != 0 || s.Nlink != 1 || names(t, v, record.Root) != "f" {
		t.Fatalf("%+v %v", s, err)
	}
	if files, bytes, err := v.Totals(); files != 1 || bytes != 7 || err != nil {
		t.Errorf("totals %d %d %v", files, bytes, err)
	}
	a.inode(t, id, record.Inode{Kind: record.File, Removed: true, Stamp: stamp(3), Replaces: []record.Version{i2}})
	a.dirent(t, record.Root, record.Dirent{Name: "f", Inode: id, Kind: record.File, Removed: true, Stamp: stamp(3), Replaces: []record.Version{d1}})
	v = foldAll(t, a)
	if got := names(t, v, record.Root); got != "" {
		t.Errorf("after the delete: %q", got)
	}
	if files, bytes, err := v.Totals(); files != 0 || bytes != 0 || err != nil {
		t.Errorf("totals %d %d %v", files, bytes, err)
	}
	if tomb, err := v.Tombstones(record.Root, "f"); err != nil || len(tomb) != 1 {
		t.Errorf("tombstones %v %v", tomb, err)
	}
}

func TestKeptHead(t *testing.T) {
	a, b := &log{feed: hypercore.Key{1}}, &log{feed: hypercore.Key{2}}
	id := record.ID{5}
	a.dirent(t, record.Root, record.Dirent{Name: "f", Inode: id, Kind: record.File, Stamp: stamp(1)})
	base := a.inode(t, id, record.Inode{Kind: record.File, Size: 1, Stamp: stamp(1)})
	mine := a.inode(t, id, record.Inode{Kind: record.File, Size: 2, Stamp: stamp(2), Replaces: []record.Version{base}})
	b.inode(t, id, record.Inode{Kind: record.File, Size: 3, Stamp: stamp(3), Replaces: []record.Version{base}})
	v := foldAll(t, a, b)
	s, err := v.Inode(id)
	kept, err2 := v.Conflicts()
	if err != nil || err2 != nil || s.Size != 3 || s.Kept != 1 || len(kept) != 1 || kept[0].Version != mine {
		t.Errorf("%+v %v %+v %v", s, err, kept, err2)
	}
}

func TestSameNameOnTwoNodes(t *testing.T) {
	a, b := &log{feed: hypercore.Key{1}}, &log{feed: hypercore.Key{2}}
	for i, l := range []*log{a, b} {
		id := record.ID{byte(i + 5)}
		l.dirent(t, record.Root, record.Dirent{Name: "notes.txt", Inode: id, Kind: record.File, Stamp: stamp(uint64(i))})
		l.inode(t, id, record.Inode{Kind: record.File, Stamp: stamp(uint64(i))})
	}
	a.add(t, record.WriterKey(a.feed), (&record.Writer{Name: "Lap/top", Stamp: stamp(0)}).Encode())
	want := "notes (conflict, Laptop 2023-11-14).txt|notes.txt"
	for _, v := range []*view.View{foldAll(t, a, b), foldAll(t, b, a)} {
		if got := names(t, v, record.Root); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if e, err := v.Lookup(record.Root, "notes.txt"); err != nil || e.ID != (record.ID{6}) {
			t.Errorf("%+v %v", e, err)
		}
	}
}

func TestMergedDirectories(t *testing.T) {
	a, b := &log{feed: hypercore.Key{1}}, &log{feed: hypercore.Key{2}}
	for i, l := range []*log{a, b} {
		dir, sub, file := record.ID{byte(10 + i)}, record.ID{byte(20 + i)}, record.ID{byte(30 + i)}
		l.dirent(t, record.Root, record.Dirent{Name: "photos", Inode: dir, Kind: record.Dir, Stamp: stamp(uint64(i))})
		l.inode(t, dir, record.Inode{Kind: record.Dir, Stamp: stamp(uint64(i))})
		l.dirent(t, dir, record.Dirent{Name: "2024", Inode: sub, Kind: record.Dir, Stamp: stamp(uint64(i))})
		l.inode(t, sub, record.Inode{Kind: record.Dir, Stamp: stamp(uint64(i))})
		l.dirent(t, sub, record.Dirent{Name: fmt.Sprintf("from-%d", i), Inode: file, Kind: record.File, Stamp: stamp(uint64(i))})
		l.inode(t, file, record.Inode{Kind: record.File, Stamp: stamp(uint64(i))})
	}
	v := foldAll(t, a, b)
	photos, err := v.Lookup(record.Root, "photos")
	if err != nil || names(t, v, record.Root) != "photos" {
		t.Fatalf("%q %v", names(t, v, record.Root), err)
	}
	sub, err := v.Lookup(photos.ID, "2024")
	if err != nil || names(t, v, photos.ID) != "2024" {
		t.Fatalf("%q %v", names(t, v, photos.ID), err)
	}
	if got := names(t, v, sub.ID); got != "from-0|from-1" {
		t.Errorf("%q", got)
	}
	if empty, err := v.Empty(photos.ID); empty || err != nil {
		t.Errorf("%v %v", empty, err)
	}
}

// TestDeleteAgainstChange is merge rule 5, for a file, a directory and a file that was replaced.
func TestDeleteAgainstChange(t *testing.T) {
	a, b := &log{feed: hypercore.Key{1}}, &log{feed: hypercore.Key{2}}
	dir, file, inside, saved := record.ID{1}, record.ID{2}, record.ID{3}, record.ID{4}
	dd := a.dirent(t, record.Root, record.Dirent{Name: "dir", Inode: dir, Kind: record.Dir, Stamp: stamp(1)})
	di := a.inode(t, dir, record.Inode{Kind: record.Dir, Stamp: stamp(1)})
	fd := a.dirent(t, record.Root, record.Dirent{Name: "file", Inode: file, Kind: record.File, Stamp: stamp(1)})
	fi := a.inode(t, file, record.Inode{Kind: record.File, Size: 1, Stamp: stamp(1)})
	// b changes the file and makes something in the directory, having seen all that
	b.inode(t, file, record.Inode{Kind: record.File, Size: 2, Stamp: stamp(2), Replaces: []record.Version{fi}})
	b.dirent(t, dir, record.Dirent{Name: "inside", Inode: inside, Kind: record.File, Stamp: stamp(2)})
	b.inode(t, inside, record.Inode{Kind: record.File, Stamp: stamp(2)})
	// a, not having seen b, deletes the directory and saves over the file with a rename
	a.inode(t, dir, record.Inode{Kind: record.Dir, Removed: true, Stamp: stamp(3), Replaces: []record.Version{di}})
	a.dirent(t, record.Root, record.Dirent{Name: "dir", Inode: dir, Kind: record.Dir, Removed: true, Stamp: stamp(3), Replaces: []record.Version{dd}})
	a.inode(t, file, record.Inode{Kind: record.File, Removed: true, Stamp: stamp(3), Replaces: []record.Version{fi}})
	a.dirent(t, record.Root, record.Dirent{Name: "file", Inode: saved, Kind: record.File, Stamp: stamp(3), Replaces: []record.Version{fd}})
	a.inode(t, saved, record.Inode{Kind: record.File, Stamp: stamp(3)})
	alone := foldAll(t, a)
	if got := names(t, alone, record.Root); got != "file" {
		t.Errorf("a alone: %q", got)
	}
	fold(t, alone, b, 0, len(b.entries))
	for _, v := range []*view.View{alone, foldAll(t, b, a)} {
		want := "dir|file|file (conflict, " + record.Fingerprint(a.feed)[:8] + " 2023-11-14)"
		if got := names(t, v, record.Root); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := names(t, v, dir); got != "inside" {
			t.Errorf("in the directory: %q", got)
		}
		if s, err := v.Inode(file); err != nil || s.Size != 2 || s.Nlink != 1 {
			t.Errorf("%+v %v", s, err)
		}
		if links, err := v.Links(file); err != nil || len(links) != 1 || links[0].Name != "file" {
			t.Errorf("%v %v", links, err)
		}
	}
}

func TestBadRecordsAreSkipped(t *testing.T) {
	a := &log{feed: hypercore.Key{1}}
	a.add(t, record.InodeKey(record.ID{1}), []byte{0xff})
	a.add(t, record.DirentKey(record.Root, keys.Token(record.Root, "other")), (&record.Dirent{Name: "name", Inode: record.ID{1}, Kind: record.File, Stamp: stamp(1)}).Encode())
	a.entries = append(a.entries, view.Entry{Seq: 3, Key: record.InodeKey(record.ID{2}), Value: []byte("not sealed")}, view.Entry{Seq: 4, Key: "table", Value: []byte("{}")})
	a.dirent(t, record.Root, record.Dirent{Name: "good", Inode: record.ID{7}, Kind: record.File, Stamp: stamp(1)})
	a.inode(t, record.ID{7}, record.Inode{Kind: record.File, Stamp: stamp(1)})
	root := a.inode(t, record.Root, record.Inode{Kind: record.Dir, Mode: 0o700, Stamp: stamp(2)})
	a.inode(t, record.Root, record.Inode{Kind: record.File, Stamp: stamp(3), Replaces: []record.Version{root}})
	a.inode(t, record.Root, record.Inode{Kind: record.Dir, Removed: true, Stamp: stamp(4), Replaces: []record.Version{root}})
	v := foldAll(t, a)
	if got := names(t, v, record.Root); got != "good" || v.Skipped() != 5 {
		t.Errorf("%q, %d skipped", got, v.Skipped())
	}
	if s, err := v.Inode(record.Root); err != nil || s.Kind != record.Dir || s.Mode != 0o700 {
		t.Errorf("root %+v, %v", s, err)
	}
	if n, err := v.Position(a.feed); n != uint64(len(a.entries)+1) || err != nil {
		t.Errorf("position %d %v", n, err)
	}
}

func TestWrongLocalKey(t *testing.T) {
	kv := view.NewMemory()
	v, err := view.Open(kv, keys, [32]byte{1}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.SetWriters([]hypercore.Key{{1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := view.Open(kv, keys, [32]byte{2}, nil, nil); !errors.Is(err, view.ErrDamaged) {
		t.Error(err)
	}
}

// TestFormat: a view whose rows have another layout is refused, to be dropped and folded again.
func TestFormat(t *testing.T) {
	local := [32]byte{1}
	for what, change := range map[string]func(view.Tx) error{
		"another format": func(tx view.Tx) error {
			sealed, err := record.SealLocal(local, "view!", []byte{0, 0, 0, 0, 0, 0, 0, 1})
			return errors.Join(err, tx.Put([]byte("!"), sealed))
		},
		"none": func(tx view.Tx) error { return tx.Delete([]byte("!")) },
	} {
		kv := view.NewMemory()
		v, err := view.Open(kv, keys, local, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.SetWriters([]hypercore.Key{{1}}); err != nil {
			t.Fatal(err)
		}
		if _, err := view.Open(kv, keys, local, nil, nil); err != nil {
			t.Error(err)
		}
		if err := kv.Update(change); err != nil {
			t.Fatal(err)
		}
		if _, err := view.Open(kv, keys, local, nil, nil); !errors.Is(err, view.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestBufferedKV(t *testing.T) {
	kv := view.NewMemory()
	viewtest.Run(t, func(*testing.T) view.KV { return view.NewBuffered(kv) })
}

// TestBufferedFlush: a Flush between updates changes nothing that is seen, and what it wrote is below.
func TestBufferedFlush(t *testing.T) {
	base := view.NewMemory()
	kv := view.NewBuffered(base)
	put := func(k, v string) {
		t.Helper()
		if err := kv.Update(func(tx view.Tx) error { return tx.Put([]byte(k), []byte(v)) }); err != nil {
			t.Fatal(err)
		}
	}
	put("a", "1")
	put("b", "1")
	if err := kv.Flush(); err != nil {
		t.Fatal(err)
	}
	put("c", "1")
	if err := kv.Update(func(tx view.Tx) error { return tx.Delete([]byte("a")) }); err != nil {
		t.Fatal(err)
	}
	rows := func(kv view.KV) (out string) {
		t.Helper()
		if err := kv.View(func(tx view.Tx) error {
			return tx.Scan(nil, nil, func(k, v []byte) (bool, error) { out += string(k) + string(v); return true, nil })
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := rows(kv) + " " + rows(base); got != "b1c1 a1b1" {
		t.Error(got)
	}
	if err := kv.Flush(); err != nil || kv.Pending() != 0 {
		t.Fatal(err)
	}
	if got := rows(kv) + " " + rows(base); got != "b1c1 b1c1" {
		t.Error(got)
	}
}

// TestBufferedConcurrently reads, updates and flushes at once, for the race detector.
func TestBufferedConcurrently(t *testing.T) {
	kv := view.NewBuffered(view.NewMemory())
	var all sync.WaitGroup
	for w := range 3 {
		all.Go(func() {
			for i := range 200 {
				var err error
				switch w {
				case 0:
					err = kv.Update(func(tx view.Tx) error { return tx.Put(fmt.Append(nil, i%50), fmt.Append(nil, i)) })
				case 1:
					err = kv.View(func(tx view.Tx) error {
						return tx.Scan(nil, nil, func(_, _ []byte) (bool, error) { return true, nil })
					})
				default:
					err = kv.Flush()
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// TestEntryBeforeItsInode: a name is told again when the record of its inode arrives in a later fold.
func TestEntryBeforeItsInode(t *testing.T) {
	a := &log{feed: hypercore.Key{1}}
	id := record.ID{5}
	a.dirent(t, record.Root, record.Dirent{Name: "f", Inode: id, Kind: record.File, Stamp: stamp(1)})
	a.inode(t, id, record.Inode{Kind: record.File, Stamp: stamp(1)})
	v := newView(t)
	for i, e := range a.entries {
		changes, err := v.Fold(t.Context(), a.feed, e.Seq+1, []view.Entry{e})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(changes, view.Change{ID: id, Name: "f"}) {
			t.Errorf("fold %d told %+v", i, changes)
		}
	}
}
