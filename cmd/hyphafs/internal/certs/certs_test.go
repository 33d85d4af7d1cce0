package certs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// write puts a new certificate with the serial number into the files.
func write(t *testing.T, chain, key string, serial int64) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"anna.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{chain: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// served returns the serial number of the certificate that a handshake with config gets.
func served(t *testing.T, config *tls.Config) int64 {
	t.Helper()
	a, b := net.Pipe()
	server := tls.Server(a, config)
	ended := make(chan error, 1)
	go func() { ended <- server.Handshake() }() // received below
	client := tls.Client(b, &tls.Config{InsecureSkipVerify: true, ServerName: "anna.example"})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	state := client.ConnectionState()
	if state.Version != tls.VersionTLS13 {
		t.Errorf("version %x", state.Version)
	}
	return state.PeerCertificates[0].SerialNumber.Int64()
}

func TestFiles(t *testing.T) {
	chain, key := filepath.Join(t.TempDir(), "chain"), filepath.Join(t.TempDir(), "key")
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	if _, err := FromFiles(chain, key, log); err == nil {
		t.Error("began without files")
	}
	write(t, chain, key, 1)
	f, err := FromFiles(chain, key, log)
	if err != nil {
		t.Fatal(err)
	}
	config := f.TLS()
	for range 2 {
		if n := served(t, config); n != 1 {
			t.Errorf("serial %d", n)
		}
	}
	write(t, chain, key, 2)
	if n := served(t, config); n != 2 || !strings.Contains(logged.String(), "read again") {
		t.Errorf("replaced: serial %d, logged %s", n, logged.String())
	}
	good, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func() error{
		"half a key": func() error { return os.WriteFile(key, good[:40], 0o600) },
		"no key":     func() error { return os.Remove(key) },
	} {
		logged.Reset()
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if n := served(t, config); n != 2 || !strings.Contains(logged.String(), "the old one stays") {
			t.Errorf("%s: serial %d, logged %q", what, n, logged.String())
		}
	}
	write(t, chain, key, 3)
	if n := served(t, config); n != 3 {
		t.Errorf("whole again: serial %d", n)
	}
	other := filepath.Join(t.TempDir(), "other")
	write(t, filepath.Join(t.TempDir(), "x"), other, 4)
	if _, err := FromFiles(chain, other, log); err == nil {
		t.Error("began with the key of another certificate")
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	chain, key := filepath.Join(t.TempDir(), "chain"), filepath.Join(t.TempDir(), "key")
	write(t, chain, key, 1)
	f, err := FromFiles(chain, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, config := range []*tls.Config{f.TLS(), FromACME(t.Context(), []string{"anna.example"}, t.TempDir(), "", slog.New(slog.DiscardHandler)).TLS()} {
		a, b := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- tls.Server(a, config).Handshake(); _ = a.Close() }() // received below
		err := tls.Client(b, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake()
		if err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("TLS 1.1: %v", err)
		}
		<-ended
	}
}

// TestClear: port 80 sends people to HTTPS of the names that are served, and answers nothing else.
func TestClear(t *testing.T) {
	clear := FromACME(t.Context(), []string{"anna.example"}, t.TempDir(), "", slog.New(slog.DiscardHandler)).Clear()
	for _, c := range []struct {
		method, url string
		status      int
		location    string
	}{
		{"GET", "http://anna.example/a?b=c", 301, "https://anna.example/a?b=c"},
		{"HEAD", "http://anna.example:80/", 301, "https://anna.example/"},
		{"GET", "http://anna.example/.well-known/dat", 301, "https://anna.example/.well-known/dat"},
		{"POST", "http://anna.example/", 404, ""},
		{"GET", "http://evil.example/", 404, ""},
		{"GET", "http://anna.example/.well-known/acme-challenge/x", 404, ""},
	} {
		w := httptest.NewRecorder()
		clear.ServeHTTP(w, httptest.NewRequest(c.method, c.url, nil))
		if w.Code != c.status || w.Header().Get("Location") != c.location {
			t.Errorf("%s %s: %d %q", c.method, c.url, w.Code, w.Header().Get("Location"))
		}
	}
}

// TestShutdown: an authority that does not answer holds nobody up.
func TestShutdown(t *testing.T) {
	asked := make(chan struct{}, 10)
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-release:
		}
	}))
	defer s.Close()
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	a := FromACME(ctx, []string{"anna.example"}, t.TempDir(), s.URL, slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }() // received below
	<-asked
	cancel()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("got a certificate")
		}
	case <-time.After(time.Minute):
		t.Fatal("waits for the authority")
	}
}
