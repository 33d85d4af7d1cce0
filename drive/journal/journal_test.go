package journal

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"hyphafs.org/hyphafs/drive/hypercore"
)

func file(t testing.TB, st hypercore.Storage) hypercore.File {
	t.Helper()
	f, err := st.Open("journal")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func reopen(t testing.TB, f hypercore.File, name string) (*Journal, []string) {
	t.Helper()
	var frames []string
	j, err := Open(f, [32]byte{1}, name, func(b []byte) error { frames = append(frames, string(b)); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return j, frames
}

// TestPrefix: whatever byte the file ends at or is changed at, replay gives a prefix of what was appended, and the journal goes on from there.
func TestPrefix(t *testing.T) {
	f := file(t, hypercore.NewMemory())
	j, _ := reopen(t, f, "a")
	var want []string
	for i := range 8 {
		want = append(want, fmt.Sprint("frame ", i))
		if err := j.Append([]byte(want[i])); err != nil {
			t.Fatal(err)
		}
	}
	whole := make([]byte, j.Size())
	if _, err := f.ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		for _, flip := range []bool{false, true} {
			f := file(t, hypercore.NewMemory())
			b := slices.Clone(whole[:at])
			if flip {
				b = slices.Clone(whole)
				b[at] ^= 1
			}
			if _, err := f.WriteAt(b, 0); err != nil {
				t.Fatal(err)
			}
			j, got := reopen(t, f, "a")
			if len(got) == len(want) || !slices.Equal(got, want[:len(got)]) {
				t.Fatalf("byte %d, flipped %v: %q", at, flip, got)
			}
			if err := j.Append([]byte("more")); err != nil {
				t.Fatal(err)
			}
			if _, again := reopen(t, f, "a"); !slices.Equal(again, append(got, "more")) {
				t.Fatalf("byte %d: %q", at, again)
			}
		}
	}
}

func TestOtherName(t *testing.T) {
	f := file(t, hypercore.NewMemory())
	j, _ := reopen(t, f, "a")
	if err := j.Append([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, got := reopen(t, f, "b"); len(got) != 0 {
		t.Errorf("another journal's frames were taken: %q", got)
	}
}

// FuzzOpen: whatever was written over a journal, replay gives a prefix of what was appended, and the journal goes on from there.
func FuzzOpen(f *testing.F) {
	f.Add(uint16(0), []byte{0, 0, 0, 1, 7}, true)
	f.Add(uint16(60), []byte{0, 0, 0, 0}, false)
	f.Add(uint16(5), []byte{1, 0}, false)
	f.Fuzz(func(t *testing.T, at uint16, with []byte, cut bool) {
		file := file(t, hypercore.NewMemory())
		j, _ := reopen(t, file, "a")
		var want []string
		for i := range 5 {
			want = append(want, fmt.Sprint("frame ", i))
			if err := j.Append([]byte(want[i])); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := file.WriteAt(with, int64(at)); err != nil {
			t.Fatal(err)
		}
		if cut {
			if err := file.Truncate(int64(at) + int64(len(with))); err != nil {
				t.Fatal(err)
			}
		}
		j, got := reopen(t, file, "a")
		if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			t.Fatalf("%q", got)
		}
		if err := j.Append([]byte("more")); err != nil {
			t.Fatal(err)
		}
		if _, again := reopen(t, file, "a"); !slices.Equal(again, append(got, "more")) {
			t.Fatalf("%q, then %q", got, again)
		}
	})
}

// forgetful is a file of which one sync fails; the next ones succeed.
type forgetful struct {
	hypercore.File
	fail bool
}

func (f *forgetful) Sync() error {
	if f.fail {
		f.fail = false
		return errors.New("injected")
	}
	return f.File.Sync()
}

// TestSyncThatFails: what was not durable is not said to be so by a later sync that succeeds, and the journal takes no more, except for notes.
func TestSyncThatFails(t *testing.T) {
	f := &forgetful{File: file(t, hypercore.NewMemory())}
	j, _ := reopen(t, f, "a")
	if err := errors.Join(j.Append([]byte("kept")), j.Sync(), j.Append([]byte("lost"))); err != nil {
		t.Fatal(err)
	}
	f.fail = true
	for range 2 {
		if err := j.Sync(); err == nil || j.Err() == nil {
			t.Errorf("synced: %v, %v", err, j.Err())
		}
	}
	if err := j.Append([]byte("more")); err == nil {
		t.Error("it took more")
	}
	if err := j.Note([]byte("note")); err != nil || j.Err() == nil {
		t.Errorf("note: %v, %v", err, j.Err())
	}
	if err := j.Sync(); err == nil {
		t.Error("synced after a note")
	}
	if _, got := reopen(t, f, "a"); !slices.Equal(got, []string{"kept", "lost", "note"}) {
		t.Errorf("%q", got)
	}
}

// TestSyncOfOneReplaced: who comes to sync when another journal has it all has nothing to wait for, even if the disk had failed this one, or its file is closed by now.
func TestSyncOfOneReplaced(t *testing.T) {
	f := &forgetful{File: file(t, hypercore.NewMemory()), fail: true}
	j, _ := reopen(t, f, "a")
	if err := j.Append([]byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := j.Sync(); err == nil {
		t.Error("synced although the disk failed")
	}
	j.Discard()
	f.fail = true
	if err := j.Sync(); err != nil || !f.fail {
		t.Errorf("%v, asked the disk %v", err, !f.fail)
	}
	if err := j.Append([]byte("two")); err == nil {
		t.Error("it took more")
	}
}
