//go:build !js

package ws_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/gate"
	"hyphafs.org/hyphafs/replication/replicationtest"
	"hyphafs.org/hyphafs/replication/ws"
)

// TestMain makes this process trust the certificate of httptest's servers.
func TestMain(m *testing.M) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	trusted, err := os.CreateTemp("", "trusted-*.pem")
	if err == nil {
		err = errors.Join(pem.Encode(trusted, &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), trusted.Close(), os.Setenv("SSL_CERT_FILE", trusted.Name()))
	}
	server.Close()
	if err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.Remove(trusted.Name())
		os.Exit(code)
	}))
}

// handover is a Node that gives the connection to a test and holds the session until its context or hold ends.
type handover struct {
	conns chan replication.Conn
	opts  chan replication.Options
	hold  context.Context
}

func (h handover) Serve(ctx context.Context, conn replication.Conn, opts replication.Options) error {
	h.conns <- conn
	h.opts <- opts
	select {
	case <-h.hold.Done():
	case <-ctx.Done():
	}
	return conn.Close()
}

func newHandover(t testing.TB) handover {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return handover{make(chan replication.Conn, 1), make(chan replication.Options, 1), ctx}
}

// loopback connects two WebSockets.
func loopback(t testing.TB) (dialler, accepter replication.Conn) {
	t.Helper()
	server, client := newHandover(t), newHandover(t)
	l, _ := listen(t, server, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = ws.DialOnce(ctx, client, l.URL(), replicationtest.Key(0)) })
	t.Cleanup(func() { cancel(); done.Wait() })
	return <-client.conns, <-server.conns
}

func TestSuite(t *testing.T) { replicationtest.Suite(t, loopback) }

// listen runs a Listener of Key(0) for n until the test ends.
func listen(t testing.TB, n ws.Node, address string) (l *ws.Listener, stop func()) {
	t.Helper()
	l, err := ws.Listen(t.Context(), address, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := l.Run(ctx, n, replicationtest.Key(0)); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	stop = func() { cancel(); done.Wait() }
	t.Cleanup(stop)
	return l, stop
}

// dial runs Dial until the test ends.
func dial(t testing.TB, n ws.Node, peer string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := ws.Dial(ctx, n, peer, replicationtest.Key(0), nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
}

func TestListenAndDial(t *testing.T) {
	w, r := replicationtest.Writer(t, 0, replicationtest.Blocks(10, 100)...), replicationtest.Reader(t, 0)
	a, _ := replicationtest.Node(t, replication.Config{}, w)
	b, _ := replicationtest.Node(t, replication.Config{}, r)
	l, _ := listen(t, a, "127.0.0.1:0")
	dial(t, b, l.URL())
	replicationtest.Wait(t, r, 10)
	if p := b.Peers(); len(p) != 1 || p[0].URL != l.URL() || p[0].Kind != "ws" || !p[0].Dialled || !p[0].Encrypted || p[0].Down == 0 || p[0].Up == 0 {
		t.Errorf("%+v", p)
	}
}

func TestDialComesBack(t *testing.T) {
	w, r := replicationtest.Writer(t, 0, replicationtest.Blocks(10, 100)...), replicationtest.Reader(t, 0)
	a, _ := replicationtest.Node(t, replication.Config{}, w)
	b, _ := replicationtest.Node(t, replication.Config{}, r)
	l, stop := listen(t, a, "127.0.0.1:0")
	dial(t, b, l.URL())
	replicationtest.Wait(t, r, 10)
	stop()
	replicationtest.Append(t, w, replicationtest.Blocks(5, 50)...)
	listen(t, a, l.Addr())
	replicationtest.Wait(t, r, 15)
}

func TestDialSelf(t *testing.T) {
	a, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Writer(t, 0))
	l, _ := listen(t, a, "127.0.0.1:0")
	if err := ws.Dial(t.Context(), a, l.URL(), replicationtest.Key(0), nil); !errors.Is(err, replication.ErrSelf) {
		t.Error(err)
	}
}

func TestUnknownKey(t *testing.T) {
	a, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Writer(t, 0))
	l, _ := listen(t, a, "127.0.0.1:0")
	b, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Reader(t, 1))
	err := ws.DialOnce(t.Context(), b, l.URL(), replicationtest.Key(1))
	if !errors.Is(err, ws.ErrUnknown) || strings.Contains(err.Error(), replicationtest.Key(1).String()) {
		t.Error(err)
	}
}

// secure serves h with TLS until the test ends and returns where.
func secure(t *testing.T, h http.Handler) (peer string) {
	t.Helper()
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	return "wss" + strings.TrimPrefix(server.URL, "https")
}

// TestInsideTLS: over wss both are in the clear, and it works.
func TestInsideTLS(t *testing.T) {
	w, r := replicationtest.Writer(t, 0, replicationtest.Blocks(10, 100)...), replicationtest.Reader(t, 0)
	a, _ := replicationtest.Node(t, replication.Config{}, w)
	b, _ := replicationtest.Node(t, replication.Config{}, r)
	peer := secure(t, find(a))
	dial(t, b, peer)
	replicationtest.Wait(t, r, 10)
	if p := b.Peers(); len(p) != 1 || p[0].URL != peer || p[0].Encrypted {
		t.Errorf("%+v", p)
	}
}

func find(n ws.Node) *ws.Handler {
	return &ws.Handler{Find: func(key hypercore.Key) (ws.Node, bool) { return n, key == replicationtest.Key(0) }, Log: slog.New(slog.DiscardHandler)}
}

// TestWrongCertificate: a wss peer without a good certificate for its name is not spoken to.
func TestWrongCertificate(t *testing.T) {
	a, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Writer(t, 0))
	server := httptest.NewUnstartedServer(find(a))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	server.StartTLS()
	defer server.Close()
	var wrong *tls.CertificateVerificationError
	peer := strings.Replace(server.URL, "https://127.0.0.1", "wss://localhost", 1)
	if err := ws.DialOnce(t.Context(), a, peer, replicationtest.Key(0)); !errors.As(err, &wrong) {
		t.Error(err)
	}
}

// ask does a WebSocket handshake with these headers and returns the status of the answer.
func ask(t *testing.T, l *ws.Listener, path string, header http.Header) int {
	t.Helper()
	socket, answer, err := websocket.DefaultDialer.DialContext(t.Context(), l.URL()+path, header)
	if err == nil {
		socket.Close()
	}
	if answer == nil {
		t.Fatal(err)
	}
	return answer.StatusCode
}

func TestWhoIsServed(t *testing.T) {
	a, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Writer(t, 0))
	l, _ := listen(t, a, "127.0.0.1:0")
	known, unknown := "/hypha/"+replicationtest.Key(0).String(), "/hypha/"+replicationtest.Key(1).String()
	for name, c := range map[string]struct {
		path   string
		origin string
		want   int
	}{
		"a program":                 {known, "", http.StatusSwitchingProtocols},
		"upper case":                {"/hypha/" + strings.ToUpper(replicationtest.Key(0).String()), "", http.StatusSwitchingProtocols},
		"a page of ours":            {known, "http://" + l.Addr(), http.StatusSwitchingProtocols},
		"a page of others":          {known, "https://evil.example", http.StatusForbidden},
		"a page with a like name":   {known, "http://" + l.Addr() + ".evil.example", http.StatusForbidden},
		"a page that hides":         {known, "null", http.StatusForbidden},
		"unknown":                   {unknown, "", http.StatusNotFound},
		"unknown, a page of others": {unknown, "https://evil.example", http.StatusNotFound},
		"no key":                    {"/hypha/", "", http.StatusNotFound},
		"half a key":                {known[:40], "", http.StatusNotFound},
		"more than a key":           {known + "/", "", http.StatusNotFound},
		"elsewhere":                 {"/", "", http.StatusNotFound},
	} {
		header := http.Header{}
		if c.origin != "" {
			header.Set("Origin", c.origin)
		}
		if got := ask(t, l, c.path, header); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	answer, err := http.Get("http://" + l.Addr() + known)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if answer.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("without WebSocket: %d", answer.StatusCode)
	}
}

// TestOrigins: a page of another site is served if the operator says so.
func TestOrigins(t *testing.T) {
	a, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Writer(t, 0))
	h := find(a)
	h.Origins = []string{"https://page.example"}
	server := httptest.NewServer(h)
	defer server.Close()
	for origin, want := range map[string]int{"https://page.example": 101, "https://PAGE.example": 101, "http://page.example": 403, "https://page.example.org": 403} {
		socket, answer, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http")+"/hypha/"+replicationtest.Key(0).String(), http.Header{"Origin": {origin}})
		if err == nil {
			socket.Close()
		}
		if answer == nil || answer.StatusCode != want {
			t.Errorf("%s: %v %v", origin, answer, err)
		}
	}
}

// TestBehindAProxy: sessions that a proxy on this machine passes on are bounded by the address that it saw, not by one that the peer made up.
func TestBehindAProxy(t *testing.T) {
	server := newHandover(t)
	server.conns, server.opts = make(chan replication.Conn, 10), make(chan replication.Options, 10)
	h := find(server)
	h.Gate = gate.New(10, 2)
	web := httptest.NewServer(h)
	defer web.Close()
	for i, c := range []struct {
		hops []string
		want int
	}{
		{[]string{"192.0.2.1"}, 101}, {[]string{"198.51.100.7, 192.0.2.1"}, 101}, {[]string{"198.51.100.8", "192.0.2.1"}, 429},
		{[]string{"192.0.2.2"}, 101}, {[]string{"nonsense"}, 101}, {nil, 101},
	} {
		socket, answer, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(web.URL, "http")+"/hypha/"+replicationtest.Key(0).String(), http.Header{"X-Forwarded-For": c.hops})
		if answer == nil || answer.StatusCode != c.want {
			t.Errorf("%d: %v %v", i, answer, err)
		}
		if err == nil {
			defer socket.Close()
		}
	}
	if o := <-server.opts; o.URL != "ws://192.0.2.1" || !o.Clear || o.Dialled {
		t.Errorf("%+v", o)
	}
}

// pipe connects a raw WebSocket with a connection of ours.
func pipe(t *testing.T) (*websocket.Conn, replication.Conn) {
	t.Helper()
	server := newHandover(t)
	l, _ := listen(t, server, "127.0.0.1:0")
	socket, _, err := websocket.DefaultDialer.Dial(l.URL()+"/hypha/"+replicationtest.Key(0).String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return socket, <-server.conns
}

// TestMessagesAreAStream: where messages end, how they are cut into frames, and empty ones mean nothing; the end in order is io.EOF.
func TestMessagesAreAStream(t *testing.T) {
	socket, conn := pipe(t)
	var sent []byte
	send := func(pieces ...[]byte) {
		w, err := socket.NextWriter(websocket.BinaryMessage)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pieces {
			sent = append(sent, p...)
			if _, err := w.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var done sync.WaitGroup
	done.Go(func() {
		send([]byte("a"))
		send()
		send([]byte("bc"), bytes.Repeat([]byte("d"), 100_000), []byte("e"))
		send(bytes.Repeat([]byte("f"), 1<<20))
		if err := socket.WriteControl(websocket.PingMessage, nil, time.Time{}); err != nil {
			t.Error(err)
		}
		send([]byte("g"))
		if err := socket.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Time{}); err != nil {
			t.Error(err)
		}
	})
	got, err := io.ReadAll(conn)
	done.Wait()
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d, %v", len(got), len(sent), err)
	}
}

func TestTextIsRefused(t *testing.T) {
	socket, conn := pipe(t)
	if err := socket.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 10)); n != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Error(n, err)
	}
}

// TestBrokenOff: a connection that breaks is no end in order.
func TestBrokenOff(t *testing.T) {
	socket, conn := pipe(t)
	if err := socket.NetConn().Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err == nil {
		t.Error("taken for the end")
	}
}

// TestCloseEndsAWrite that the peer takes nothing of.
func TestCloseEndsAWrite(t *testing.T) {
	_, conn := pipe(t)
	var done sync.WaitGroup
	begun := make(chan struct{})
	done.Go(func() {
		close(begun)
		for {
			if _, err := conn.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	<-begun
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	done.Wait()
}

// TestGateClosesConnections: beyond what the gate lets in, connections are closed, and room comes back.
func TestGateClosesConnections(t *testing.T) {
	a, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Writer(t, 0))
	l, err := ws.Listen(t.Context(), "127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Gate = gate.New(2, 0)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = l.Run(ctx, a, replicationtest.Key(0)) })
	defer done.Wait()
	defer cancel()
	var conns [3]net.Conn
	for i := range conns {
		if conns[i], err = net.Dial("tcp", l.Addr()); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
	}
	if _, err := conns[2].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the third connection: %v", err)
	}
	conns[0].Close()
	for i := 0; ; i++ { // the place comes back when the server has seen that
		if got := func() int {
			socket, answer, _ := websocket.DefaultDialer.Dial(l.URL()+"/hypha/"+replicationtest.Key(0).String(), nil)
			if answer == nil {
				return 0
			}
			defer socket.Close()
			return answer.StatusCode
		}(); got == http.StatusSwitchingProtocols {
			return
		}
	}
}

func TestCheck(t *testing.T) {
	for text, good := range map[string]bool{
		"ws://127.0.0.1:80": true, "wss://hypha.example": true, "wss://hypha.example/": true, "wss://[2001:db8::1]:8443/folder": true,
		"tcp://127.0.0.1:80": false, "http://hypha.example": false, "ws://": false, "ws:///x": false, "wss://me:secret@hypha.example": false,
		"wss://hypha.example/?x": false, "wss://hypha.example?": false, "wss://hypha.example/#x": false, "%": false, "wss://hypha.example/hypha/00": false,
	} {
		if err := ws.Check(text); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzCheck: whatever is taken gets the key behind it, whole, and nothing else changes.
func FuzzCheck(f *testing.F) {
	f.Add("ws://127.0.0.1:80")
	f.Add("wss://hypha.example/folder/..//x")
	f.Fuzz(func(t *testing.T, peer string) {
		if ws.Check(peer) != nil {
			return
		}
		full, secure, err := ws.Endpoint(peer, replicationtest.Key(3))
		if err != nil || !strings.HasSuffix(full, "/hypha/"+replicationtest.Key(3).String()) || secure != strings.HasPrefix(strings.ToLower(peer), "wss:") {
			t.Errorf("%q becomes %q, %v, %v", peer, full, secure, err)
		}
	})
}
