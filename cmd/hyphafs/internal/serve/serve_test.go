package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/hyperdb"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/replicationtest"
	"hyphafs.org/hyphafs/replication/tcp"
	"hyphafs.org/hyphafs/replication/ws"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a Server under test.
type running struct {
	*Server
	http, tcp string // host:port
	log       *lockedBuffer
	stop      func() error
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// start runs a Server until the test ends or stop is called.
func start(t *testing.T, s Settings) *running {
	t.Helper()
	if s.State == "" {
		s.State = state.Dir(t.TempDir())
	}
	s.HTTP, s.TCP = "127.0.0.1:0", "127.0.0.1:0"
	r := &running{log: &lockedBuffer{}}
	r.Server = newServer(s, slog.New(newDiscreet(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	ctx, cancel := context.WithCancel(context.Background())
	said, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- r.run(ctx, func(line string) { said <- line }) }() // stop receives from it
	r.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(r.log.String()) {
			if strings.Contains(line, "127.0.0.1") && !strings.Contains(line, "level=DEBUG") {
				t.Errorf("an address is in the log: %s", line)
			}
		}
	})
	select {
	case line := <-said:
		if _, err := fmt.Sscanf(strings.NewReplacer("http://", "", "tcp://", "").Replace(line), "ready %s %s", &r.http, &r.tcp); err != nil {
			t.Fatal(line, err)
		}
	case err := <-ended:
		t.Fatal(err)
	}
	return r
}

// origin is a hyperdb with one writer in memory and the node that replicates it.
type origin struct {
	db    *hyperdb.DB
	feed  *hypercore.Feed
	node  *replication.Node
	heard chan string
}

func newOrigin(t *testing.T, n uint64) *origin {
	t.Helper()
	o := &origin{feed: replicationtest.Writer(t, n), heard: make(chan string, 10)}
	var err error
	if o.db, err = hyperdb.Open(t.Context(), hyperdb.Config{Source: o.feed.Key(), Local: o.feed, Open: func(_ context.Context, key hypercore.Key) (hyperdb.Log, error) {
		return replicationtest.Open(t, hypercore.NewMemory(), key, nil), nil
	}}); err != nil {
		t.Fatal(err)
	}
	o.put(t, "k", "v")
	o.node, _ = replicationtest.Node(t, replication.Config{Extension: func(_ replication.PeerID, p []byte) { o.heard <- string(p) }}, o.feed)
	return o
}

func (o *origin) put(t *testing.T, key, value string) {
	t.Helper()
	if _, err := o.db.Batch(t.Context(), []hyperdb.Op{{Key: key, Value: []byte(value)}}); err != nil {
		t.Fatal(err)
	}
}

// dial keeps node connected until the test ends.
func dial(t *testing.T, dial func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = dial(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
}

func (r *running) byWS(t *testing.T, o *origin) {
	dial(t, func(ctx context.Context) error { return ws.Dial(ctx, o.node, "ws://"+r.http, o.feed.Key(), nil) })
}

func (r *running) byTCP(t *testing.T, node *replication.Node) {
	dial(t, func(ctx context.Context) error { return tcp.Dial(ctx, node, r.tcp, nil) })
}

// TestAdopt: an empty node takes the first Hypha that shows a signed block, remembers it, and takes no other.
func TestAdopt(t *testing.T) {
	dir := state.Dir(t.TempDir())
	r := start(t, Settings{State: dir, Adopt: true})
	first, second := newOrigin(t, 0), newOrigin(t, 1)
	empty := replicationtest.Reader(t, 7) // a sign-in with a wrong passphrase: a key, and nothing signed by it
	stranger, _ := replicationtest.Node(t, replication.Config{}, empty)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { _ = ws.DialOnce(ctx, stranger, "ws://"+r.http, empty.Key()) })
	byTCP := newOrigin(t, 2)
	if err := tcp.DialOnce(t.Context(), byTCP.node, r.tcp); !errors.Is(err, replication.ErrHungUp) {
		t.Errorf("over TCP: %v", err)
	}
	r.byWS(t, first)
	if err := first.node.Synced(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	done.Wait()
	if err := ws.DialOnce(t.Context(), second.node, "ws://"+r.http, second.feed.Key()); !errors.Is(err, ws.ErrUnknown) {
		t.Errorf("a second Hypha: %v", err)
	}
	if log := r.log.String(); !strings.Contains(log, "cannot be adopted over TCP") || strings.Count(log, "adopted a Hypha") != 1 || strings.Contains(log, first.feed.Key().String()) {
		t.Errorf("log:\n%s", log)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	again := start(t, Settings{State: dir, Adopt: true})
	if _, ok := again.find(first.feed.Key()); !ok || again.adoption.isOpen() {
		t.Error("the adopted Hypha is forgotten")
	}
	if p, _ := again.bySourceKey(first.feed.Key()); p.opened.Load().feeds.List()[0].Have() != 2 {
		t.Errorf("%d blocks", p.opened.Load().feeds.List()[0].Have())
	}
}

// conn notes that it was closed.
type conn struct {
	replication.Conn
	closed atomic.Bool
}

func (c *conn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// TestAdoptedBeforeTheSessionEnds: a peer that comes again as soon as its session ended meets the Hypha.
func TestAdoptedBeforeTheSessionEnds(t *testing.T) {
	o := newOrigin(t, 0)
	theirs, ours := replicationtest.Pipe(t)
	accepted, taken := &conn{Conn: ours}, 0
	a := &adoption{open: true, take: func(context.Context, hypercore.Key) error {
		taken++
		if accepted.closed.Load() {
			t.Error("the session ended before the Hypha was taken")
		}
		return nil
	}}
	dial(t, func(ctx context.Context) error {
		return o.node.Serve(ctx, theirs, replication.Options{Dialled: true, URL: "test://always", Kind: "test"})
	})
	_ = candidate{a, o.feed.Key()}.Serve(t.Context(), accepted, replication.Options{URL: "test://origin", Kind: "test"})
	if taken != 1 || a.isOpen() || !accepted.closed.Load() {
		t.Errorf("taken %d times, open: %v, closed: %v", taken, a.isOpen(), accepted.closed.Load())
	}
}

// TestWritersAreKept: feeds of writers that a Hypha lists are fetched and served, the others of the same Hypha meet over both transports.
func TestWritersAreKept(t *testing.T) {
	o := newOrigin(t, 0)
	r := start(t, Settings{Hyphas: []hypercore.Key{o.feed.Key()}})
	r.byWS(t, o)
	second := replicationtest.Writer(t, 1)
	mirror := replicationtest.Reader(t, 0)
	db, err := hyperdb.Open(t.Context(), hyperdb.Config{Source: o.feed.Key(), Local: second, Open: func(context.Context, hypercore.Key) (hyperdb.Log, error) { return mirror, nil }})
	if err != nil {
		t.Fatal(err)
	}
	node, set := replicationtest.Node(t, replication.Config{}, mirror)
	r.byTCP(t, node)
	if err := o.db.Authorize(t.Context(), second.Key(), hyperdb.Op{Key: "n", Value: []byte("Second")}); err != nil {
		t.Fatal(err)
	}
	replicationtest.Wait(t, mirror, o.feed.Len())
	if err := db.Update(t.Context()); err != nil || !db.Authorized(second.Key()) {
		t.Fatal("not authorised", err)
	}
	if _, err := db.Batch(t.Context(), []hyperdb.Op{{Key: "k", Value: []byte("by the second")}}); err != nil {
		t.Fatal(err)
	}
	set.Add(second)
	if err := node.Synced(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, _ := r.bySourceKey(o.feed.Key())
	h := p.opened.Load()
	if list := h.feeds.List(); len(list) != 2 || list[1].Key() != second.Key() || list[1].Have() != second.Len() {
		t.Errorf("%d feeds are kept", len(list))
	}
	node.Broadcast([]byte("from TCP to WebSocket"))
	if got := <-o.heard; got != "from TCP to WebSocket" {
		t.Errorf("heard %q", got)
	}
	totals := r.totals()
	if totals.writers != 2 || totals.sessions["ws"] != 1 || totals.sessions["tcp"] != 1 || totals.relayed != 1 || totals.received == 0 || totals.missing != 0 {
		t.Errorf("%+v", totals)
	}
}

// TestMaxBytes: what a Hypha may take is counted over restarts, too.
func TestMaxBytes(t *testing.T) {
	dir := state.Dir(t.TempDir())
	o := newOrigin(t, 0)
	for range 2 {
		r := start(t, Settings{State: dir, Hyphas: []hypercore.Key{o.feed.Key()}, MaxBytes: 4000})
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { _ = tcp.Dial(ctx, o.node, r.tcp, nil) })
		for range 10 {
			o.put(t, "large", strings.Repeat("x", 1000))
		}
		if err := o.node.Synced(t.Context()); !errors.Is(err, replication.ErrFull) {
			t.Error(err)
		}
		p, _ := r.bySourceKey(o.feed.Key())
		h := p.opened.Load()
		used, err := h.feeds.List()[0].StoredBytes()
		limit, full := h.room.limit()
		if err != nil || !full || used > 4000 || used < 3000 || limit.Used != used || r.totals().full != 1 {
			t.Errorf("%d bytes stored, %+v %v %v", used, limit, full, err)
		}
		cancel()
		done.Wait()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, Settings{State: dir, Hyphas: []hypercore.Key{o.feed.Key()}}) // without the bound it takes the rest
	r.byTCP(t, o.node)
	if err := o.node.Synced(t.Context()); err != nil {
		t.Error(err)
	}
}

func get(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestHTTP(t *testing.T) {
	s := newServer(Settings{State: state.Dir(t.TempDir())}, slog.New(slog.DiscardHandler))
	h := s.handler()
	key := "/hypha/" + replicationtest.Key(0).String()
	for path, want := range map[string]int{"/healthz": 503, key: 503, "/": 200, "/metrics": 200, "/other": 404} {
		if got := get(t, h, path); got.Code != want {
			t.Errorf("%s before it is ready: %d", path, got.Code)
		}
	}
	s.ready.Store(true)
	for path, want := range map[string]int{"/healthz": 200, key: 404, "/": 200, "/metrics": 200, "/other": 404} {
		if got := get(t, h, path); got.Code != want {
			t.Errorf("%s: %d", path, got.Code)
		}
	}
	if entries, err := os.ReadDir(string(s.settings.State)); err != nil || len(entries) != 0 {
		t.Errorf("an unknown key made %v %v", entries, err)
	}
	body, err := io.ReadAll(get(t, h, "/metrics").Body)
	if err != nil || !strings.Contains(string(body), `hyphafs_refused_total{reason="unknown_read_key"} 1`) || !strings.Contains(string(body), "hyphafs_hyphas 0") || !strings.Contains(string(body), "go_goroutines") {
		t.Errorf("%v\n%s", err, body)
	}
	if page := get(t, h, "/"); !strings.Contains(page.Body.String(), "cannot read") || page.Header().Get("Content-Security-Policy") == "" {
		t.Errorf("%v", page)
	}
}

// TestLockedAndDamaged: exit codes as everywhere.
func TestLockedAndDamaged(t *testing.T) {
	dir := state.Dir(t.TempDir())
	run := func() fault.Code {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		return fault.CodeOf(Run(ctx, Settings{State: dir, HTTP: "127.0.0.1:0", Hyphas: []hypercore.Key{replicationtest.Key(0)}, LogLevel: "error", LogFormat: "text"}, io.Discard, func(string) { cancel() }))
	}
	lock, err := dir.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if code := run(); code != fault.Busy {
		t.Errorf("locked: %d", code)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	if code := run(); code != fault.Done {
		t.Errorf("%d", code)
	}
	discovery := hypercore.DiscoveryKey(replicationtest.Key(0)).String()
	if err := os.WriteFile(filepath.Join(dir.Hyphas(), discovery, discovery, "head"), bytes.Repeat([]byte{7}, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := run(); code != fault.Damaged {
		t.Errorf("a damaged feed: %d", code)
	}
	for text, want := range map[string]fault.Code{"{}": fault.Damaged, `{"version": 9}`: fault.Failed, `{"version": 1, "adopted": "00"}`: fault.Damaged, "": fault.Damaged} {
		if err := os.WriteFile(path(dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if code := run(); code != want {
			t.Errorf("%q: %d, want %d", text, code, want)
		}
	}
}

// FuzzRemembered: a serve.json that is taken is one that remember could have written.
func FuzzRemembered(f *testing.F) {
	f.Add([]byte(`{"version": 1, "adopted": "` + replicationtest.Key(0).String() + `"}`))
	f.Add([]byte(`{"version": 1}`))
	dir := state.Dir(f.TempDir())
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := parseRemembered(data)
		if err != nil {
			if !errors.Is(err, state.ErrDamaged) && !errors.Is(err, state.ErrNewer) || !key.IsZero() {
				t.Fatalf("%v %v", key, err)
			}
			return
		}
		if key.IsZero() {
			return
		}
		if err := remember(dir, key); err != nil {
			t.Fatal(err)
		}
		if again, err := recall(dir); err != nil || again != key {
			t.Fatalf("%v became %v, %v", key, again, err)
		}
	})
}
