//go:build !js

package ws

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/gate"
)

// What a peer may take before it has said who it is.
const (
	maxConns    = 256 // that a Listener serves at once, unless its Gate says otherwise
	maxHeader   = 8 << 10
	headerTime  = 10 * time.Second
	requestTime = 30 * time.Second // for requests that are no WebSocket
	idleTime    = 60 * time.Second // between two requests
)

// Handler serves GET /hypha/<read key>. Sessions end with the context of their request.
type Handler struct {
	// Find returns the node of a read key; false: it is unknown here, which is answered with 404. It must cost nothing.
	Find func(key hypercore.Key) (Node, bool)
	// Gate bounds sessions by the address that a reverse proxy on this machine says they come from, in addition to what bounds connections; nil: no bound.
	Gate *gate.Gate
	// Origins lists the origins ("https://host") of pages that are served although they come from other hosts.
	Origins []string
	Log     *slog.Logger

	buffers sync.Pool // of sessions that are writing
}

// ServeHTTP replicates until the peer leaves or the request's context ends.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key, ok := keyOf(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	node, ok := h.Find(key)
	if !ok {
		http.NotFound(w, r)
		return
	}
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this is for WebSocket", http.StatusUpgradeRequired)
		return
	}
	address := r.RemoteAddr
	if proxied, ok := forwarded(r); ok {
		leave, err := h.Gate.Enter(proxied)
		if err != nil {
			h.Log.Warn("connection refused", "peer", proxied, "err", err)
			http.Error(w, err.Error(), http.StatusTooManyRequests)
			return
		}
		defer leave()
		address = proxied
	}
	up := websocket.Upgrader{HandshakeTimeout: headerTime, WriteBufferSize: bufferSize, WriteBufferPool: &h.buffers, CheckOrigin: h.originAllowed}
	socket, err := up.Upgrade(w, r, nil)
	if err != nil {
		h.Log.Debug("no WebSocket", "peer", address, "err", err) // the peer has its answer
		return
	}
	peer := "ws://" + address
	err = node.Serve(r.Context(), &conn{socket: socket}, replication.Options{URL: peer, Kind: "ws", Clear: true})
	if r.Context().Err() == nil {
		h.Log.Info("peer left", "peer", peer, "err", err)
	}
}

// originAllowed is true for programs that are no browsers, pages of the host that is asked, and those of Origins.
func (h *Handler) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.ContainsFunc(h.Origins, func(allowed string) bool { return strings.EqualFold(allowed, origin) }) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// forwarded returns where a request came from that a reverse proxy on this machine passed on: what that proxy wrote, not what it was told.
func forwarded(r *http.Request) (address string, ok bool) {
	hop, err := netip.ParseAddrPort(r.RemoteAddr)
	hops := r.Header.Values("X-Forwarded-For")
	if err != nil || !hop.Addr().Unmap().IsLoopback() || len(hops) == 0 {
		return "", false
	}
	last := hops[len(hops)-1]
	address = strings.TrimSpace(last[strings.LastIndex(last, ",")+1:])
	_, err = netip.ParseAddr(address)
	return address, err == nil
}

// Serve serves HTTP with h on l, which it closes, until ctx ends; then it returns when all requests, sessions among them, have ended. Slow and large requests
// are bounded. A TLS listener is served as well, with HTTP/1.1.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	var running requests
	defer running.wait()
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if running.begin() {
				defer running.group.Done()
				h.ServeHTTP(w, r)
			}
		}),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, WriteTimeout: requestTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	err := server.Serve(l)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(err, server.Close())
}

// requests counts those under way. A server forgets about connections that became WebSockets.
type requests struct {
	group sync.WaitGroup

	mu   sync.Mutex // guards what follows, and that group does not grow once over
	over bool
}

func (r *requests) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.group.Add(1)
	}
	return !r.over
}

func (r *requests) wait() {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.group.Wait()
}

// Listener accepts peers of one Hypha.
type Listener struct {
	// Gate bounds the connections; it may be changed before Run. Listen sets one for 256.
	Gate *gate.Gate

	listener net.Listener
	log      *slog.Logger
}

// Listen opens a listening socket on address, "host:port"; port 0 picks one. Run must follow, or Close. log may be nil.
func Listen(ctx context.Context, address string, log *slog.Logger) (*Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &Listener{gate.New(maxConns, 0), l, orDiscard(log)}, nil
}

// Addr is where it listens: "host:port" with the real port.
func (l *Listener) Addr() string { return l.listener.Addr().String() }

// URL is Addr as a URL: ws://host:port.
func (l *Listener) URL() string { return "ws://" + l.Addr() }

// Close ends Run. It is only needed where Run was not called.
func (l *Listener) Close() error { return l.listener.Close() }

// Run serves peers of the Hypha of key with node until ctx ends, and returns when all sessions have ended.
func (l *Listener) Run(ctx context.Context, node Node, key hypercore.Key) error {
	h := &Handler{Find: func(asked hypercore.Key) (Node, bool) { return node, asked == key }, Log: l.log}
	return Serve(ctx, gate.Listener{Listener: l.listener, Gate: l.Gate, Log: l.log}, h, l.log)
}
