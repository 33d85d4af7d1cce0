package drive

import (
	"fmt"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/record"
)

// TestPace: what is quiet is published, but waits while changes come fast, until they end or it is overdue.
func TestPace(t *testing.T) {
	w := newWorld(t, 1)
	now := time.Unix(1_700_000_000, 0)
	w.clock = func() time.Time { return now }
	made := 0
	pass := func(d time.Duration, files int) { // d passes, in which so many files are made
		t.Helper()
		for range files {
			w.put(record.Root, fmt.Sprint("many ", made), "x")
			made++
		}
		now = now.Add(d)
		if err := w.publish(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	shown := func(name string) bool {
		_, err := w.view.Lookup(record.Root, name)
		return err == nil
	}
	pass(time.Second, 0)
	w.put(record.Root, "slow", "x")
	for range 4 {
		pass(250*time.Millisecond, 1)
	}
	if !shown("slow") {
		t.Error("a file that was quiet is not published while little changes")
	}
	w.put(record.Root, "fast", "x")
	for i := range 39 {
		if pass(250*time.Millisecond, 100); shown("fast") {
			t.Fatalf("published after %d quarters of a second of fast changes", i+1)
		}
	}
	if pass(250*time.Millisecond, 100); !shown("fast") {
		t.Error("not published when it was overdue")
	}
	if pass(time.Second, 0); !shown(fmt.Sprint("many ", made-1)) {
		t.Error("not published when the changes had ended")
	}
}
