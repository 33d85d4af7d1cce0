package archive

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// instances is a bucket and some stores over it that come, go, crash, and lose their disks.
type instances struct {
	t      *testing.T
	r      *rapid.T
	bucket *memory
	source *hypercore.Feed
	root   string
	stores []*Store
	feeds  []*Feed
	dirs   int
	kept   runs // what some instance ever said is in the bucket
	next   int
}

func (w *instances) dir() string {
	w.dirs++
	return filepath.Join(w.root, fmt.Sprint(w.dirs))
}

// start opens instance i over dir.
func (w *instances) start(i int, dir string) {
	s, err := Open(w.t.Context(), Config{Bucket: w.bucket, Dir: dir, Log: quiet()})
	if err != nil {
		w.r.Fatal(err)
	}
	f, err := s.Feed(w.t.Context(), w.source.Key())
	if err != nil {
		w.r.Fatal(err)
	}
	w.stores[i], w.feeds[i] = s, f
}

// crash ends instance i as kill -9 does, and starts it again, with its disk or without.
func (w *instances) crash(i int, keepDisk bool) {
	dir := w.stores[i].cfg.Dir
	w.feeds[i].local.Close() // what was written stays, as it does in the page cache; its errors do not matter to a crash
	if !keepDisk {
		if err := os.RemoveAll(dir); err != nil {
			w.r.Fatal(err)
		}
		dir = w.dir()
	}
	w.start(i, dir)
}

// heed collects what instances say is in the bucket.
func (w *instances) heed() {
	for _, f := range w.feeds {
		for _, r := range f.kept {
			w.kept.add(r)
		}
	}
}

// check looks at the bucket: every pack that is listed is there and good, and nothing that was ever said to be there is gone.
func (w *instances) check() {
	w.t.Helper()
	w.heed()
	w.bucket.fails = nil
	name := w.source.DiscoveryKey().String()
	body, ok := w.bucket.objects[name+"/"+manifestName]
	if !ok {
		if len(w.kept) > 0 {
			w.r.Fatal("there is no manifest")
		}
		return
	}
	m, err := decodeManifest(body, w.source.DiscoveryKey())
	if err != nil {
		w.r.Fatal(err)
	}
	var there runs
	for _, p := range m.packs {
		records, err := decodePack(w.bucket.objects[name+"/packs/"+p.id.String()], w.source.DiscoveryKey())
		if err != nil {
			w.r.Fatalf("pack %v is listed: %v", p.id, err)
		}
		for _, rec := range records {
			if want, err := w.source.Block(rec.seq); err != nil || !bytes.Equal(rec.value, want) || !p.blocks.has(rec.seq) {
				w.r.Fatalf("block %d of pack %v is not what was written", rec.seq, p.id)
			}
			there.add(run{rec.seq, rec.seq + 1})
		}
	}
	if lost := w.kept.without(there); len(lost) > 0 {
		w.r.Fatalf("blocks %v were said to be in the bucket and are not", lost)
	}
}

// step does something to one instance. Errors of a bucket that fails are what it is about.
func (w *instances) step() {
	i := rapid.IntRange(0, len(w.stores)-1).Draw(w.r, "instance")
	s, f, ctx := w.stores[i], w.feeds[i], w.t.Context()
	s.health.note(nil) // no waiting in a test
	for range rapid.IntRange(0, 3).Draw(w.r, "fails") {
		w.bucket.fails = append(w.bucket.fails, failure(rapid.IntRange(0, 2).Draw(w.r, "how")))
	}
	switch rapid.SampledFrom([]string{"append", "give", "give", "give", "commit", "commit", "refresh", "compact", "read", "evict", "crash", "lose", "sweep"}).Draw(w.r, "what") {
	case "append":
		n := rapid.IntRange(1, 12).Draw(w.r, "blocks")
		extend(w.t, w.source, numbered(w.next, n, 1+w.next%7)...)
		w.next += n
	case "give":
		if n := w.source.Len(); n > 0 {
			from := rapid.Uint64Range(0, n-1).Draw(w.r, "from")
			for seq := from; seq < min(n, from+rapid.Uint64Range(1, 8).Draw(w.r, "count")); seq++ {
				give(w.t, w.source, f, seq)
			}
		}
	case "commit":
		put := slices.Clone(f.fresh)
		if err := f.commit(ctx); err == nil && len(put.without(f.kept)) > 0 {
			w.r.Fatalf("blocks %v are not kept after a commit", put.without(f.kept))
		}
	case "refresh":
		f.committing.Lock()
		_ = f.refresh(ctx) // it may fail
		f.committing.Unlock()
	case "compact":
		_ = f.compact(ctx) // it may fail
	case "read":
		w.read(f)
	case "evict":
		for _, p := range f.manifest.packs {
			if _, err := f.clear(ctx, p); err != nil {
				w.r.Fatal(err)
			}
		}
	case "crash":
		w.heed()
		w.bucket.fails = nil
		w.crash(i, true)
	case "lose":
		w.heed()
		w.bucket.fails = nil
		w.crash(i, false)
	case "sweep":
		f.committing.Lock()
		if f.asked {
			_ = f.sweep(ctx) // it may fail
		}
		f.committing.Unlock()
	}
	w.check()
}

// read reads a block that f says it has.
func (w *instances) read(f *Feed) {
	n := w.source.Len()
	if n == 0 {
		return
	}
	seq := rapid.Uint64Range(0, n-1).Draw(w.r, "block")
	had := f.Has(seq)
	got, err := f.Block(seq)
	switch {
	case err == nil:
		if want, err := w.source.Block(seq); err != nil || !bytes.Equal(got, want) {
			w.r.Fatalf("block %d is not what was written", seq)
		}
	case !errors.Is(err, hypercore.ErrNotStored):
		w.r.Fatalf("block %d: %v", seq, err)
	case had && !errors.Is(err, ErrAway):
		w.r.Fatalf("block %d is there, but: %v", seq, err)
	}
}

// TestInstances: whatever several instances do at once, whatever fails, the bucket never lists what is not there, nothing that was said to be in it is lost, and in the
// end everything that was put and not lost with a disk is there.
func TestInstances(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := &instances{t: t, r: r, bucket: newMemory(), source: writer(t, 4), root: t.TempDir(), stores: make([]*Store, 3), feeds: make([]*Feed, 3)}
		for i := range w.stores {
			w.start(i, w.dir())
		}
		defer func() {
			for _, f := range w.feeds {
				f.local.Close() // nothing is looked at any more
			}
		}()
		for range rapid.IntRange(1, 40).Draw(r, "steps") {
			w.step()
		}
		w.bucket.fails = nil
		for i, f := range w.feeds {
			w.stores[i].health.note(nil)
			if err := f.commit(t.Context()); err != nil {
				r.Fatal(err)
			}
			if err := f.local.Check(t.Context()); err != nil {
				r.Fatal(err)
			}
			if len(f.fresh) > 0 || len(f.bad) > 0 {
				r.Fatalf("instance %d: %v fresh, %d bad", i, f.fresh, len(f.bad))
			}
		}
		w.check()
		there := audit(t, w.bucket, w.source)
		for i, f := range w.feeds {
			if lost := f.kept.without(there); len(lost) > 0 {
				r.Fatalf("blocks %v of instance %d are not in the bucket", lost, i)
			}
		}
	})
}

// TestMerge: a feed that came block by block is in few objects, nothing is left over, and everything is there.
func TestMerge(t *testing.T) {
	bucket, source := newMemory(), writer(t, 5, numbered(0, 300, 100)...)
	s := open(t, bucket, t.TempDir())
	f := feed(t, s, source.Key())
	defer f.Close()
	prefix := source.DiscoveryKey().String() + "/packs/"
	for seq := range source.Len() {
		give(t, source, f, seq)
		if err := f.commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if seq == 100 { // an instance that was killed before it could list its pack
			bucket.objects[prefix+packID{3, 1}.String()], bucket.tags[prefix+packID{3, 1}.String()] = []byte("garbage"), "x"
		}
		if err := f.compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(f.manifest.packs); n > 3*fanIn {
		t.Errorf("%d packs", n)
	}
	if there := audit(t, bucket, source); there.count() != 300 {
		t.Errorf("%d blocks", there.count())
	}
	listed := map[string]bool{}
	for _, p := range f.manifest.packs {
		listed[prefix+p.id.String()] = true
	}
	for name := range bucket.objects {
		if strings.HasPrefix(name, prefix) && !listed[name] && !strings.Contains(name, "-0000000000000001") {
			t.Errorf("%s is left over", name)
		}
	}
	f.committing.Lock()
	err := f.sweep(t.Context())
	f.committing.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if _, there := bucket.objects[prefix+packID{3, 1}.String()]; there {
		t.Error("the garbage is still there")
	}
	per := float64(bucket.calls["put"]) / float64(source.Len())
	if per > 2.5 {
		t.Errorf("%.2f puts a commit", per)
	}
}

// TestFork: two instances have two histories of one feed. The bucket keeps the first, and the evidence; the other side's blocks never get in, and both are told.
func TestFork(t *testing.T) {
	for _, lengths := range [][2]int{{20, 20}, {20, 30}, {30, 20}} {
		t.Run(fmt.Sprint(lengths), func(t *testing.T) {
			bucket := newMemory()
			ours, theirs := writer(t, 6, numbered(0, 10, 9)...), writer(t, 6, numbered(0, 10, 9)...)
			extend(t, ours, numbered(10, lengths[0]-10, 9)...)
			extend(t, theirs, numbered(500, lengths[1]-10, 9)...)
			told := make(chan *hypercore.ForkError, 10)
			tell := func(c *Config) {
				c.OnFork = func(_ *Feed, fork *hypercore.ForkError) { told <- fork }
			}
			first, second := open(t, bucket, t.TempDir(), tell), open(t, bucket, t.TempDir(), tell)
			a, b := feed(t, first, ours.Key()), feed(t, second, ours.Key())
			defer a.Close()
			defer b.Close()
			for seq := range ours.Len() {
				give(t, ours, a, seq)
			}
			for seq := range theirs.Len() {
				give(t, theirs, b, seq)
			}
			if err := a.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := b.Flush(t.Context()); !errors.Is(err, hypercore.ErrFork) {
				t.Fatalf("the second history: %v", err)
			}
			if fork := <-told; fork.Ours.TreeHash == fork.Theirs.TreeHash {
				t.Error("the evidence shows nothing")
			}
			if err := b.Flush(t.Context()); err != nil || b.unkept() { // the evidence goes into the bucket
				t.Fatalf("the evidence: %v", err)
			}
			a.committing.Lock()
			err := a.refresh(t.Context())
			a.committing.Unlock()
			if a.tell(); err != nil || a.Forked() == nil {
				t.Fatalf("the first instance does not learn of the fork: %v", err)
			}
			if fork := <-told; fork.Feed != ours.Key() {
				t.Error("told of another feed")
			}
			if there := audit(t, bucket, ours); there.count() != uint64(lengths[0]) {
				t.Errorf("the bucket has %v", there)
			}
			third := feed(t, open(t, bucket, t.TempDir()), ours.Key())
			defer third.Close()
			if third.Forked() == nil {
				t.Error("a new instance does not know of the fork")
			}
			for name := range bucket.objects {
				if body, _, err := bucket.Get(t.Context(), name, "", 1<<30); err == nil && bytes.Contains(body, []byte("500\xf4\xf4\xf4\xf4\xf4\xf4")) {
					t.Errorf("%s has a block of the second history", name)
				}
			}
		})
	}
}

// TestRun: what is put gets into the bucket by itself, and the other instance, with its own disk, hears of it and serves it.
func TestRun(t *testing.T) {
	bucket, source := newMemory(), writer(t, 7, numbered(0, 50, 30)...)
	kept := make(chan run, 1000)
	a := open(t, bucket, t.TempDir())
	b := open(t, bucket, t.TempDir(), func(c *Config) { c.OnKept = func(_ *Feed, from, to uint64) { kept <- run{from, to} } })
	for _, s := range []*Store{a, b} {
		running(t, s)
	}
	fa, fb := feed(t, a, source.Key()), feed(t, b, source.Key())
	defer fa.Close()
	defer fb.Close()
	for seq := range source.Len() {
		give(t, source, fa, seq)
	}
	var heard runs
	for heard.count() < source.Len() {
		select {
		case r := <-kept:
			heard.add(r)
		case <-time.After(time.Minute):
			t.Fatalf("heard of %v", heard)
		}
	}
	for seq := range source.Len() {
		got, err := fb.Block(seq)
		if want, werr := source.Block(seq); err != nil || werr != nil || !bytes.Equal(got, want) {
			t.Fatalf("block %d: %v", seq, err)
		}
	}
	if n, ok := fb.NextMissing(0); ok {
		t.Errorf("block %d is asked for", n)
	}
}

// running runs s until the test ends.
func running(t testing.TB, s *Store) {
	t.Helper()
	ended := make(chan struct{})
	ctx, cancel := contextOf(t)
	go func() {
		defer close(ended)
		_ = s.Run(ctx) // it ends with the context's error
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// TestIdle: feeds that are open and idle cost little memory, and those that were closed nearly none.
func TestIdle(t *testing.T) {
	const feeds, limit, closed = 200, 64 << 10, 4 << 10 // bytes a feed
	bucket := newMemory()
	s := open(t, bucket, t.TempDir())
	var keys []hypercore.Key
	for i := range feeds {
		source := writer(t, byte(i), numbered(i, 8, 100)...)
		f := feed(t, s, source.Key())
		for seq := range source.Len() {
			give(t, source, f, seq)
		}
		if err := errors.Join(f.Flush(t.Context()), f.Close()); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, source.Key())
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	var opened []*Feed
	for _, key := range keys {
		f := feed(t, s, key)
		if _, err := f.Block(0); err != nil {
			t.Fatal(err)
		}
		opened = append(opened, f)
	}
	each := (heap() - before) / feeds
	t.Logf("%d bytes a feed", each)
	if each > limit {
		t.Errorf("an open feed takes %d bytes", each)
	}
	for _, f := range opened {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	clear(opened)
	if each := (heap() - before) / feeds; each > closed {
		t.Errorf("a closed feed takes %d bytes", each)
	}
	runtime.KeepAlive(opened)
}
