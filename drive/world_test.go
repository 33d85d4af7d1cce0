package drive

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
)

var testKeys = &record.Keys{Names: [32]byte{1}, Epochs: map[uint32]record.EpochKeys{0: {Meta: [32]byte{2}, Blocks: [32]byte{3}}}}

func secret(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(append(make([]byte, 31), n))
}

func public(n byte) hypercore.Key {
	return hypercore.Key(secret(n).Public().(ed25519.PublicKey))
}

// bootWork is a WorkDir whose boot id the test sets.
type bootWork struct {
	Workspace
	boot string
}

func (w *bootWork) Boot() string { return w.boot }

// world is one node: what lasts over restarts, and the drive that is open.
type world struct {
	*Drive
	t     testing.TB
	n     byte
	work  *bootWork
	kv    *view.Memory
	disk  view.KV // in the place of kv, for one start
	mu    sync.Mutex
	feeds map[string]*hypercore.Memory
	now   time.Time
	clock func() time.Time // in the place of one that counts
	doubt string           // of the next starts
}

// newWorld makes node n; node 1 is the origin.
func newWorld(t testing.TB, n byte) *world {
	t.Helper()
	dir, err := WorkDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, n: n, work: &bootWork{dir, "boot 1"}, kv: view.NewMemory(), feeds: map[string]*hypercore.Memory{}, now: time.Unix(1_700_000_000+int64(n), 0)}
	w.start()
	t.Cleanup(func() {
		if w.Drive != nil {
			w.stop()
		}
	})
	return w
}

func (w *world) start() {
	w.t.Helper()
	var kv view.KV = w.kv
	if w.disk != nil {
		kv, w.disk = w.disk, nil
	}
	d, err := Open(w.t.Context(), Config{
		Feeds: func(name string) hypercore.Storage {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.feeds[name] == nil {
				w.feeds[name] = hypercore.NewMemory()
			}
			return failing{w.feeds[name], name == hypercore.DiscoveryKey(public(w.n)).String()}
		},
		View: kv, Work: w.work, Keys: testKeys, Local: [32]byte{w.n}, Source: public(1), Writer: secret(w.n), Name: fmt.Sprintf("Node %d", w.n),
		Now: func() time.Time {
			if w.clock != nil {
				return w.clock()
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.now = w.now.Add(time.Millisecond)
			return w.now
		},
		ReadTimeout: time.Millisecond, Doubt: w.doubt, Confirmed: func() { w.doubt = "" },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Drive = d
}

// stop checks the drive and closes it.
func (w *world) stop() {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	if err := w.Publish(ctx); err != nil {
		w.t.Error(err)
	}
	if err := w.Check(ctx); err != nil {
		w.t.Error(err)
	}
	if err := w.Close(ctx); err != nil {
		w.t.Error(err)
	}
	w.Drive = nil
}

// crash forgets the open drive as kill -9 does, or with another boot as a power loss does (the files themselves are whole).
func (w *world) crash(boot string) {
	w.t.Helper()
	w.work.boot = boot
	w.start()
}

// exchange lets two nodes have all feeds of each other, and fold them.
func exchange(t testing.TB, a, b *world) {
	t.Helper()
	for range 3 { // authorisations bring further feeds
		for _, pair := range [][2]*world{{a, b}, {b, a}} {
			give(t, pair[0], pair[1])
			if err := pair[1].receive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// give lets node to have all feeds of from, and folds nothing.
func give(t testing.TB, from, to *world) {
	t.Helper()
	for _, f := range from.FeedSet().List() {
		giveFeed(t, f, to, f.Len())
	}
}

// giveFeed lets node to have the blocks of f before until.
func giveFeed(t testing.TB, f *hypercore.Feed, to *world, until uint64) {
	t.Helper()
	theirs, err := to.feedsGet(f.Key())
	if err != nil {
		t.Fatal(err)
	}
	for seq := range until {
		if f.Has(seq) && !theirs.Has(seq) {
			hand(t, f, theirs, seq)
		}
	}
}

// hand gives a block of one feed to the same feed elsewhere.
func hand(t testing.TB, from, to *hypercore.Feed, seq uint64) {
	t.Helper()
	p, err := from.Proof(seq, to.Digest(seq), &hypercore.Marks{}, false)
	if err != nil {
		t.Fatal(err)
	}
	block, err := from.Block(seq)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Put(t.Context(), seq, block, p); err != nil {
		t.Fatal(err)
	}
}

func (w *world) feedsGet(key hypercore.Key) (*hypercore.Feed, error) { return w.Drive.feeds.Get(key) }

// twoNodes are an origin and a second node that may write.
func twoNodes(t testing.TB) (a, b *world) {
	t.Helper()
	a, b = newWorld(t, 1), newWorld(t, 2)
	if b.Writable() {
		t.Fatal("the second node may write before it was authorised")
	}
	if err := a.Authorize(t.Context(), public(2), "Second"); err != nil {
		t.Fatal(err)
	}
	exchange(t, a, b)
	if !b.Writable() {
		t.Fatal("the second node may not write although it was authorised")
	}
	return a, b
}

func (w *world) mkdir(dir record.ID, name string) record.ID {
	w.t.Helper()
	a, err := w.Make(w.t.Context(), dir, name, NewInode{Kind: record.Dir, Mode: 0o755})
	if err != nil {
		w.t.Fatal(err)
	}
	return a.ID
}

// put makes or overwrites a file.
func (w *world) put(dir record.ID, name, text string) record.ID {
	w.t.Helper()
	a, err := w.Lookup(w.t.Context(), dir, name)
	if errors.Is(err, ErrNotExist) {
		a, err = w.Make(w.t.Context(), dir, name, NewInode{Kind: record.File, Mode: 0o644})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	f, err := w.Open(w.t.Context(), a.ID, true)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := f.SetAttr(w.t.Context(), AttrChange{Size: new(uint64)}); err != nil {
		w.t.Fatal(err)
	}
	if _, err := f.WriteAt(w.t.Context(), []byte(text), 0, true); err != nil {
		w.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
	return a.ID
}

func (w *world) read(id record.ID) (string, error) {
	w.t.Helper()
	f, err := w.Open(w.t.Context(), id, false)
	if err != nil {
		return "", err
	}
	a, err := f.Attr(w.t.Context())
	if err != nil {
		return "", err
	}
	b := make([]byte, a.Size+10)
	n, err := f.ReadAt(w.t.Context(), b, 0)
	return string(b[:n]), errors.Join(err, f.Close())
}

// tree is everything a node shows, one line each.
func (w *world) tree() string {
	w.t.Helper()
	var b bytes.Buffer
	w.walk(&b, record.Root, "")
	return b.String()
}

func (w *world) walk(b *bytes.Buffer, dir record.ID, at string) {
	w.t.Helper()
	es, err := w.ReadDir(w.t.Context(), dir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range es {
		a, err := w.Lookup(w.t.Context(), dir, e.Name)
		if err != nil || a.ID != e.ID || a.Kind != e.Kind {
			w.t.Fatalf("%s/%s: %+v %v", at, e.Name, a, err)
		}
		switch e.Kind {
		case record.Dir:
			fmt.Fprintf(b, "%s/%s/ %o\n", at, e.Name, a.Mode)
			w.walk(b, e.ID, at+"/"+e.Name)
		case record.File:
			text, err := w.read(e.ID)
			if err != nil {
				w.t.Fatal(err)
			}
			if len(text) > 40 {
				text = fmt.Sprintf("%s… (%d)", text[:40], len(text))
			}
			fmt.Fprintf(b, "%s/%s %o %d %q\n", at, e.Name, a.Mode, a.Nlink, text)
		default:
			fmt.Fprintf(b, "%s/%s kind %d\n", at, e.Name, e.Kind)
		}
	}
}

func (w *world) publishNow() {
	w.t.Helper()
	if err := w.Publish(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}
