package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// background runs a program until the test ends.
func background(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // by the signal
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd.Path, tail(out.String(), 3000))
		}
	})
}

// pool reads certificates that are trusted.
func pool(t *testing.T, paths ...string) *x509.CertPool {
	t.Helper()
	roots := x509.NewCertPool()
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil || !roots.AppendCertsFromPEM(text) {
			t.Fatalf("%s: no certificate, %v", path, err)
		}
	}
	return roots
}

// ask asks url for the host name by HTTP, following no redirect; roots are trusted.
func ask(t *testing.T, roots *x509.CertPool, url, name string) (status int, location, body string, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = name
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: patience}
	answer, err := client.Do(req)
	if err != nil {
		return 0, "", "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, answer.Header.Get("Location"), string(text), err
}

// pebblePath finds Let's Encrypt's test authority.
func pebblePath(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("pebble")
	if err != nil {
		gopath, envErr := exec.Command("go", "env", "GOPATH").Output()
		if envErr != nil {
			t.Fatal(envErr)
		}
		path, err = exec.LookPath(filepath.Join(strings.TrimSpace(string(gopath)), "bin/pebble"))
	}
	need(t, err == nil, "pebble (integration/test.sh installs it)")
	return path
}

// pebbleConfig lets pebble look for challenges at the ports, and answer on ports 14000 and 15000 of loopback with a certificate for localhost.
func pebbleConfig(cert, key string, tlsPort, httpPort int) []byte {
	return fmt.Appendf(nil, `{"pebble": {"listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000", "certificate": %q, "privateKey": %q,
		"httpPort": %d, "tlsPort": %d, "retryAfter": {"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa", "profiles": {"default": {"description": "of the test", "validityPeriod": 7776000}}}}`,
		cert, key, httpPort, tlsPort)
}

// pebble runs the authority and returns the path of its root certificate.
func pebble(t *testing.T, ca *authority, tlsPort, httpPort int) (root string) {
	t.Helper()
	path, dir := pebblePath(t), t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	ca.issue(3, "localhost", cert, key)
	if err := os.WriteFile(filepath.Join(dir, "config"), pebbleConfig(cert, key, tlsPort, httpPort), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-config", filepath.Join(dir, "config"))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	background(t, cmd)
	root = filepath.Join(dir, "root")
	eventually(t, "the authority's root", func() bool {
		_, _, text, err := ask(t, pool(t, ca.Path), "https://localhost:15000/roots/0", "localhost")
		return err == nil && os.WriteFile(root, []byte(text), 0o600) == nil
	})
	return root
}

// TestACME gets a certificate from a real authority by each kind of challenge, sets up an always-on node with it as README says, finds it by the domain, and keeps
// the certificate over a kill.
func TestACME(t *testing.T) {
	if !ownNetwork(t, "anna.example", "other.example") {
		return
	}
	for name, ports := range map[string][2]int{"TLS-ALPN-01": {443, 5002}, "HTTP-01": {5001, 80}} {
		t.Run(name, func(t *testing.T) { withACME(t, ports[0], ports[1]) })
	}
}

func withACME(t *testing.T, tlsPort, httpPort int) {
	ca := newAuthority(t)
	root := pebble(t, ca, tlsPort, httpPort)
	trusted := filepath.Join(t.TempDir(), "trusted")
	if out, err := exec.Command("sh", "-c", `cat "$1" "$2" > "$3"`, "sh", ca.Path, root, trusted).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	t.Setenv("SSL_CERT_FILE", trusted)
	t.Setenv("HYPHAFS_ACME_DIRECTORY", "https://localhost:14000/dir")
	a := newAlways(t, "--tls-domain", "anna.example", "--adopt")
	a.http = ":443"
	a.start()
	if line := a.stdout.String(); !strings.Contains(line, " https://[::]:443 ") {
		t.Errorf("said %q", line)
	}
	roots := pool(t, root)
	serial := func() string {
		t.Helper()
		conn, err := tls.Dial("tcp", "127.0.0.1:443", &tls.Config{RootCAs: roots, ServerName: "anna.example"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := serial()

	desktop := newNode(t, "Hypha")
	desktop.signUp("Desktop")
	link := desktop.status().Hyphalink
	desktop.stop()
	desktop.mount("--peer", "wss://anna.example")
	eventually(t, "an adopted Hypha", func() bool { return desktop.connectedTo("wss://anna.example") })
	laptop := discovering(newNode(t, "B"))
	laptop.mount("--sign-in", "--domain", "anna.example", "--name", "Laptop")
	touch(t, filepath.Join(desktop.pending(), "approve"))
	eventually(t, "the laptop writable", func() bool { return laptop.status().Writable })

	record := strings.Replace(link, "hypha://", "dat://", 1) + "/\nTTL=3600\n"
	for _, c := range []struct {
		url, name string
		status    int
		text      string
	}{
		{"https://anna.example/.well-known/dat", "anna.example", 200, record},
		{"https://anna.example/.well-known/dat", "other.example", 404, ""},
		{"http://anna.example/.well-known/dat", "anna.example", 301, "https://anna.example/.well-known/dat"},
		{"http://127.0.0.1/.well-known/dat", "127.0.0.1", 404, ""},
		{"http://anna.example/.well-known/acme-challenge/x", "anna.example", 404, ""},
	} {
		status, location, body, err := ask(t, roots, c.url, c.name)
		if err != nil || status != c.status || c.status == 200 && body != c.text || c.status == 301 && location != c.text || c.status != 200 && strings.Contains(body, record[6:70]) {
			t.Errorf("%s of %s: %d %q %q, %v", c.url, c.name, status, location, body, err)
		}
	}
	if _, _, _, err := ask(t, roots, "https://other.example/", "other.example"); err == nil {
		t.Error("has a certificate for other.example")
	}
	if info, err := os.Stat(filepath.Join(a.state, "acme")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the keys' folder: %v, %v", info, err)
	}
	if strings.Contains(a.stderr.String(), record[6:70]) {
		t.Error("the read key is in the log")
	}
	a.kill()
	a.start()
	if again := serial(); again != first {
		t.Errorf("the certificate %s became %s", first, again)
	}
	eventually(t, "both nodes back", func() bool {
		return desktop.connectedTo("wss://anna.example") && laptop.connectedTo("wss://anna.example")
	})
	laptop.stop()
	desktop.stop()
	a.stop()
}

// proxied is nginx as README's reader has it: TLS in front, WebSocket passed on, and the address of who asks.
const proxied = `pid %[1]s/pid;
error_log %[1]s/error.log;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	map $http_upgrade $connection_upgrade { default upgrade; '' close; }
	server {
		listen 0.0.0.0:443 ssl;
		server_name anna.example;
		ssl_certificate %[2]s;
		ssl_certificate_key %[3]s;
		location / {
			proxy_pass http://127.0.0.1:8080;
			proxy_http_version 1.1;
			proxy_set_header Host $host;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection $connection_upgrade;
			proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
			proxy_read_timeout 1h;
			proxy_send_timeout 1h;
		}
	}
}
`

// TestNginx puts a real nginx before the always-on node: a Hypha is adopted and found through it, and connections are counted by the address that nginx saw, whatever who
// asks says of itself. Without nginx nobody is believed.
func TestNginx(t *testing.T) {
	if !ownNetwork(t, "anna.example") {
		return
	}
	needCommand(t, "nginx")
	if out, err := exec.Command("sh", "-c", "for n in 1 7 8; do ip address add 198.51.100.$n/32 dev lo; done").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	dir, ca := t.TempDir(), newAuthority(t)
	t.Setenv("SSL_CERT_FILE", ca.Path)
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	ca.issue(2, "anna.example", cert, key)
	if err := os.WriteFile(filepath.Join(dir, "conf"), fmt.Appendf(nil, proxied, dir, cert, key), 0o600); err != nil {
		t.Fatal(err)
	}
	background(t, exec.Command("nginx", "-p", dir, "-c", filepath.Join(dir, "conf"), "-g", "daemon off;"))
	a := newAlways(t, "--adopt", "--domain", "anna.example", "--max-per-address", "2")
	a.http = "0.0.0.0:8080"
	a.start()

	desktop := newNode(t, "Hypha")
	desktop.mount("--sign-up", "--domain", "anna.example", "--name", "Desktop", "--peer", "wss://anna.example")
	eventually(t, "an adopted Hypha", func() bool { return desktop.connectedTo("wss://anna.example") })
	laptop := discovering(newNode(t, "B"))
	laptop.mount("--sign-in", "--domain", "anna.example", "--name", "Laptop")
	touch(t, filepath.Join(desktop.pending(), "approve"))
	eventually(t, "the laptop writable", func() bool { return laptop.status().Writable })

	path := "/hypha/" + strings.TrimPrefix(desktop.status().Hyphalink, "hypha://")
	roots := pool(t, ca.Path)
	connect := func(from, url, claims string) (*websocket.Conn, int) {
		t.Helper()
		dialer := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "anna.example"}, NetDialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
			return d.DialContext(ctx, "tcp", "198.51.100.1:"+port)
		}}
		header := http.Header{}
		if claims != "" {
			header.Set("X-Forwarded-For", claims)
		}
		conn, answer, err := dialer.DialContext(t.Context(), url+path, header)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close() })
			return conn, http.StatusSwitchingProtocols
		}
		if answer == nil {
			return nil, 0 // hung up on
		}
		return nil, answer.StatusCode
	}
	for _, c := range []struct {
		from, url, claims string
		want              int
	}{
		{"198.51.100.7", "wss://anna.example", "", 101},
		{"198.51.100.7", "wss://anna.example", "203.0.113.5", 101},
		{"198.51.100.7", "wss://anna.example", "", 429},
		{"198.51.100.7", "wss://anna.example", "203.0.113.9", 429},
		{"198.51.100.7", "wss://anna.example", "127.0.0.1, 198.51.100.8", 429},
		{"198.51.100.8", "wss://anna.example", "198.51.100.7", 101},
		{"198.51.100.8", "ws://anna.example:8080", "203.0.113.1", 101},
		{"198.51.100.8", "ws://anna.example:8080", "203.0.113.2", 101},
		{"198.51.100.8", "ws://anna.example:8080", "203.0.113.3", 0},
	} {
		if _, status := connect(c.from, c.url, c.claims); status != c.want {
			t.Errorf("from %s to %s, claiming %q: %d, want %d", c.from, c.url, c.claims, status, c.want)
		}
	}
	laptop.stop()
	desktop.stop()
	a.stop()
}

// TestCertificateFiles: a certificate that is replaced is used from the next connection on, and connections stay.
func TestCertificateFiles(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	ca.issue(2, "anna.example", cert, key)
	a := newAlways(t, "--adopt", "--tls-cert", cert, "--tls-key", key)
	a.start()
	var address string
	if _, err := fmt.Sscanf(a.stdout.String(), "ready https://%s", &address); err != nil {
		t.Fatalf("%q: %v", a.stdout.String(), err)
	}
	dial := func() (*tls.Conn, int64) {
		t.Helper()
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool(t, ca.Path), ServerName: "anna.example"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn, conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	old, serial := dial()
	if serial != 2 {
		t.Errorf("serial %d", serial)
	}
	ca.issue(5, "anna.example", cert, key)
	if _, serial := dial(); serial != 5 {
		t.Errorf("replaced: serial %d", serial)
	}
	if err := old.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(old, "GET /healthz HTTP/1.1\r\nHost: anna.example\r\n\r\n"); err != nil {
		t.Error(err)
	}
	answer := make([]byte, 12)
	if _, err := io.ReadFull(old, answer); err != nil || string(answer) != "HTTP/1.1 200" {
		t.Errorf("the connection of before: %q, %v", answer, err)
	}
}

// TestNamesOfHosts: a node that keeps several Hyphas names each for its host, to who asks for that host, unless its person does not want that.
func TestNamesOfHosts(t *testing.T) {
	first, second := strings.TrimPrefix(somebodyElse, "hypha://"), "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
	for _, quiet := range []bool{false, true} {
		a := newAlways(t, "--hypha", "anna.example="+first, "--hypha", "Bert.Example=hypha://"+second, "--domain", "carl.example", fmt.Sprintf("--no-discovery=%v", quiet))
		a.start()
		for host, key := range map[string]string{"anna.example": first, "bert.example": second, "carl.example": "", a.http: ""} {
			status, _, body, err := ask(t, nil, "http://"+a.http+"/.well-known/dat", host)
			if key == "" || quiet {
				if err != nil || status != 404 || strings.Contains(body, "dat:") {
					t.Errorf("%s, quiet %v: %d %q, %v", host, quiet, status, body, err)
				}
			} else if err != nil || status != 200 || body != "dat://"+key+"/\nTTL=3600\n" {
				t.Errorf("%s: %d %q, %v", host, status, body, err)
			}
		}
		a.stop()
	}
}
