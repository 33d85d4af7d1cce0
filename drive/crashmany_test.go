package drive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"hyphafs.org/hyphafs/drive/record"
)

// shared is a file that several write at once, each to blocks of its own, and what its pages may be after a crash.
type shared struct {
	a      *world
	id     record.ID
	blocks int
	pages  [][]uint32 // by page: what it was, one after the other, since the last fsync; the last is what it is
	next   atomic.Uint32
	ended  atomic.Bool
	others sync.WaitGroup
}

// page is what a page of that version holds; version 0 is a hole.
func page(version uint32) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint32(nil, version), pageSize/4)
}

// again does step until it fails or the life is over.
func (s *shared) again(what string, step func() error) {
	s.others.Go(func() {
		for !s.ended.Load() {
			if err := step(); err != nil {
				s.a.t.Errorf("%s: %v", what, err)
				return
			}
		}
	})
}

// step changes one of the blocks of writer w of n through f, in one of the ways there are, or makes all of its durable.
func (s *shared) step(f *File, rng *rand.Rand, w, n int) error {
	ctx := s.a.t.Context()
	first, count := (rng.IntN(s.blocks/n)*n+w)*perBlock, perBlock
	version := s.next.Add(1)
	var err error
	switch k := rng.IntN(10); {
	case k < 6:
		first, count = first+rng.IntN(perBlock), 1
		_, err = f.WriteAt(ctx, page(version), int64(first)<<pageShift, true)
	case k < 8:
		_, err = f.WriteAt(ctx, bytes.Repeat(page(version), perBlock), int64(first)<<pageShift, true)
	case k < 9:
		version = 0
		err = f.Allocate(ctx, punchHole|keepSize, int64(first)<<pageShift, blockSize)
	default:
		return s.sync(f, w, n)
	}
	for p := first; p < first+count && err == nil; p++ {
		s.pages[p] = append(s.pages[p], version)
	}
	return err
}

// sync makes durable what writer w of n wrote.
func (s *shared) sync(f *File, w, n int) error {
	durable := map[int]int{} // page -> the first of its versions that may be there from then on
	for p := range s.pages {
		if p/perBlock%n == w {
			durable[p] = len(s.pages[p]) - 1
		}
	}
	if err := f.Sync(s.a.t.Context(), true); err != nil {
		return err
	}
	for p, from := range durable {
		s.pages[p] = s.pages[p][from:]
	}
	return nil
}

// check compares what the file is with what it may be, which is the last of it if the system ran on. What it is counts from here on.
func (s *shared) check(when string, ranOn bool) {
	s.a.t.Helper()
	got, err := s.a.read(s.id)
	if err != nil || len(got) != s.blocks*blockSize {
		s.a.t.Fatalf("%s: %d bytes, %v", when, len(got), err)
	}
	wrong := 0
	for p, may := range s.pages {
		if ranOn {
			may = may[len(may)-1:]
		}
		b := []byte(got[p*pageSize : (p+1)*pageSize])
		is := binary.LittleEndian.Uint32(b)
		if !bytes.Equal(b, page(is)) || !slices.Contains(may, is) {
			if wrong++; wrong < 5 {
				s.a.t.Errorf("%s: page %d is %d, whole %v, and none of %d", when, p, is, bytes.Equal(b, page(is)), may)
			}
		}
		s.pages[p] = []uint32{is}
	}
	if wrong > 0 {
		s.a.t.Fatalf("%s: %d of %d pages are wrong", when, wrong, len(s.pages))
	}
}

// disturb does to the file all that others may while it is written.
func (s *shared) disturb(replaceJournal bool) {
	a, ctx := s.a, s.a.t.Context()
	s.again("attributes", func() error {
		_, err := a.SetAttr(ctx, s.id, AttrChange{Mode: new(uint32(0o600))})
		return err
	})
	if err := a.Remove(ctx, record.Root, "h", false); err != nil && !errors.Is(err, ErrNotExist) { // a power loss may have left it
		a.t.Fatal(err)
	}
	s.again("names", func() error {
		a.put(record.Root, "g", "to be replaced")
		_, err := a.Link(ctx, s.id, record.Root, "h")
		return errors.Join(err, a.Rename(ctx, record.Root, "h", record.Root, "g", 0), a.Remove(ctx, record.Root, "g", false))
	})
	s.again("close", func() error {
		f, err := a.Open(ctx, s.id, true)
		if err != nil {
			return err
		}
		return f.Close()
	})
	s.again("publish", func() error { return a.Publish(ctx) })
	if replaceJournal {
		s.again("journal", func() error {
			a.Drive.mu.Lock()
			defer a.Drive.mu.Unlock()
			return a.compactNext()
		})
	}
}

// TestCrashWithManyWriters: several write and fsync a file at once, others change its attributes and names, rename it over another, open, close and publish it, and the journal is
// replaced. After kill -9 all is there, after a power loss all that was fsynced.
func TestCrashWithManyWriters(t *testing.T) {
	const writers, steps, lives = 3, 150, 12
	a := newWorld(t, 1)
	s := &shared{a: a, blocks: 48}
	s.next.Store(1)
	s.id = a.put(record.Root, "f", string(bytes.Repeat(page(1), s.blocks*perBlock)))
	s.pages = slices.Repeat([][]uint32{{1}}, s.blocks*perBlock)
	for life := range lives {
		s.ended.Store(false)
		s.disturb(life%2 == 0)
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				rng := rand.New(rand.NewPCG(rand.Uint64(), uint64(w)))
				f, err := a.Open(t.Context(), s.id, true)
				for i := 0; i < steps && err == nil; i++ {
					err = s.step(f, rng, w, writers)
				}
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
			})
		}
		all.Wait()
		s.ended.Store(true)
		s.others.Wait()
		if t.Failed() {
			return
		}
		ranOn, boot := life%3 != 2, a.work.boot
		if !ranOn {
			boot = fmt.Sprintf("boot %d", life)
		}
		a.crash(boot)
		s.check(fmt.Sprintf("life %d", life), ranOn)
	}
}
