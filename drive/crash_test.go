package drive

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hyphafs.org/hyphafs/drive/record"
)

// TestKillKeepsEverything: the process ends at once, the operating system runs on.
func TestKillKeepsEverything(t *testing.T) {
	a := newWorld(t, 1)
	dir := a.mkdir(record.Root, "dir")
	id := a.put(dir, "published", strings.Repeat("p", 200_000))
	a.publishNow()
	a.put(dir, "new", "not published")
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(t.Context(), []byte("changed"), 70_000, true); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Append(t.Context(), []byte("tail"), true); err != nil {
		t.Fatal(err)
	}
	if err := a.Rename(t.Context(), dir, "new", record.Root, "moved", 0); err != nil {
		t.Fatal(err)
	}
	before, err := a.read(id)
	if err != nil {
		t.Fatal(err)
	}
	tree := a.tree()
	a.crash("boot 1")
	if got := a.tree(); got != tree {
		t.Errorf("before\n%s\nafter\n%s", tree, got)
	}
	if got, err := a.read(id); err != nil || got != before {
		t.Errorf("%d bytes, want %d, %v", len(got), len(before), err)
	}
}

// TestKillOfAnOpenFile: a file that stays open over a publish, as a database does, keeps what is written to it afterwards.
func TestKillOfAnOpenFile(t *testing.T) {
	a := newWorld(t, 1)
	id := a.put(record.Root, "db", strings.Repeat("x", 150_000))
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	for i, boot := range []string{"boot 1", "boot 2"} {
		if _, err := f.WriteAt(t.Context(), []byte{'a', byte('0' + i)}, 80_000, true); err != nil {
			t.Fatal(err)
		}
		a.publishNow()
		if _, err := f.WriteAt(t.Context(), []byte{'b', byte('0' + i)}, 80_000, true); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		a.crash(boot)
		if got, err := a.read(id); err != nil || len(got) != 150_000 || got[80_000] != 'b' || got[80_001] != byte('0'+i) {
			t.Fatalf("%s: %d bytes, %v", boot, len(got), err)
		}
		if f, err = a.Open(t.Context(), id, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPowerLossKeepsWhatWasSynced: of the bytes that were not fsynced, what was published stays; no zeros take its place.
func TestPowerLossKeepsWhatWasSynced(t *testing.T) {
	a := newWorld(t, 1)
	old := strings.Repeat("published ", 20_000)
	kept, changed := a.put(record.Root, "kept", old), a.put(record.Root, "changed", old)
	a.publishNow()
	for _, c := range []struct {
		id   record.ID
		sync bool
	}{{kept, true}, {changed, false}} {
		f, err := a.Open(t.Context(), c.id, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(t.Context(), []byte("NEW"), 100_000, true); err != nil {
			t.Fatal(err)
		}
		if c.sync {
			if err := f.Sync(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
	}
	a.crash("boot 2")
	want := old[:100_000] + "NEW" + old[100_003:]
	if got, err := a.read(kept); err != nil || got != want {
		t.Errorf("synced: %d bytes, %v", len(got), err)
	}
	if got, err := a.read(changed); err != nil || got != old {
		t.Errorf("not synced: %d bytes, the same %v, %v", len(got), got == old, err)
	}
	a.publishNow()
	if cs, err := a.Conflicts(t.Context()); len(cs) != 0 || err != nil {
		t.Errorf("%+v %v", cs, err)
	}
}

// TestCrashBehindTheBatch: the records are in the feed, the overlay still holds them. Nothing is published twice, nothing conflicts.
func TestCrashBehindTheBatch(t *testing.T) {
	for _, boot := range []string{"boot 1", "boot 2"} {
		a := newWorld(t, 1)
		id := a.put(record.Root, "f", "one")
		a.publishNow()
		a.put(record.Root, "f", "two")
		a.put(record.Root, "g", "new")
		f, err := a.Open(t.Context(), id, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		due := a.due(true)
		if _, err := a.publishContent(t.Context(), due); err != nil {
			t.Fatal(err)
		}
		c := a.pick(due, true)
		if err := c.seal(a.Drive); err != nil || len(c.ops) == 0 {
			t.Fatalf("%d records, %v", len(c.ops), err)
		}
		if err := a.intend(c, a.own.Len()); err != nil {
			t.Fatal(err)
		}
		if _, err := a.db.Batch(t.Context(), c.ops); err != nil {
			t.Fatal(err)
		}
		a.crash(boot)
		a.publishNow()
		if got := a.tree(); !strings.Contains(got, `/f 644 1 "two"`) || !strings.Contains(got, `/g 644 1`) || strings.Contains(got, "conflict") {
			t.Errorf("%s:\n%s", boot, got)
		}
		if cs, err := a.Conflicts(t.Context()); len(cs) != 0 || err != nil {
			t.Errorf("%s: %+v %v", boot, cs, err)
		}
		length := a.own.Len()
		a.stop()
		a.start()
		a.publishNow()
		if a.own.Len() != length {
			t.Errorf("%s: %d records more after a restart", boot, a.own.Len()-length)
		}
	}
}

// TestKillWhileOthersChange: the journal has the states of a file in the order in which they were, whoever else changes, closes or publishes the file meanwhile.
func TestKillWhileOthersChange(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(a *world, id record.ID) error
	}{
		{"attributes", func(a *world, id record.ID) error {
			mode := uint32(0o600)
			_, err := a.SetAttr(t.Context(), id, AttrChange{Mode: &mode})
			return err
		}},
		{"names", func(a *world, id record.ID) error {
			_, err := a.Link(t.Context(), id, record.Root, "other")
			return errors.Join(err, a.Remove(t.Context(), record.Root, "other", false))
		}},
		{"close", func(a *world, id record.ID) error {
			f, err := a.Open(t.Context(), id, true)
			if err != nil {
				return err
			}
			return f.Close()
		}},
		{"publish", func(a *world, _ record.ID) error { return a.Publish(t.Context()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			const blocks = 3000
			a := newWorld(t, 1)
			id := a.put(record.Root, "f", strings.Repeat("x", 2*blockSize))
			f, err := a.Open(t.Context(), id, true)
			if err != nil {
				t.Fatal(err)
			}
			var others sync.WaitGroup
			var ended atomic.Bool
			again := func(change func() error) {
				others.Go(func() {
					for !ended.Load() {
						if err := change(); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			again(func() error { return c.change(a, id) })
			busy, err := a.Open(t.Context(), a.put(record.Root, "busy", strings.Repeat("x", 2*blockSize)), true)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 { // the journal is waited for
				n := int64(0)
				again(func() error {
					n++
					_, err := busy.WriteAt(t.Context(), []byte("busy"), n%1000*blockSize, true)
					return err
				})
			}
			for n := range int64(blocks) {
				if _, err := f.WriteAt(t.Context(), []byte("written"), n*blockSize, true); err != nil {
					t.Error(err)
					break
				}
			}
			ended.Store(true)
			others.Wait()
			a.crash("boot 1")
			got, err := a.read(id)
			if err != nil {
				t.Fatal(err)
			}
			lost := 0
			for n := range blocks {
				if at := n * blockSize; at+7 > len(got) || got[at:at+7] != "written" {
					lost++
				}
			}
			if lost > 0 {
				t.Errorf("%d of %d blocks are lost", lost, blocks)
			}
		})
	}
}
