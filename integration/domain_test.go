package integration

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// webHost is the host of a domain as a test wants it: it names a key by Dat DNS, or lies, and passes sessions on to a node.
type webHost struct {
	mu     sync.Mutex // guards what follows
	record string     // what it says; empty: 404
	asked  int
	pass   http.Handler // for sessions
}

// ServeHTTP answers Dat DNS and passes everything else on.
func (h *webHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	record, pass := h.record, h.pass
	dns := r.URL.Path == "/.well-known/dat"
	if dns {
		h.asked++
	}
	h.mu.Unlock()
	switch {
	case !dns && pass != nil:
		pass.ServeHTTP(w, r)
	case !dns || record == "":
		http.NotFound(w, r)
	default:
		_, _ = w.Write([]byte(record))
	}
}

// say changes what the host names and returns how often it was asked so far.
func (h *webHost) say(hyphalink string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.record = strings.Replace(hyphalink, "hypha://", "dat://", 1)
	return h.asked
}

func (h *webHost) askedSoFar() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

// listen serves the host on port 443 until the test ends or stop is called.
func (h *webHost) listen(t *testing.T, cert tls.Certificate) (stop func()) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:443", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(l) })
	stop = sync.OnceFunc(func() { _ = server.Close(); running.Wait() })
	t.Cleanup(stop)
	return stop
}

// behind makes the host pass sessions on to the node that listens at address, ws://host:port.
func (h *webHost) behind(t *testing.T, address string) {
	t.Helper()
	u, err := url.Parse(strings.Replace(address, "ws://", "http://", 1))
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pass = httputil.NewSingleHostReverseProxy(u)
}

// discovering lets n look around.
func discovering(n *node) *node {
	n.flags = slices.DeleteFunc(n.flags, func(flag string) bool { return flag == "--no-discovery" })
	return n
}

// exitCode runs one command and returns its exit code and what it printed.
func (n *node) exitCode(args ...string) (int, string) {
	n.t.Helper()
	out, err := n.run(args...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, out
	case errors.As(err, &exit):
		return exit.ExitCode(), out
	}
	n.t.Fatal(err)
	return 0, ""
}

// connectedTo reports whether the running node has a session with peer.
func (n *node) connectedTo(peer string) bool {
	for _, p := range n.status().Peers {
		if p.URL == peer {
			return true
		}
	}
	return false
}

const somebodyElse = "hypha://d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"

// TestDomain signs in by nothing but domain and passphrase: the domain's host tells of the always-on node. A wrong passphrase and an impostor end it, a host that changes its mind later
// makes an alarm, and none of it is asked for with --no-discovery.
func TestDomain(t *testing.T) {
	if !ownNetwork(t, "anna.example") {
		return
	}
	ca := newAuthority(t)
	cert := ca.issue(2, "anna.example", filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "key"))
	t.Setenv("SSL_CERT_FILE", ca.Path)
	host := &webHost{}
	desktop := newNode(t, "Hypha")
	desktop.mount("--sign-up", "--domain", "anna.example", "--name", "Desktop", "--listen", "ws://127.0.0.1:0")
	host.behind(t, desktop.listening())
	stop := host.listen(t, cert)
	link := desktop.status().Hyphalink

	laptop := discovering(newNode(t, "B"))
	refused := func(what string) {
		t.Helper()
		code, out := laptop.exitCode(append([]string{"sign-in", "--domain", "anna.example"}, laptop.flags...)...)
		if code != 5 || strings.Count(out, "\n") != 1 || !strings.Contains(out, "the passphrase is wrong, or the host is an impostor") {
			t.Errorf("%s: exit code %d, %q", what, code, out)
		}
		if _, err := os.Stat(laptop.state); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was written: %v", what, err)
		}
	}
	host.say(somebodyElse)
	refused("an impostor")
	host.say(link)
	if err := os.WriteFile(laptop.passphraseFile, []byte("another "+passphrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("a wrong passphrase")
	if err := os.WriteFile(laptop.passphraseFile, []byte(passphrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	laptop.mount("--sign-in", "--domain", "anna.example", "--name", "Laptop")
	touch(t, filepath.Join(desktop.pending(), "approve"))
	eventually(t, "the laptop writable", func() bool { return laptop.status().Writable })
	if !laptop.connectedTo("wss://anna.example") {
		t.Errorf("connected to %v", laptop.status().Peers)
	}
	pin, err := os.ReadFile(filepath.Join(laptop.state, "domain.json"))
	if err != nil || strings.Contains(string(pin), strings.TrimPrefix(link, "hypha://")) {
		t.Errorf("pinned %s, %v", pin, err)
	}

	laptop.stop()
	host.say(somebodyElse)
	laptop.mount()
	alarmed := func() bool { return len(laptop.status().Alarms) == 1 }
	eventually(t, "an alarm", alarmed)
	laptop.kill()
	stop()
	laptop.mount()
	if !alarmed() {
		t.Error("a kill and a silent host ended the alarm")
	}
	if out, err := laptop.run("status", laptop.dir); err != nil || !strings.Contains(out, "anna.example names another Hypha since") {
		t.Errorf("status: %s, %v", out, err)
	}
	host.listen(t, cert)
	host.say(link)
	if err := os.WriteFile(filepath.Join(laptop.dir, "written"), []byte("under alarm"), 0o644); err != nil {
		t.Errorf("the alarm stops writing: %v", err)
	}
	eventually(t, "what was written under the alarm", func() bool {
		text, err := os.ReadFile(filepath.Join(desktop.dir, "written"))
		return err == nil && string(text) == "under alarm"
	})
	laptop.stop()
	laptop.mount()
	eventually(t, "the end of the alarm", func() bool { return len(laptop.status().Alarms) == 0 })
	laptop.stop()
}

// TestDomainOfLater: the origin finds the host that its person set up after the sign-up, a host that names nothing is no obstacle, and --no-discovery asks nobody.
func TestDomainOfLater(t *testing.T) {
	if !ownNetwork(t, "anna.example") {
		return
	}
	ca := newAuthority(t)
	cert := ca.issue(2, "anna.example", filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "key"))
	t.Setenv("SSL_CERT_FILE", ca.Path)
	host := &webHost{}
	host.listen(t, cert)

	for domain, want := range map[string]string{"anna.example": "(the host names no key)", "nobody.example": "no always-on node found at nobody.example ("} {
		n := discovering(newNode(t, "N"))
		code, out := n.exitCode(append([]string{"sign-in", "--domain", domain}, n.flags...)...)
		if code != 0 || !strings.Contains(out, want) || !strings.Contains(out, "say --peer URL") {
			t.Errorf("%s: exit code %d, %q", domain, code, out)
		}
	}
	before := host.askedSoFar()
	quiet := newNode(t, "Q")
	if code, out := quiet.exitCode(append([]string{"sign-in", "--domain", "anna.example"}, quiet.flags...)...); code != 0 || host.askedSoFar() != before {
		t.Errorf("--no-discovery: exit code %d, %q, asked %d times", code, out, host.askedSoFar()-before)
	}

	desktop := discovering(newNode(t, "Hypha"))
	desktop.signUp("Desktop")
	other := newNode(t, "O") // stands for the always-on node
	other.mount("--sign-in", "--domain", "anna.example", "--listen", "ws://127.0.0.1:0")
	host.behind(t, other.listening())
	host.say(desktop.status().Hyphalink)
	desktop.kill()
	desktop.mount()
	eventually(t, "a session with the domain's host", func() bool { return desktop.connectedTo("wss://anna.example") })
	other.stop()
	desktop.stop()
}

// TestDomainDefaults: nothing but DNS is asked where no host answers, and only on the port that the name means.
func TestDomainDefaults(t *testing.T) {
	if !ownNetwork(t, "anna.example") {
		return
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	var clear sync.WaitGroup
	clear.Go(func() {
		if conn, err := l.Accept(); err == nil {
			t.Error("a lookup in the clear")
			_ = conn.Close()
		}
	})
	n := discovering(newNode(t, "N"))
	if code, out := n.exitCode(append([]string{"sign-in", "--domain", "anna.example"}, n.flags...)...); code != 0 || !strings.Contains(out, "connection refused") {
		t.Errorf("exit code %d, %q", code, out)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	clear.Wait()
}
