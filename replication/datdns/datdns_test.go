package datdns

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"hyphafs.org/hyphafs/drive/hypercore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const hexKey = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func key(t testing.TB) hypercore.Key {
	t.Helper()
	k, err := hypercore.ParseKey(hexKey)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParse(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"dat://" + hexKey:                       DefaultTTL,
		"dat://" + hexKey + "/":                 DefaultTTL,
		"dat://" + hexKey + "/\n":               DefaultTTL,
		"dat://" + hexKey + "/\r\nTTL=7\r\n":    7 * time.Second,
		"dat://" + hexKey + "\nttl=0\n":         0,
		"dat://" + hexKey + "/\nTTL=4000000000": MaxTTL,
	} {
		r, err := Parse([]byte(text))
		if err != nil || r.Key != key(t) || r.TTL != want {
			t.Errorf("%q: %v, %v", text, r.TTL, err)
		}
	}
	for _, text := range []string{
		"", "\n", hexKey, "hypha://" + hexKey, "dat://" + hexKey[1:], "dat://" + hexKey + "0", "dat://" + hexKey + "//", "dat://" + hexKey + "/index.html",
		"dat://" + hexKey + "/\nTTL=", "dat://" + hexKey + "/\nTTL=-1", "dat://" + hexKey + "/\nTTL=99999999999", "dat://" + hexKey + "/\nx=1",
		"dat://" + hexKey + "/\nTTL=1\nTTL=2", "\ndat://" + hexKey, "<html>dat://" + hexKey, "dat://" + hexKey + strings.Repeat("\n", maxRecord),
	} {
		if r, err := Parse([]byte(text)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.80q: %v, %v", text, r, err)
		}
	}
}

// FuzzParse: what is taken comes back the same when it is written.
func FuzzParse(f *testing.F) {
	f.Add([]byte("dat://" + hexKey + "/\r\nTTL=7\r\n"))
	f.Add([]byte("dat://" + hexKey))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if r.TTL < 0 || r.TTL > MaxTTL {
			t.Fatalf("TTL %v", r.TTL)
		}
		if again, err := Parse(r.Text()); err != nil || again != r {
			t.Fatalf("%v became %v, %v", r, again, err)
		}
	})
}

func TestHostName(t *testing.T) {
	for domain, want := range map[string]string{
		"anna.example": "anna.example", "Anna.Example": "anna.example", "münchen.example": "xn--mnchen-3ya.example", "a-b.c1.example.": "a-b.c1.example",
	} {
		if got, err := HostName(domain); err != nil || got != want {
			t.Errorf("%q: %q, %v", domain, got, err)
		}
	}
	for _, domain := range []string{
		"", "anna", "anna's files", "10.0.0.1", "[::1]", "::1", "1.2", "a..example", ".example", "-a.example", "a-.example", "a_b.example", "anna.example:444",
		"anna.example/x", "anna@b.example", "a.\x00example", strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "example",
	} {
		if got, err := HostName(domain); !errors.Is(err, ErrNoHost) {
			t.Errorf("%q: %q, %v", domain, got, err)
		}
	}
}

// FuzzHostName: a name that is taken is in the alphabet of hosts and stays the same.
func FuzzHostName(f *testing.F) {
	f.Add("münchen.example")
	f.Add("anna.example")
	f.Fuzz(func(t *testing.T, domain string) {
		host, err := HostName(domain)
		if err != nil {
			return
		}
		if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || len(host) > 253 {
			t.Fatalf("%q gives %q", domain, host)
		}
		if again, err := HostName(host); err != nil || again != host {
			t.Fatalf("%q gives %q, which gives %q, %v", domain, host, again, err)
		}
	})
}

// serve runs an HTTPS server that is taken for every host, and returns a resolver that trusts it.
func serve(t *testing.T, handle http.HandlerFunc) *Resolver {
	t.Helper()
	s := httptest.NewTLSServer(handle)
	t.Cleanup(s.Close)
	transport := s.Client().Transport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if !strings.HasSuffix(address, ":443") {
			return nil, fmt.Errorf("dialled %s", address)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}
	t.Cleanup(transport.CloseIdleConnections)
	return NewResolver(transport)
}

func TestLookup(t *testing.T) {
	var asked atomic.Pointer[http.Request]
	r := serve(t, func(w http.ResponseWriter, req *http.Request) {
		asked.Store(req)
		w.Write(Record{key(t), time.Minute}.Text())
	})
	rec, err := r.Lookup(t.Context(), "example.com") // the name in httptest's certificate
	if err != nil || rec != (Record{key(t), time.Minute}) {
		t.Errorf("%v, %v", rec, err)
	}
	if req := asked.Load(); req.Host != "example.com" || req.URL.Path != "/.well-known/dat" || req.TLS == nil || len(req.Cookies()) > 0 {
		t.Errorf("asked %v %v", req.Host, req.URL)
	}
	if _, err := r.Lookup(t.Context(), "other.example"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of another host: %v", err)
	}
}

func TestAnswers(t *testing.T) {
	good := "dat://" + hexKey + "/\n"
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == Path {
				http.Redirect(w, req, to, http.StatusFound)
				return
			}
			_, _ = w.Write([]byte(good))
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(good))
		}
	}
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		want   error  // or
		text   string // in the error
	}{
		"none":                {status(404), ErrNone, ""},
		"gone":                {status(410), ErrNone, ""},
		"another status":      {status(503), nil, "503"},
		"nothing":             {status(204), nil, "204"},
		"same host":           {redirect("/here"), nil, ""},
		"same host, named":    {redirect("https://example.com/here"), nil, ""},
		"another host":        {redirect("https://evil.example/here"), nil, "elsewhere"},
		"another port":        {redirect("https://example.com:444/here"), nil, "elsewhere"},
		"in the clear":        {redirect("http://example.com/here"), nil, "elsewhere"},
		"in circles":          {redirect(Path), nil, "too often"},
		"a page":              {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, ErrMalformed, ""},
		"without end":         {func(w http.ResponseWriter, _ *http.Request) { endless(w) }, ErrMalformed, "more than"},
		"headers without end": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 2*maxHeader)) }, nil, "header"},
		"a broken off answer": {func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, nil, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, c.handle)
			r.client.Transport.(*http.Transport).MaxResponseHeaderBytes = maxHeader
			rec, err := r.Lookup(t.Context(), "example.com")
			switch {
			case c.want == nil && c.text == "":
				if err != nil || rec.Key != key(t) {
					t.Errorf("%v, %v", rec, err)
				}
			case err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text):
				t.Errorf("%v", err)
			}
		})
	}
}

func endless(w http.ResponseWriter) {
	for {
		if _, err := w.Write(make([]byte, 4096)); err != nil {
			return
		}
	}
}

// silent takes a request and never answers.
type silent struct{}

func (silent) RoundTrip(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

// TestSilence: a host that says nothing holds nobody up for longer than Time.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		_, err := NewResolver(silent{}).Lookup(t.Context(), "example.com")
		if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || took != Time {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestOwnTransport: without one from the caller it verifies certificates: a server with one of its own is refused.
func TestOwnTransport(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	r := NewResolver(nil)
	transport := r.client.Transport.(*http.Transport)
	transport.Proxy = nil
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}
	_, err := r.Lookup(t.Context(), "example.com")
	var bad *tls.CertificateVerificationError
	if !errors.As(err, &bad) {
		t.Errorf("%v", err)
	}
}
