package view_test

import (
	"testing"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// sameName is notes.txt made on two nodes; the second one keeps the name.
func sameName(t *testing.T) (a, b *log) {
	t.Helper()
	a, b = &log{feed: hypercore.Key{1}}, &log{feed: hypercore.Key{2}}
	for i, l := range []*log{a, b} {
		id := record.ID{byte(i + 5)}
		l.dirent(t, record.Root, record.Dirent{Name: "notes.txt", Inode: id, Kind: record.File, Stamp: stamp(uint64(i))})
		l.inode(t, id, record.Inode{Kind: record.File, Stamp: stamp(uint64(i))})
	}
	return a, b
}

// TestConflictNameIsTaken: what ReadDir shows Lookup finds (names checks it), also where a file has the name the conflict would get.
func TestConflictNameIsTaken(t *testing.T) {
	a, b := sameName(t)
	a.add(t, record.WriterKey(a.feed), (&record.Writer{Name: "Laptop", Stamp: stamp(0)}).Encode())
	a.dirent(t, record.Root, record.Dirent{Name: "notes (conflict, Laptop 2023-11-14).txt", Inode: record.ID{9}, Kind: record.File, Stamp: stamp(3)})
	want := "notes (conflict, Laptop 2023-11-14) 2.txt|notes (conflict, Laptop 2023-11-14).txt|notes.txt"
	if got := names(t, foldAll(t, a, b), record.Root); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestNewWriterNameIsTold: conflict names hold the writer's name, so a new one changes them, and Fold says so.
func TestNewWriterNameIsTold(t *testing.T) {
	a, b := sameName(t)
	v := foldAll(t, a, b)
	n := len(a.entries)
	a.add(t, record.WriterKey(a.feed), (&record.Writer{Name: "Laptop", Stamp: stamp(0)}).Encode())
	changes, err := v.Fold(t.Context(), a.feed, uint64(n+2), a.entries[n:])
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]record.ID{}
	for _, c := range changes {
		if c.Name != "" {
			told[c.Name] = c.ID
		}
	}
	old := "notes (conflict, " + record.Fingerprint(a.feed)[:8] + " 2023-11-14).txt"
	if id, ok := told[old]; !ok || id != (record.ID{}) || told["notes (conflict, Laptop 2023-11-14).txt"] != (record.ID{5}) || len(told) != 2 {
		t.Errorf("told %v", told)
	}
}

// TestReplacesWhatWasPassedOver: a version that replaces a record nobody could open gives one digest in every order.
func TestReplacesWhatWasPassedOver(t *testing.T) {
	a, b := &log{feed: hypercore.Key{1}}, &log{feed: hypercore.Key{2}}
	a.add(t, record.InodeKey(record.ID{1}), []byte{0xff})
	b.inode(t, record.ID{1}, record.Inode{Kind: record.File, Stamp: stamp(1), Replaces: []record.Version{{Feed: a.feed, Seq: 1}}})
	x, err := foldAll(t, a, b).Digest()
	y, err2 := foldAll(t, b, a).Digest()
	if err != nil || err2 != nil || x != y {
		t.Errorf("two orders, two digests: %v %v", err, err2)
	}
}
