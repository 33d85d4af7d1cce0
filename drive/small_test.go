package drive

import (
	"errors"
	"strings"
	"testing"

	"hyphafs.org/hyphafs/drive/record"
)

// TestSmallFilesNeedNoFile: a small file is in the journal alone, whatever ends the process, until it outgrows a block.
func TestSmallFilesNeedNoFile(t *testing.T) {
	a := newWorld(t, 1)
	id := a.put(record.Root, "f", "one")
	published := a.put(record.Root, "published", "before")
	f, err := a.Open(t.Context(), published, true)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "BE", 0)
	a.publishNow() // f stays open: the journal lets go of its bytes, the node does not
	mustWrite(t, f, "after", 6)
	if files, err := a.work.Backings(); len(files) > 0 || err != nil {
		t.Errorf("files %v, %v", files, err)
	}
	for _, boot := range []string{"boot 1", "boot 2"} {
		a.crash(boot)
		for id, want := range map[record.ID]string{id: "one", published: "BEforeafter"} {
			if got, err := a.read(id); got != want || err != nil {
				t.Errorf("%s: %q, want %q, %v", boot, got, want, err)
			}
		}
	}
	g, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("long", 20_000)
	mustWrite(t, g, long, 1)
	if files, err := a.work.Backings(); len(files) != 1 || err != nil {
		t.Errorf("files %v, %v", files, err)
	}
	a.crash("boot 2")
	if got, err := a.read(id); got != "o"+long || err != nil {
		t.Errorf("after a kill: %d bytes, %v", len(got), err)
	}
	a.crash("boot 3")
	if got, err := a.read(id); got != "one" && got != "o"+long || err != nil {
		t.Errorf("after a power loss: %d bytes, %v", len(got), err)
	}
}

// TestSyncedPiecesSurvive: what an fsync put into the journal is there after a power loss, also where the backing file has it no longer.
func TestSyncedPiecesSurvive(t *testing.T) {
	a := newWorld(t, 1)
	text := strings.Repeat("x", 300_000)
	id := a.put(record.Root, "f", text)
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	sync := func() {
		if err := f.Sync(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	sync() // the whole file
	mustWrite(t, f, "first", 100)
	mustWrite(t, f, "second", 200_000)
	sync()
	if f.in.unsynced.all || len(f.in.unsynced.pieces) > 0 {
		t.Errorf("%+v", f.in.unsynced)
	}
	if _, err := f.in.backing.WriteAt([]byte(strings.Repeat("y", 6)), 200_000); err != nil { // the disk forgot
		t.Fatal(err)
	}
	a.crash("boot 2")
	want := text[:100] + "first" + text[105:200_000] + "second" + text[200_006:]
	if got, err := a.read(id); got != want || err != nil {
		t.Errorf("%d bytes, %q, %v", len(got), got[200_000:200_006], err)
	}
}

// TestSpilledFileOverAnOlderOne: a power loss may bring back a backing file that was removed, under the name of the one that a small file's bytes were moved into. None of its bytes are seen.
func TestSpilledFileOverAnOlderOne(t *testing.T) {
	a := newWorld(t, 1)
	id := a.put(record.Root, "f", "")
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "behind a hole", 10)
	mustWrite(t, f, "large", smallSize)
	if f.in.isSmall() {
		t.Fatal("the file is small")
	}
	if _, err := f.in.backing.WriteAt([]byte(strings.Repeat("old", 50)), 0); err != nil {
		t.Fatal(err)
	}
	a.crash("boot 2")
	if got, err := a.read(id); got != strings.Repeat("\x00", 10)+"behind a hole" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// what an fsync left of a file before it had bytes in the journal says nothing any more when those bytes are taken away again: by a hole, or cut off and grown again.
func TestSmallFileBecomesAHole(t *testing.T) {
	for what, empty := range map[string]func(f *File) error{
		"a hole": func(f *File) error { return f.Allocate(t.Context(), punchHole|keepSize, 0, 1<<16) },
		"cut and grown": func(f *File) error {
			none, size := uint64(0), uint64(50)
			_, cut := f.SetAttr(t.Context(), AttrChange{Size: &none})
			_, grown := f.SetAttr(t.Context(), AttrChange{Size: &size})
			return errors.Join(cut, grown)
		},
	} {
		t.Run(what, func(t *testing.T) {
			a := newWorld(t, 1)
			id := a.put(record.Root, "f", "")
			a.crash("boot 1") // upon which a new journal says that the file, which has no bytes, is durable
			f, err := a.Open(t.Context(), id, true)
			if err != nil {
				t.Fatal(err)
			}
			mustWrite(t, f, strings.Repeat("x", 50), 0)
			if err := errors.Join(empty(f), f.Sync(t.Context(), false)); err != nil {
				t.Fatal(err)
			}
			a.crash("boot 2")
			if got, err := a.read(id); got != strings.Repeat("\x00", 50) || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			a.publishNow()
		})
	}
}
