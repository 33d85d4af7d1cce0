package drive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

func mustWrite(t testing.TB, f *File, s string, off int64) {
	t.Helper()
	if _, err := f.WriteAt(t.Context(), []byte(s), off, true); err != nil {
		t.Fatal(err)
	}
}

// published, partial write fsynced, truncated without fsync, power loss: must be old or empty, not zeros.
func TestCutAfterSyncPowerLoss(t *testing.T) {
	a := newWorld(t, 1)
	big := strings.Repeat("x", 200_000)
	id := a.put(record.Root, "f", big)
	a.publishNow()
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "y", 0)
	if err := f.Sync(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := f.SetAttr(t.Context(), AttrChange{Size: new(uint64)}); err != nil {
		t.Fatal(err)
	}
	a.crash("boot 2")
	got, err := a.read(id)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(got, "\x00"); n > 0 {
		t.Errorf("size %d with %d zero bytes", len(got), n)
	}
}

// the content append fails half way through a run of blocks.
func TestAppendThatFails(t *testing.T) {
	a := newWorld(t, 1)
	a.put(record.Root, "s", strings.Repeat("s", 60_000))
	var ids []record.ID
	var texts []string
	for i := range 3 {
		text := strings.Repeat(fmt.Sprintf("%d", i+1), 3_000_000)
		ids = append(ids, a.put(record.Root, fmt.Sprintf("big%d", i), text))
		texts = append(texts, text)
	}
	ctx := context.WithoutCancel(t.Context())
	fail.Store(true)
	err := a.Publish(ctx)
	fail.Store(false)
	t.Log("publish with a full disk:", err)
	a.publishNow()
	for i, id := range ids {
		got, err := a.read(id)
		if got != texts[i] || err != nil {
			t.Errorf("big%d: %d bytes, %d zeros, %v", i, len(got), strings.Count(got, "\x00"), err)
		}
	}
}

// an intent of a batch that failed, then another append at the same place, then kill -9.
func TestBatchThatFailed(t *testing.T) {
	a := newWorld(t, 1)
	a.put(record.Root, "keep", "")
	a.mkdir(record.Root, "dir")
	failOwn.Store(true)
	err := a.Publish(t.Context())
	failOwn.Store(false)
	t.Log("publish:", err)
	if err := a.Authorize(t.Context(), public(2), "Second"); err != nil {
		t.Fatal(err)
	}
	before := a.tree()
	a.crash("boot 1")
	if got := a.tree(); got != before {
		t.Errorf("before:\n%safter:\n%s", before, got)
	}
}

// lateCtx ends after a number of looks at it.
type lateCtx struct {
	context.Context
	left atomic.Int32
}

func (c *lateCtx) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// the context of Run ends between two files of one append; Close publishes the rest.
func TestPublishThatEnds(t *testing.T) {
	a := newWorld(t, 1)
	var ids []record.ID
	for _, n := range []string{"a", "b", "c"} {
		ids = append(ids, a.put(record.Root, n, "text"))
	}
	ctx := &lateCtx{Context: t.Context()}
	ctx.left.Store(2)
	t.Log(a.Publish(ctx))
	a.publishNow()
	for _, id := range ids {
		if got, err := a.read(id); got != "text" || err != nil {
			t.Errorf("%q %v", got, err)
		}
	}
}

// fsynced short, published longer, changed again without fsync, power loss: what was published must not shrink.
func TestPowerLossAfterPublish(t *testing.T) {
	for _, again := range []bool{false, true} {
		a := newWorld(t, 1)
		id := a.put(record.Root, "f", "")
		f, err := a.Open(t.Context(), id, true)
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, f, "1234", 0)
		if err := f.Sync(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		long := strings.Repeat("published", 20000)
		mustWrite(t, f, long, 4)
		if again { // changes while the batch is under way
			due := a.due(true)
			if _, err := a.publishContent(t.Context(), due); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, f, "x", int64(4+len(long)))
			if _, err := a.publishRecords(t.Context(), due, true); err != nil {
				t.Fatal(err)
			}
		} else {
			a.publishNow()
			mustWrite(t, f, "x", int64(4+len(long)))
		}
		a.crash("boot 2")
		if got, err := a.read(id); !strings.HasPrefix(got, "1234"+long) || err != nil {
			t.Errorf("again %v: %d bytes, %d zeros, of %d published, %v", again, len(got), strings.Count(got, "\x00"), 4+len(long), err)
		}
	}
}

// a file that was cut behind an fsync that only the journal knows, and the power was lost before the journal had the cut: a length that it had, not one between.
func TestCutBehindJournalledBytes(t *testing.T) {
	a := newWorld(t, 1)
	id := a.put(record.Root, "f", strings.Repeat("a", 100_000))
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	sync := func() {
		t.Helper()
		if err := f.Sync(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	sync()
	mustWrite(t, f, strings.Repeat("b", 50_000), 30_000)
	sync()
	backing, err := a.work.Backing(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(backing.Truncate(70_000), backing.Close()); err != nil { // as SetAttr does before it writes the journal
		t.Fatal(err)
	}
	a.crash("boot 2")
	want := strings.Repeat("a", 30_000) + strings.Repeat("b", 40_000)
	if got, err := a.read(id); got != want || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	a.publishNow()
}

// what a rename over another file owes holds on when the file, whose bytes were all in feeds, is written later.
func TestRenamedThenWritten(t *testing.T) {
	a := newWorld(t, 1)
	id := a.put(record.Root, "f", strings.Repeat("x", 200_000))
	a.put(record.Root, "g", "old")
	a.publishNow()
	size := uint64(131_072) // whole blocks: the file gets no bytes of its own by it
	if _, err := a.SetAttr(t.Context(), id, AttrChange{Size: &size}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Rename(t.Context(), record.Root, "f", record.Root, "g", 0), a.SyncDir(t.Context(), record.Root)); err != nil {
		t.Fatal(err)
	}
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "y", 10)
	if err := errors.Join(a.SyncDir(t.Context(), record.Root), a.work.RemoveBacking(id)); err != nil { // neither its name nor its bytes were fsynced
		t.Fatal(err)
	}
	a.crash("boot 2")
	if got, err := a.read(id); got != strings.Repeat("x", 131_072) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	a.publishNow()
}

// what a rename over another file owes is as much as the file was then also if that has no bytes of its own here, and was fsynced shorter.
func TestGrownThenRenamed(t *testing.T) {
	a := newWorld(t, 1)
	id := a.put(record.Root, "f", strings.Repeat("x", 200_000))
	a.put(record.Root, "g", "old")
	a.publishNow()
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []uint64{blockSize, 300_000} {
		if _, err := f.SetAttr(t.Context(), AttrChange{Size: &size}); err != nil {
			t.Fatal(err)
		}
		if size == blockSize {
			err = f.Sync(t.Context(), false)
		} else {
			err = errors.Join(a.Rename(t.Context(), record.Root, "f", record.Root, "g", 0), a.SyncDir(t.Context(), record.Root))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	a.crash("boot 2")
	if got, err := a.read(id); got != strings.Repeat("x", blockSize)+strings.Repeat("\x00", 300_000-blockSize) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	a.publishNow()
}

// what an fsync was asked for counts whether or not the bytes are there of files that somebody else renames over others meanwhile.
func TestRenamedWhileOthersSync(t *testing.T) {
	text := strings.Repeat("x", 200_000)
	a, w, first, f := forgetfulWorld(t, text)
	ids := []record.ID{first, a.put(record.Root, "f1", text), a.put(record.Root, "f2", text)}
	for i := range ids {
		a.put(record.Root, fmt.Sprint("g", i), "old")
	}
	a.mkdir(record.Root, "dir")
	if err := errors.Join(f.Close(), a.Rename(t.Context(), record.Root, "f", record.Root, "g0", 0)); err != nil {
		t.Fatal(err)
	}
	renamed := make(chan error)
	renames := 0
	w.before = func() {
		if renames++; renames < len(ids) {
			n := renames
			go func() {
				renamed <- a.Rename(t.Context(), record.Root, fmt.Sprint("f", n), record.Root, fmt.Sprint("g", n), 0)
			}()
			time.Sleep(50 * time.Millisecond) // for it to come in between, if it can
		}
	}
	if err := a.SyncDir(t.Context(), record.Root); err != nil || renames != len(ids)-1 {
		t.Fatalf("sync: %v, %d renames meanwhile", err, renames)
	}
	w.before = nil
	for n := range renames {
		if err := <-renamed; err != nil {
			t.Fatal(err)
		}
		if n+1 == renames { // nobody fsynced that one
			if err := a.work.RemoveBacking(ids[renames]); err != nil {
				t.Fatal(err)
			}
		}
	}
	a.crash("boot 2")
	if _, err := a.Lookup(t.Context(), record.Root, "dir"); err != nil {
		t.Errorf("the directory: %v", err)
	}
	for n, id := range ids[:renames] {
		at, err := a.Lookup(t.Context(), record.Root, fmt.Sprint("g", n))
		if err != nil || at.ID != id {
			t.Errorf("renamed: %+v, %v", at, err)
		}
		if got, err := a.read(at.ID); got != text || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	a.publishNow()
}

// what an fsync put into the journal is done with when it is published; if the file stays open, the next fsync makes it durable where it is.
func TestFsyncBehindPublish(t *testing.T) {
	a, w, id, f := forgetfulWorld(t, strings.Repeat("x", 200_000))
	sync := func() {
		t.Helper()
		if err := f.Sync(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	sync()
	for i, text := range []string{"journalled", "published, and fsynced behind"} {
		mustWrite(t, f, text, int64(i)*100)
		w.syncs.Store(0)
		sync()
		if n := w.syncs.Load(); (n > 0) != (i == 1) {
			t.Errorf("%s: %d fsyncs of the file", text, n)
		}
		a.publishNow()
	}
	a.crash("boot 2")
	if got, err := a.read(id); len(got) != 200_000 || !strings.HasPrefix(got, "journalled") || got[100:109] != "published" || err != nil {
		t.Errorf("%d bytes, %.20q, %v", len(got), got, err)
	}
}

// an fsync under way, of what the file was before it grew and was renamed over another, does not take back what the batch that came meanwhile says of it.
func TestPublishedWhileItIsSynced(t *testing.T) {
	a, w, id, f := forgetfulWorld(t, strings.Repeat("x", 200_000))
	a.put(record.Root, "g", "old")
	w.before = func() {
		w.before = nil
		mustWrite(t, f, "more", 200_000)
		if err := a.Rename(t.Context(), record.Root, "f", record.Root, "g", 0); err != nil {
			t.Error(err)
		}
		failOwn.Store(true)
		defer failOwn.Store(false)
		if err := a.Publish(t.Context()); err == nil { // its bytes are in the feed, its record is not
			t.Error("published")
		}
	}
	if err := f.Sync(t.Context(), false); err != nil || w.before != nil {
		t.Fatalf("sync: %v", err)
	}
	a.crash("boot 2")
	if _, err := a.Lookup(t.Context(), record.Root, "f"); !errors.Is(err, ErrNotExist) {
		t.Errorf("the rename: %v", err)
	}
	if got, err := a.read(id); got != strings.Repeat("x", 200_000)+"more" || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	a.publishNow()
}

// an fsync during which a batch of before is published says anew what is durable: that the file was cut, too.
func TestCutPublishedWhileItIsSynced(t *testing.T) {
	a, w, id, f := forgetfulWorld(t, strings.Repeat("x", 200_000))
	sync := func() {
		t.Helper()
		if err := f.Sync(t.Context(), false); err != nil || w.before != nil {
			t.Fatal(err)
		}
	}
	sync()
	due := a.due(true)
	if _, err := a.publishContent(t.Context(), due); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "y", 0)
	sync()
	if _, err := f.SetAttr(t.Context(), AttrChange{Size: new(uint64(blockSize))}); err != nil {
		t.Fatal(err)
	}
	w.before = func() {
		w.before = nil
		if n, err := a.publishRecords(t.Context(), due, true); n == 0 || err != nil {
			t.Errorf("%d records, %v", n, err)
		}
	}
	sync()
	mustWrite(t, f, strings.Repeat("z", 70_000), blockSize)
	sync()
	if err := f.in.backing.Truncate(blockSize); err != nil { // the journal alone has the last bytes
		t.Fatal(err)
	}
	a.crash("boot 2")
	if got, err := a.read(id); got != "y"+strings.Repeat("x", blockSize-1)+strings.Repeat("z", 70_000) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	a.publishNow()
}

// a published file is cut in the middle of a block and power fails: what it grows by later is zeros, not what the feed still has there.
func TestCutThenPowerLossThenGrown(t *testing.T) {
	a := newWorld(t, 1)
	id := a.put(record.Root, "f", strings.Repeat("x", 200_000))
	a.publishNow()
	size := uint64(100_000)
	if _, err := a.SetAttr(t.Context(), id, AttrChange{Size: &size}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.SyncDir(t.Context(), record.Root), a.work.RemoveBacking(id)); err != nil { // nothing was fsynced but the journal
		t.Fatal(err)
	}
	a.crash("boot 2")
	size = 120_000
	if _, err := a.SetAttr(t.Context(), id, AttrChange{Size: &size}); err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("x", 100_000) + strings.Repeat("\x00", 20_000)
	for range 2 {
		if got, err := a.read(id); got != want || err != nil {
			t.Fatalf("%d bytes, of these %d x, %v", len(got), strings.Count(got, "x"), err)
		}
		a.publishNow()
	}
}

// watched is a file whose length stays between two bounds.
type watched struct {
	hypercore.File
	t           *testing.T
	least, most int64
}

func (w watched) look(err error) error {
	if size, sizeErr := w.Size(); sizeErr != nil || size < w.least || size > w.most {
		w.t.Errorf("the file is %d bytes long (%v)", size, sizeErr)
	}
	return err
}

func (w watched) WriteAt(p []byte, off int64) (int, error) {
	n, err := w.File.WriteAt(p, off)
	return n, w.look(err)
}

func (w watched) Truncate(size int64) error { return w.look(w.File.Truncate(size)) }

// The length of a backing file tells a replay whether it was cut. So a replay that is cut off by another loss of power while it puts in what the journal has must leave one that tells the same.
func TestReplayKeepsTheLength(t *testing.T) {
	w := &written{pieces: []patch{{b: []byte(strings.Repeat("a", 70_000))}, {off: 10, end: 200_000}, {off: 20, b: []byte("bbb")}, {off: 38, b: []byte("cccc")}, {off: 50, b: []byte("d")}}}
	file := newSmall(new(atomic.Int64), 5)
	if err := w.apply(watched{file, t, 5, 40}, 40); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("a", 10) + strings.Repeat("\x00", 10) + "bbb" + strings.Repeat("\x00", 15) + "cc"; string(file.b) != want {
		t.Errorf("%q", file.b)
	}
}

// TestHoleBesideWhatWasSynced: a hole takes away what was fsynced there, and nothing of what was fsynced behind it, where the file had grown since the journal last said its size.
func TestHoleBesideWhatWasSynced(t *testing.T) {
	a := newWorld(t, 1)
	id := a.put(record.Root, "f", strings.Repeat("a", blockSize))
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, strings.Repeat("b", 70_000), blockSize)
	if err := f.Sync(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "synced", blockSize-3)
	if err := f.Sync(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := f.Allocate(t.Context(), punchHole|keepSize, 0, blockSize); err != nil {
		t.Fatal(err)
	}
	if _, err := f.in.backing.WriteAt([]byte("bbb"), blockSize); err != nil { // the disk forgot
		t.Fatal(err)
	}
	a.crash("boot 2")
	want := strings.Repeat("\x00", blockSize) + "ced" + strings.Repeat("b", 69_997)
	if got, err := a.read(id); got != want || err != nil {
		t.Errorf("%d bytes, %q there, %v", len(got), got[blockSize-3:blockSize+3], err)
	}
}

// TestHoleThatTheDiskForgot: a power loss may take back a hole, and leave the journal, which speaks of it. What was there does not show when something is written beside it.
func TestHoleThatTheDiskForgot(t *testing.T) {
	for what, sync := range map[string]bool{"behind an fsync of the file": false, "and one in the journal": true} {
		t.Run(what, func(t *testing.T) {
			a := newWorld(t, 1)
			old := strings.Repeat("old", blockSize)
			id := a.put(record.Root, "f", old)
			f, err := a.Open(t.Context(), id, true)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Sync(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			if sync {
				mustWrite(t, f, "older", 5)
				if err := f.Sync(t.Context(), false); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Allocate(t.Context(), punchHole|keepSize, 0, 2*blockSize); err != nil {
				t.Fatal(err)
			}
			if _, err := f.in.backing.WriteAt([]byte(old[:2*blockSize]), 0); err != nil { // the disk forgot
				t.Fatal(err)
			}
			a.crash("boot 2")
			if f, err = a.Open(t.Context(), id, true); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, f, "new", 10)
			mustWrite(t, f, "new", blockSize+10)
			want := strings.Repeat("\x00", 10) + "new" + strings.Repeat("\x00", blockSize-3) + "new" + strings.Repeat("\x00", blockSize-13) + old[2*blockSize:]
			if got, err := a.read(id); got != want || err != nil {
				t.Errorf("%d bytes, %q and %q there, %v", len(got), got[:16], got[blockSize:blockSize+16], err)
			}
		})
	}
}
