package certs

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Files is a certificate chain and its key in PEM files.
type Files struct {
	chain, key string // paths
	log        *slog.Logger

	mu      sync.Mutex // guards what follows; held while the files are read
	cert    *tls.Certificate
	version [2]version // of the files that cert, or the last failure, came from
}

// version tells one content of a file from the next.
type version struct {
	modified time.Time
	size     int64
	inode    os.FileInfo // for os.SameFile: a renewal may keep time and size
}

// FromFiles reads the chain, the server's certificate first, and the key.
func FromFiles(chain, key string, log *slog.Logger) (*Files, error) {
	f := &Files{chain: chain, key: key, log: log}
	now, err := f.versions()
	if err != nil {
		return nil, err
	}
	f.version = now
	return f, f.load()
}

// TLS is the configuration of a server with these files.
func (f *Files) TLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: f.certificate}
}

// certificate returns the newest that could be read.
func (f *Files) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, err := f.versions()
	switch {
	case err == nil && same(now, f.version):
		return f.cert, nil
	case err == nil:
		f.version = now
		err = f.load()
	}
	if err != nil {
		f.log.Warn("the certificate was not read again; the old one stays", "path", f.chain, "err", err)
		return f.cert, nil
	}
	f.log.Info("the certificate was read again", "path", f.chain)
	return f.cert, nil
}

func (f *Files) load() error {
	cert, err := tls.LoadX509KeyPair(f.chain, f.key)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", f.chain, err)
	}
	f.cert = &cert
	return nil
}

func (f *Files) versions() (both [2]version, err error) {
	for i, path := range []string{f.chain, f.key} {
		info, err := os.Stat(path)
		if err != nil {
			return both, err
		}
		both[i] = version{info.ModTime(), info.Size(), info}
	}
	return both, nil
}

func same(a, b [2]version) bool {
	for i := range a {
		if !a[i].modified.Equal(b[i].modified) || a[i].size != b[i].size || !os.SameFile(a[i].inode, b[i].inode) {
			return false
		}
	}
	return true
}
