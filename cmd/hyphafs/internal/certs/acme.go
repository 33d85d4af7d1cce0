package certs

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// How long Run waits after a failure.
const (
	firstWait = 2 * time.Minute
	longWait  = time.Hour
)

// ACME gets certificates from an authority.
type ACME struct {
	domains []string // in ASCII
	manager *autocert.Manager
	log     *slog.Logger
}

// FromACME makes an ACME for domains, names of hosts in ASCII and lower case, that keeps account and keys in the folder cache. directory is the URL of the authority; empty: Let's
// Encrypt's. What is asked of the authority ends with ctx.
func FromACME(ctx context.Context, domains []string, cache, directory string, log *slog.Logger) *ACME {
	if directory == "" {
		directory = autocert.DefaultACMEDirectory
	}
	client := &acme.Client{DirectoryURL: directory, UserAgent: "hyphafs", HTTPClient: &http.Client{Transport: ending{http.DefaultTransport, ctx}}}
	return &ACME{domains, &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(cache), HostPolicy: autocert.HostWhitelist(domains...), Client: client,
	}, log}
}

// ending lets requests end with a context besides their own, since autocert's calls take none.
type ending struct {
	http.RoundTripper
	with context.Context
}

// RoundTrip does req.
func (e ending) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	stop := context.AfterFunc(e.with, cancel)
	context.AfterFunc(ctx, func() { stop() })
	return e.RoundTripper.RoundTrip(req.WithContext(ctx))
}

// TLS is the configuration of a server with these certificates. It answers TLS-ALPN-01, too.
func (a *ACME) TLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1", acme.ALPNProto}, GetCertificate: a.manager.GetCertificate}
}

// Clear answers on port 80: HTTP-01, and with a redirect to HTTPS who asks for one of the domains. Nothing else is told in the clear.
func (a *ACME) Clear() http.Handler {
	answer := a.manager.HTTPHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(a.domains, r.Host) || r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.NotFound(w, r)
			return
		}
		http.Redirect(w, r, "https://"+r.Host+r.URL.RequestURI(), http.StatusMovedPermanently)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host, _, err := net.SplitHostPort(r.Host); err == nil { // autocert compares hosts as they are, and some name port 80
			r.Host = host
		}
		answer.ServeHTTP(w, r)
	})
}

// Run sees to it that there is a certificate for each domain, and returns then, or when ctx ends. The server must listen already.
func (a *ACME) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, domain := range a.domains {
		all.Go(func() { a.obtain(ctx, domain) })
	}
	all.Wait()
	return ctx.Err()
}

// obtain gets the certificate of one domain.
func (a *ACME) obtain(ctx context.Context, domain string) {
	hello := &tls.ClientHelloInfo{ // of a client of today, which gets an ECDSA certificate
		ServerName:       domain,
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves:  []tls.CurveID{tls.CurveP256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	}
	for wait := firstWait; ; wait = min(2*wait, longWait) {
		_, err := a.manager.GetCertificate(hello)
		if err == nil {
			a.log.Info("certificate ready")
			return
		}
		if ctx.Err() != nil {
			return
		}
		a.log.Error("no certificate: the domain must lead to this machine, and its ports 443 or 80 here", "err", err, "again_in", wait)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}
