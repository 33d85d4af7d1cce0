package drive

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/journal"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
)

// memoryWork is a Workspace in memory: a fuzz target cannot wait for a disk.
type memoryWork struct {
	*hypercore.Memory
	current  string
	backings map[record.ID]*hypercore.Memory
}

func newMemoryWork() *memoryWork {
	return &memoryWork{hypercore.NewMemory(), "", map[record.ID]*hypercore.Memory{}}
}

func (w *memoryWork) Boot() string                                { return "boot" }
func (w *memoryWork) Journal(name string) (hypercore.File, error) { return w.Open("journal-" + name) }
func (w *memoryWork) Current() (string, error)                    { return w.current, nil }
func (w *memoryWork) SetCurrent(name string) error                { w.current = name; return nil }
func (w *memoryWork) SyncNames() error                            { return nil }
func (w *memoryWork) Statfs() (Statfs, error)                     { return Statfs{}, nil }
func (w *memoryWork) RemoveBacking(id record.ID) error            { delete(w.backings, id); return nil }

func (w *memoryWork) Backing(id record.ID) (hypercore.File, error) {
	if w.backings[id] == nil {
		w.backings[id] = hypercore.NewMemory()
	}
	f, err := w.backings[id].Open("bytes")
	return limitedFile{f}, err
}

// limitedFile refuses to grow beyond 8 MiB, as a disk does at some size.
type limitedFile struct{ hypercore.File }

const fileLimit = 8 << 20

func (f limitedFile) Truncate(size int64) error {
	if size > fileLimit {
		return syscall.EFBIG
	}
	return f.File.Truncate(size)
}

func (f limitedFile) WriteAt(p []byte, off int64) (int, error) {
	if off > fileLimit-int64(len(p)) {
		return 0, syscall.EFBIG
	}
	return f.File.WriteAt(p, off)
}

func (w *memoryWork) Backings() (ids []record.ID, err error) {
	for id := range w.backings {
		ids = append(ids, id)
	}
	return ids, nil
}

func openMemory(t testing.TB, work Workspace) (*Drive, error) {
	return Open(t.Context(), Config{
		Feeds: func(string) hypercore.Storage { return hypercore.NewMemory() }, View: view.NewMemory(), Work: work,
		Keys: testKeys, Local: [32]byte{1}, Source: public(1), Writer: secret(1), Name: "Node", ReadTimeout: 1,
	})
}

// journalFrames are the frames of the journal in force.
func journalFrames(t testing.TB, w *memoryWork) (frames [][]byte) {
	t.Helper()
	file, err := w.Journal(w.current)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Open(file, [32]byte{1}, w.current, func(b []byte) error { frames = append(frames, b); return nil }); err != nil {
		t.Fatal(err)
	}
	return frames
}

// busyJournal is what a session leaves in the journal that makes, writes, links, renames, cuts and removes.
func busyJournal(t testing.TB) [][]byte {
	t.Helper()
	work := newMemoryWork()
	d, err := openMemory(t, work)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b"} {
		dir, err := d.Make(ctx, record.Root, "dir "+name, NewInode{Kind: record.Dir, Mode: 0o755})
		ok(err)
		made, err := d.Make(ctx, dir.ID, name, NewInode{Kind: record.File, Mode: 0o644})
		ok(err)
		f, err := d.Open(ctx, made.ID, true)
		ok(err)
		_, err = f.WriteAt(ctx, make([]byte, 200_000), 70_000, true)
		ok(err)
		ok(f.Sync(ctx, false))
		for off := range int64(2) { // the second says only what was added
			_, err = f.WriteAt(ctx, []byte("more"), 300_000+off*100_000, true)
			ok(err)
			ok(f.Sync(ctx, false))
		}
		size := uint64(100_000)
		_, err = f.SetAttr(ctx, AttrChange{Size: &size})
		ok(err)
		_, err = d.Link(ctx, made.ID, record.Root, "link to "+name)
		ok(err)
		ok(d.SetXattr(ctx, made.ID, "user.x", []byte("value"), 0))
		ok(d.Rename(ctx, dir.ID, name, record.Root, "moved "+name, 0))
		ok(d.Remove(ctx, record.Root, "link to "+name, false))
		ok(f.Close())
		if name == "a" {
			ok(d.Publish(ctx))
		}
	}
	frames := journalFrames(t, work)
	ok(d.Close(context.WithoutCancel(ctx)))
	return frames
}

// FuzzReplay: whatever a journal's frames say, the store opens or says that it is damaged; what opens can be used, closed and opened again.
func FuzzReplay(f *testing.F) {
	frames := busyJournal(f)
	for _, b := range frames {
		f.Add(b, []byte{})
	}
	f.Add(slices.Concat(frames...), frames[0])
	f.Fuzz(func(t *testing.T, one, two []byte) {
		work := newMemoryWork()
		work.current = "1"
		file, err := work.Journal("1")
		if err != nil {
			t.Fatal(err)
		}
		j, err := journal.Open(file, [32]byte{1}, "1", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{one, two} {
			if err := j.Append(b); err != nil {
				t.Fatal(err)
			}
		}
		d, err := openMemory(t, work)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, record.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		entries, err := d.ReadDir(t.Context(), record.Root)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if a, err := d.Lookup(t.Context(), record.Root, e.Name); err == nil && a.Kind == record.File {
				if f, err := d.Open(t.Context(), a.ID, false); err == nil {
					_, _ = f.ReadAt(t.Context(), make([]byte, 100), int64(a.Size/2)) // the bytes may be nowhere
					if err := f.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if _, err := d.Status(); err != nil {
			t.Fatal(err)
		}
		_ = d.Publish(t.Context()) // what makes no sense may not be published
		_ = d.Close(t.Context())
		again, err := openMemory(t, work)
		if err != nil {
			t.Fatalf("opened once, then: %v", err)
		}
		_ = again.Close(t.Context())
	})
}

// FuzzHostileInode: another writer says of a file whatever it likes. Asking and changing it ends with an error that the kernel has a number for, what is
// written over it is read back, and the drive goes on.
func FuzzHostileInode(f *testing.F) {
	add := func(n record.Inode, off int64) {
		n.Stamp = record.Stamp{Wall: 1_700_000_000_000}
		f.Add(n.Encode(), uint8(n.Kind), off)
	}
	add(record.Inode{Kind: record.File, Mode: 0o644, Size: 200_000, Extents: []record.Extent{{Count: 4, Feed: hypercore.Key{3}, Seq: 1}}}, 70_000)
	add(record.Inode{Kind: record.File, Size: record.MaxSize, Extents: []record.Extent{{Block: 1 << 38, Count: 1 << 20, Feed: public(1), Seq: 1<<64 - 1<<21}}}, 1<<54)
	add(record.Inode{Kind: record.Symlink, Size: 3, Target: "../"}, 0)
	add(record.Inode{Kind: record.Dir, Xattrs: []record.Xattr{{Name: "user.a", Value: []byte("b")}}}, 0)
	f.Fuzz(func(t *testing.T, plain []byte, kind uint8, off int64) {
		d, err := openMemory(t, newMemoryWork())
		if err != nil {
			t.Fatal(err)
		}
		ctx, feed, id := t.Context(), hypercore.Key{77}, record.ID{5}
		entry := record.Dirent{Name: "f", Inode: id, Kind: record.Kind(1 + kind%7), Stamp: record.Stamp{Wall: 1_700_000_000_000}}
		var entries []view.Entry
		for key, b := range map[string][]byte{record.InodeKey(id): plain, record.DirentKey(record.Root, testKeys.Token(record.Root, "f")): entry.Encode()} {
			sealed, err := testKeys.Seal(feed, key, b)
			if err != nil {
				t.Fatal(err)
			}
			entries = append(entries, view.Entry{Seq: uint64(1 + len(entries)), Key: key, Value: sealed})
		}
		if _, err := d.view.Fold(ctx, feed, 3, entries); err != nil {
			t.Fatal(err)
		}
		off = max(off, 0)
		known(t, func() error { _, err := d.Lookup(ctx, record.Root, "f"); return err })
		known(t, func() error { _, err := d.ReadDir(ctx, id); return err })
		known(t, func() error { _, err := d.Readlink(ctx, id); return err })
		known(t, func() error { _, err := d.Xattrs(ctx, id); return err })
		known(t, func() error { return d.SetXattr(ctx, id, "user.x", []byte("y"), 0) })
		known(t, func() error { _, err := d.SetAttr(ctx, id, AttrChange{Size: new(uint64(off / 3))}); return err })
		if file, err := d.Open(ctx, id, true); err == nil {
			known(t, func() error { _, err := file.ReadAt(ctx, make([]byte, 100_000), off); return err })
			known(t, func() error { _, err := file.SeekData(ctx, off/2, true); return err })
			known(t, func() error { return file.Allocate(ctx, 3, off, 70_000) }) // punch a hole
			text := []byte("what this node writes")
			if known(t, func() error { _, err := file.WriteAt(ctx, text, off, true); return err }) {
				got := make([]byte, len(text))
				if n, err := file.ReadAt(ctx, got, off); err != nil || string(got[:n]) != string(text) {
					t.Fatalf("%q was read back: %v", got[:n], err)
				}
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
		}
		known(t, func() error { return d.Rename(ctx, record.Root, "f", record.Root, "g", 0) })
		if _, err := d.Make(ctx, record.Root, "mine", NewInode{Kind: record.File}); err != nil {
			t.Fatal(err)
		}
		known(t, func() error { return d.Publish(ctx) })
		if _, err := d.Status(); err != nil {
			t.Fatal(err)
		}
		known(t, func() error { return d.Close(ctx) })
	})
}

// known reports whether do went well; an error must be one of those that package fs has a number for.
func known(t *testing.T, do func() error) bool {
	t.Helper()
	err := do()
	for _, sentinel := range []error{ErrNotExist, ErrNotDir, ErrIsDir, ErrInvalid, ErrTooBig, ErrUnavailable, ErrNoData, ErrNotSupported, ErrNoSpace, syscall.EFBIG} {
		if errors.Is(err, sentinel) {
			return false
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return true
}

// FuzzRuns: runs that are taken come back the same, ascending and apart.
func FuzzRuns(f *testing.F) {
	f.Add(blockset{{1, 3}, {7, 1 << 40}}.encode())
	f.Add([]byte{5, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parsed{bytes: map[protowire.Number][]byte{4: b}}.runs(4)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		for i, r := range s {
			if r.first >= r.end || i > 0 && s[i-1].end >= r.first {
				t.Fatalf("%v", s)
			}
		}
		again, err := parsed{bytes: map[protowire.Number][]byte{4: s.encode()}}.runs(4)
		if err != nil || !slices.Equal(again, s) {
			t.Fatalf("%v became %v (%v)", s, again, err)
		}
	})
}
