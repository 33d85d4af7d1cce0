package drive

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// forgetful is a Workspace one of whose backing files, once told to, fails the next fsync; those behind it succeed.
type forgetful struct {
	Workspace
	fail   atomic.Bool
	syncs  atomic.Int64
	before func() // each fsync, if set
}

func (w *forgetful) Backing(id record.ID) (hypercore.File, error) {
	f, err := w.Workspace.Backing(id)
	return forgetfulFile{f, w}, err
}

type forgetfulFile struct {
	hypercore.File
	w *forgetful
}

func (f forgetfulFile) Sync() error {
	f.w.syncs.Add(1)
	if f.w.before != nil {
		f.w.before()
	}
	if f.w.fail.CompareAndSwap(true, false) {
		return errors.New("injected")
	}
	return f.File.Sync()
}

// forgetfulWorld makes a world on a forgetful workspace, with a file that is open.
func forgetfulWorld(t *testing.T, text string) (*world, *forgetful, record.ID, *File) {
	t.Helper()
	a := newWorld(t, 1)
	w := &forgetful{Workspace: a.work.Workspace}
	a.work.Workspace = w
	id := a.put(record.Root, "f", text)
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	return a, w, id, f
}

// lostFile makes a world with a file whose fsync failed.
func lostFile(t *testing.T, text string) (*world, record.ID, *File) {
	t.Helper()
	a, w, id, f := forgetfulWorld(t, text)
	w.fail.Store(true)
	if err := f.Sync(t.Context(), false); err == nil || w.fail.Load() {
		t.Fatalf("fsync: %v", err)
	}
	return a, id, f
}

// TestFsyncThatFails: behind it no other fsync of the file succeeds and nothing publishes it, until it is cut to nothing and written anew.
func TestFsyncThatFails(t *testing.T) {
	a, id, f := lostFile(t, strings.Repeat("lost ", 40_000))
	mustWrite(t, f, "more", 100_000)
	if err := f.Sync(t.Context(), false); !errors.Is(err, errLost) {
		t.Errorf("the next fsync: %v", err)
	}
	if err := a.Publish(t.Context()); !errors.Is(err, errLost) {
		t.Errorf("publish: %v", err)
	}
	if _, err := a.view.Inode(id); err == nil {
		t.Error("it was published")
	}
	if _, err := f.SetAttr(t.Context(), AttrChange{Size: new(uint64)}); err != nil {
		t.Fatal(err)
	}
	anew := strings.Repeat("anew ", 40_000)
	mustWrite(t, f, anew, 0)
	if err := f.Sync(t.Context(), false); err != nil {
		t.Errorf("written anew: %v", err)
	}
	a.publishNow()
	a.crash("boot 2")
	if got, err := a.read(id); got != anew || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestLostAndStartedAgain: the next start writes what is there anew.
func TestLostAndStartedAgain(t *testing.T) {
	text := strings.Repeat("lost ", 40_000)
	a, id, _ := lostFile(t, text)
	a.crash("boot 1")
	if got, err := a.read(id); got != text || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	f, err := a.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(t.Context(), false), f.Close()); err != nil {
		t.Error(err)
	}
	a.publishNow()
}

// TestLostAndRenamed: a lost file that took the place of another one holds nobody back for long: who syncs next is told, then all goes on.
func TestLostAndRenamed(t *testing.T) {
	a, _, f := lostFile(t, strings.Repeat("lost ", 40_000))
	a.put(record.Root, "g", "good")
	mustWrite(t, f, "more", 0)
	if err := a.Rename(t.Context(), record.Root, "f", record.Root, "g", 0); err != nil {
		t.Fatal(err)
	}
	if err := a.SyncDir(t.Context(), record.Root); !errors.Is(err, errLost) {
		t.Errorf("the first sync: %v", err)
	}
	if err := a.SyncDir(t.Context(), record.Root); err != nil {
		t.Errorf("the second sync: %v", err)
	}
	a.crash("boot 2")
	if at, err := a.Lookup(t.Context(), record.Root, "g"); err != nil || at.Size != 0 { // none of its bytes was ever durable
		t.Errorf("%+v, %v", at, err)
	}
	a.publishNow()
}

// TestLostRenamedAndRemoved: neither does one that is gone, though still open, when somebody syncs.
func TestLostRenamedAndRemoved(t *testing.T) {
	a, _, f := lostFile(t, strings.Repeat("lost ", 40_000))
	a.put(record.Root, "g", "good")
	mustWrite(t, f, "more", 0)
	if err := a.Rename(t.Context(), record.Root, "f", record.Root, "g", 0); err != nil {
		t.Fatal(err)
	}
	if err := a.Remove(t.Context(), record.Root, "g", false); err != nil {
		t.Fatal(err)
	}
	a.put(record.Root, "h", "here")
	if err := a.SyncDir(t.Context(), record.Root); err != nil {
		t.Fatal(err)
	}
	a.crash("boot 2")
	if _, err := a.Lookup(t.Context(), record.Root, "g"); !errors.Is(err, ErrNotExist) {
		t.Errorf("g: %v", err)
	}
	if at, err := a.Lookup(t.Context(), record.Root, "h"); err != nil || at.Size != 4 {
		t.Errorf("h: %+v, %v", at, err)
	}
	a.publishNow()
}

// loud is a Workspace that tells of the next write to a journal opened since.
type loud struct {
	Workspace
	wrote func()
}

func (w *loud) Journal(name string) (hypercore.File, error) {
	f, err := w.Workspace.Journal(name)
	return loudFile{f, w}, err
}

type loudFile struct {
	hypercore.File
	w *loud
}

func (f loudFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	if wrote := f.w.wrote; wrote != nil {
		f.w.wrote = nil
		wrote()
	}
	return n, err
}

// TestLostAndRenamedTwice: a lost file that is renamed over another again, just when its first rename is let count, holds back nothing that is fsynced behind it.
func TestLostAndRenamedTwice(t *testing.T) {
	a, w, id, f := forgetfulWorld(t, strings.Repeat("text ", 40_000))
	work := &loud{Workspace: w}
	a.work.Workspace = work
	a.Drive.mu.Lock()
	err := a.compactNext()
	a.Drive.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, strings.Repeat("more ", 60_000), 0)
	w.fail.Store(true)
	if err := f.Sync(t.Context(), false); err == nil || w.fail.Load() {
		t.Fatalf("fsync: %v", err)
	}
	a.put(record.Root, "g", "good")
	a.put(record.Root, "h", "good")
	if err := a.Rename(t.Context(), record.Root, "f", record.Root, "g", 0); err != nil {
		t.Fatal(err)
	}
	renamed := make(chan error)
	work.wrote = func() {
		go func() { renamed <- a.Rename(t.Context(), record.Root, "g", record.Root, "h", 0) }()
		time.Sleep(50 * time.Millisecond) // for it to come in between, if it can
	}
	if err := a.SyncDir(t.Context(), record.Root); !errors.Is(err, errLost) {
		t.Fatalf("sync: %v", err)
	}
	if err := <-renamed; err != nil {
		t.Fatal(err)
	}
	a.mkdir(record.Root, "dir")
	if err := a.SyncDir(t.Context(), record.Root); !errors.Is(err, errLost) {
		t.Errorf("sync behind the second rename: %v", err)
	}
	if err := a.SyncDir(t.Context(), record.Root); err != nil {
		t.Errorf("sync once more: %v", err)
	}
	a.crash("boot 2")
	if _, err := a.Lookup(t.Context(), record.Root, "dir"); err != nil {
		t.Errorf("the directory: %v", err)
	}
	if at, err := a.Lookup(t.Context(), record.Root, "h"); err != nil || at.ID != id {
		t.Errorf("renamed: %+v, %v", at, err)
	}
	a.publishNow()
}

// TestClosedWhileItIsSynced: a file that is gone before an fsync reaches its bytes is not lost, and whoever synced is told of no failure.
func TestClosedWhileItIsSynced(t *testing.T) {
	a, w, id, f := forgetfulWorld(t, strings.Repeat("text ", 40_000))
	a.put(record.Root, "g", "good")
	if err := a.Rename(t.Context(), record.Root, "f", record.Root, "g", 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w.before = func() {
		w.before = nil
		if err := a.Remove(t.Context(), record.Root, "g", false); err != nil {
			t.Error(err)
		}
		a.Forget(id)
	}
	if err := a.SyncDir(t.Context(), record.Root); err != nil || w.before != nil {
		t.Errorf("sync: %v", err)
	}
	a.crash("boot 1")
	if _, err := a.Attr(t.Context(), id); !errors.Is(err, ErrNotExist) {
		t.Errorf("the file: %v", err)
	}
	a.publishNow()
}

// TestCutThatTheJournalLacks: what an fsync left of a file goes no further than the file, also if its journal had failed when it was cut, and has a note of the new length alone.
func TestCutThatTheJournalLacks(t *testing.T) {
	text := strings.Repeat("text ", 40_000)
	a, w, id, f := forgetfulWorld(t, text)
	if err := f.Sync(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	a.journal.Fail(errors.New("injected"))
	size := uint64(blockSize)
	if _, err := f.SetAttr(t.Context(), AttrChange{Size: &size}); err == nil {
		t.Fatal("the journal took it")
	}
	w.fail.Store(true)
	if err := f.Sync(t.Context(), false); err == nil || w.fail.Load() {
		t.Fatalf("fsync: %v", err)
	}
	a.crash("boot 2")
	if got, err := a.read(id); got != text[:size] || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	a.publishNow()
}
