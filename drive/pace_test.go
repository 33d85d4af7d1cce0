package drive

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
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

// TestPaceBehind: what waits while full batches go out is counted, and nothing when it does not.
func TestPaceBehind(t *testing.T) {
	w := newWorld(t, 1)
	w.batch = 3
	for i := range 10 {
		w.put(record.Root, fmt.Sprint("file ", i), "x")
	}
	var counts []int64
	for w.overlay.count > 0 {
		due := w.due(true)
		if _, _, err := w.publishDue(t.Context(), due, true); err != nil {
			t.Fatal(err)
		}
		counts = append(counts, w.pace.behind.Load())
	}
	if k := len(counts) - 1; k < 2 || counts[0] < 7 || counts[k] != 0 || !slices.IsSortedFunc(counts, func(a, b int64) int { return cmp.Compare(b, a) }) {
		t.Errorf("behind: %v", counts)
	}
}

// TestPaceWait: a change waits longer the more is not published, up to a bound, and no longer than its context.
func TestPaceWait(t *testing.T) {
	for behind, want := range map[int64]time.Duration{0: 0, mostBehind: 0, mostBehind * 3 / 2: mostDelay / 2, mostBehind * 2: mostDelay, mostBehind * 100: mostDelay} {
		synctest.Test(t, func(t *testing.T) {
			var p pace
			p.behind.Store(behind)
			began := time.Now()
			if p.wait(t.Context()); time.Since(began) != want {
				t.Errorf("%d behind: waited %v, want %v", behind, time.Since(began), want)
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			began = time.Now()
			if p.wait(ended); time.Since(began) != 0 {
				t.Errorf("%d behind: waited %v behind the end of the context", behind, time.Since(began))
			}
		})
	}
}
