package serve

import (
	"context"
	_ "embed"
	"io"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"hyphafs.org/hyphafs/replication/datdns"
	"hyphafs.org/hyphafs/replication/gate"
	"hyphafs.org/hyphafs/replication/ws"
)

//go:embed page.html
var page string

// serveHTTP serves everything that is asked by HTTP on l until ctx ends.
func (n *Server) serveHTTP(ctx context.Context, l net.Listener) error {
	return ws.Serve(ctx, l, n.handler(), n.log)
}

// handler answers HTTP.
func (n *Server) handler() http.Handler {
	metrics := prometheus.NewRegistry()
	n.register(metrics)
	mux := http.NewServeMux()
	proxied := gate.New(0, n.settings.MaxPerAddress) // their connections have their places already
	mux.Handle("GET /hypha/", n.whenReady(&ws.Handler{Find: n.find, Gate: proxied, Origins: n.settings.Origins, Log: n.log}))
	mux.Handle("GET /healthz", n.whenReady(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { write(w, "text/plain; charset=utf-8", "ready\n") })))
	mux.Handle("GET "+datdns.Path, n.whenReady(http.HandlerFunc(n.serveName)))
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { write(w, "text/html; charset=utf-8", page) })
	return careful(mux)
}

// whenReady answers 503 before the store is open and when the node ends.
func (n *Server) whenReady(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !n.ready.Load() {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "starting or stopping", http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// careful sets the headers that keep a browser from doing more with an answer than show it.
func careful(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		h.ServeHTTP(w, r)
	})
}

// write sends a whole answer; nobody is left to tell when the connection fails.
func write(w http.ResponseWriter, kind, text string) {
	w.Header().Set("Content-Type", kind)
	_, _ = io.WriteString(w, text)
}
