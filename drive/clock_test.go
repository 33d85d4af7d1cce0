package drive

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hyphafs.org/hyphafs/drive/record"
)

// stampsOf returns the stamps of the records that stand in the blocks from from on of the feed of node of, as w has it, and the length.
func (w *world) stampsOf(t *rapid.T, of byte, from uint64) (stamps []record.Stamp, length uint64) {
	feed := public(of)
	log, err := w.feedsGet(feed)
	if err != nil {
		t.Fatal(err)
	}
	for seq := max(from, 1); seq < log.Len(); seq++ {
		e, err := w.db.Entry(feed, seq)
		if err != nil {
			t.Fatal(err)
		}
		k, err := record.ParseKey(e.Key)
		if err != nil {
			continue // an authorisation
		}
		plain, err := testKeys.Open(feed, e.Key, e.Value)
		if err != nil {
			t.Fatal(err)
		}
		var s record.Stamp
		switch k.Family {
		case record.Dirents:
			r, decodeErr := record.DecodeDirent(k.ID, plain)
			s, err = r.Stamp, decodeErr
		case record.Inodes:
			r, decodeErr := record.DecodeInode(plain)
			s, err = r.Stamp, decodeErr
		default:
			r, decodeErr := record.DecodeWriter(plain)
			s, err = r.Stamp, decodeErr
		}
		if err != nil {
			t.Fatal(err)
		}
		stamps = append(stamps, s)
	}
	return stamps, log.Len()
}

// TestStampsFollow lets three nodes with whatever clocks write, meet, stop and crash. Every stamp is greater than all that its node has seen, and a change over what everybody
// had seen is what everybody sees, though the clock of who made it is behind.
func TestStampsFollow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b, c := threeNodes(t)
		ws := []*world{a, b, c}
		seen := make([]record.Stamp, len(ws)) // the greatest
		read := make([][3]uint64, len(ws))    // blocks of each feed
		look := func(i int, check bool) {
			for j := range ws {
				stamps, length := ws[i].stampsOf(rt, byte(j+1), read[i][j])
				for _, s := range stamps {
					if check && i == j && !seen[i].Before(s) {
						rt.Fatalf("node %d made the stamp %+v after it had seen %+v", i+1, s, seen[i])
					}
					seen[i] = later(seen[i], s)
				}
				read[i][j] = length
			}
		}
		for i, w := range ws {
			look(i, false)
			year := rapid.SampledFrom([]int{1970, 2020, 2026, 2099, 4500}).Draw(rt, "year")
			w.mu.Lock()
			w.now = time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
			w.mu.Unlock()
		}
		for n := range rapid.IntRange(5, 25).Draw(rt, "steps") {
			i := rapid.IntRange(0, 2).Draw(rt, "node")
			switch w := ws[i]; rapid.SampledFrom([]string{"put", "put", "meet", "crash", "restart"}).Draw(rt, "step") {
			case "put":
				w.put(record.Root, rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "name"), fmt.Sprint("step ", n))
				w.publishNow()
				look(i, true)
			case "meet":
				j := (i + 1) % 3
				exchange(t, w, ws[j])
				look(i, false)
				look(j, false)
			case "crash":
				if err := w.flush(t.Context()); err != nil { // as Run does: what arrived a moment ago has to be fetched again
					rt.Fatal(err)
				}
				w.crash("boot 1")
			case "restart":
				w.stop()
				w.start()
				look(i, true)
			}
		}
		meet(t, ws...)
		for i := range ws {
			look(i, false)
			last := fmt.Sprint("last of ", i)
			ws[i].put(record.Root, "x", last)
			meet(t, ws...)
			for j := range ws {
				if text, err := ws[j].read(ws[j].path("x")); err != nil || text != last {
					rt.Fatalf("node %d reads %q, %v, after node %d wrote %q", j+1, text, err, i+1, last)
				}
			}
			for j := range ws {
				look(j, i == j)
			}
		}
	})
}

func TestFollowing(t *testing.T) {
	for s, want := range map[record.Stamp]record.Stamp{
		{Wall: 5}:                          {Wall: 5, Logical: 1},
		{Wall: 5, Logical: math.MaxUint32}: {Wall: 6, Logical: 1},
		{Wall: record.MaxWall, Logical: math.MaxUint32}:     {Wall: record.MaxWall, Logical: math.MaxUint32},
		{Wall: record.MaxWall - 1, Logical: math.MaxUint32}: {Wall: record.MaxWall, Logical: 1},
	} {
		if got := following(s); got != want {
			t.Errorf("behind %+v comes %+v, want %+v", s, got, want)
		}
	}
}

// TestClockFarAhead tells of a writer whose clock was wrong, and of none that only followed it.
func TestClockFarAhead(t *testing.T) {
	a, b, c := threeNodes(t)
	b.mu.Lock()
	b.now = time.Date(2099, 3, 1, 0, 0, 0, 0, time.UTC)
	b.mu.Unlock()
	b.put(record.Root, "x", "of tomorrow")
	meet(t, a, b, c)
	c.put(record.Root, "x", "of today")
	meet(t, a, b, c)
	for _, w := range []*world{a, c} {
		s, err := w.Status()
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Alarms) != 1 || !strings.HasPrefix(s.Alarms[0], record.NodeDir("Second", public(2))+" ") || !strings.Contains(s.Alarms[0], "2099-03-01") || !s.Writable {
			t.Errorf("node %d: writable %v, %q", w.n, s.Writable, s.Alarms)
		}
	}
	if s, err := b.Status(); err != nil || len(s.Alarms) != 0 {
		t.Errorf("the node itself: %q, %v", s.Alarms, err)
	}
	if text, err := a.read(a.path("x")); text != "of today" {
		t.Errorf("reads %q, %v", text, err)
	}
	if s, err := a.Status(); err != nil || s.Conflicts != 0 {
		t.Errorf("%d conflicts, %v", s.Conflicts, err)
	}
}
