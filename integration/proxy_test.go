package integration

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// proxy is an HTTP proxy that knows one host, which is found at another address.
type proxy struct {
	host, at string

	mu    sync.Mutex // guards what follows
	asked []string
}

// ServeHTTP answers CONNECT.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.RequestURI)
	p.mu.Unlock()
	if r.Method != http.MethodConnect || r.Host != p.host {
		http.Error(w, "only CONNECT "+p.host, http.StatusBadGateway)
		return
	}
	up, err := net.Dial("tcp", p.at)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer up.Close()
	down, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer down.Close()
	if _, err := io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = io.Copy(up, buffered) // ends with either connection
		up.Close()
		down.Close()
	})
	_, _ = io.Copy(down, up)
	up.Close()
	down.Close()
	copying.Wait()
}

// TestThroughProxy: a node whose environment names a proxy reaches its always-on node through it alone, and does not tell it the read key.
func TestThroughProxy(t *testing.T) {
	needMount(t)
	id := identity(t)
	a := startAlways(t, ours(id))
	p := &proxy{host: "always.hypha.test:80", at: a.http}
	server := httptest.NewServer(p)
	defer server.Close()
	n := newNode(t, "Hypha")
	n.env = []string{"HTTP_PROXY=" + server.URL}
	n.mount("--sign-up", "--domain", "anna.example", "--name", "Desktop", "--peer", "ws://always.hypha.test")
	write(t, filepath.Join(n.dir, "through a proxy"), "it came")
	if out, err := n.run("sync", "--peer", n.dir); err != nil {
		t.Fatalf("sync: %v\n%s", err, out)
	}
	if got := n.status().Peers; len(got) != 1 || got[0].URL != "ws://always.hypha.test" {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(n.stderr.String(), "shows the read key") {
		t.Error("no warning about ws://")
	}
	laptop := newNode(t, "B") // a sign-in asks through the proxy too
	signIn := exec.Command(binary, "sign-in", "--domain", "other.example", "--state", laptop.state, "--passphrase-file", laptop.passphraseFile, "--peer", "ws://always.hypha.test", "--no-discovery")
	signIn.Env = append(os.Environ(), n.env...)
	if out, err := signIn.CombinedOutput(); exitCode(err) != 5 {
		t.Errorf("sign-in with a wrong domain: %v\n%s", err, out)
	}
	n.stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.asked, "CONNECT always.hypha.test:80") || strings.Contains(strings.Join(p.asked, " "), id.Source.String()) {
		t.Errorf("the proxy was asked %q", p.asked)
	}
	if strings.Contains(n.stderr.String(), id.Source.String()) {
		t.Error("the read key is in the node's log")
	}
}
