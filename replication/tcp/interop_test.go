package tcp_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/replicationtest"
)

// npm is a running testdata/peer.js.
type npm struct {
	t     *testing.T
	lines chan string
}

// start runs peer.js. HYPHAFS_NPM is a folder with the packages of the vectors' package-lock.json installed.
func start(t *testing.T, options map[string]any) *npm {
	t.Helper()
	if os.Getenv("HYPHAFS_NPM") == "" {
		t.Skip("HYPHAFS_NPM is not set; integration runs the npm packages always")
	}
	b, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "testdata/peer.js", string(b))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &npm{t, make(chan string, 1000)}
	read := make(chan struct{})
	go func() { // ends with the process; the cleanup waits
		defer close(read)
		defer close(p.lines)
		p.read(out)
	}()
	t.Cleanup(func() {
		in.Close()
		<-read
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *npm) read(out io.Reader) {
	for s := bufio.NewScanner(out); s.Scan(); {
		p.lines <- s.Text()
	}
}

// said returns the next object the peer prints that has the field.
func (p *npm) said(field string) map[string]any {
	p.t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("the peer ended before it said %q", field)
			}
			p.t.Log(line)
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				p.t.Fatal(err)
			}
			if e, bad := m["error"]; bad && field != "error" {
				p.t.Fatal(e)
			}
			if _, ok := m[field]; ok {
				return m
			}
		case <-timeout:
			p.t.Fatalf("the peer does not say %q", field)
		}
	}
}

func port(t *testing.T, address string) int {
	t.Helper()
	_, s, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func parse(t *testing.T, s any) hypercore.Key {
	t.Helper()
	key, err := hypercore.ParseKey(s.(string))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestNpmReads(t *testing.T) {
	for _, encrypt := range []bool{true, false} {
		for _, live := range []bool{true, false} {
			t.Run(fmt.Sprintf("encrypt=%v,live=%v", encrypt, live), func(t *testing.T) {
				w := replicationtest.Writer(t, 0, replicationtest.Blocks(300, 2000)...)
				n, _ := replicationtest.Node(t, replication.Config{AllowClear: true}, w)
				l, _ := listen(t, n, "127.0.0.1:0")
				p := start(t, map[string]any{"key": w.Key().String(), "port": port(t, l.Addr()), "encrypt": encrypt, "live": live, "want": 300})
				p.said("downloaded")
				if live {
					if err := n.Synced(t.Context()); err != nil {
						t.Error(err)
					}
				} else {
					p.said("ended")
				}
			})
		}
	}
}

func TestNpmWrites(t *testing.T) {
	for _, live := range []bool{true, false} {
		p := start(t, map[string]any{"encrypt": true, "live": live, "blocks": 200, "size": 3000})
		r := replicationtest.Open(t, hypercore.NewMemory(), parse(t, p.said("key")["key"]), nil)
		n, _ := replicationtest.Node(t, replication.Config{}, r)
		dial(t, n, fmt.Sprintf("127.0.0.1:%v", p.said("port")["port"]))
		replicationtest.Wait(t, r, 200)
		if err := r.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if !live {
			p.said("ended")
		}
	}
}

// TestNpmThroughUs puts our node between two hyperdbs that do not meet: one encrypts and writes, one reads.
func TestNpmThroughUs(t *testing.T) {
	for _, reader := range []map[string]any{{"encrypt": false, "live": true}, {"encrypt": true, "live": true}, {"encrypt": true, "live": false}, {"encrypt": false, "live": false}} {
		t.Run(fmt.Sprint(reader), func(t *testing.T) {
			a := start(t, map[string]any{"what": "db", "encrypt": true, "live": true, "puts": 50})
			keys := a.said("key")
			source := replicationtest.Open(t, hypercore.NewMemory(), parse(t, keys["key"]), nil)
			content := replicationtest.Open(t, hypercore.NewMemory(), parse(t, keys["content"]), nil)
			n, _ := replicationtest.Node(t, replication.Config{AllowClear: true}, source, content)
			l, _ := listen(t, n, "127.0.0.1:0")
			dial(t, n, fmt.Sprintf("127.0.0.1:%v", a.said("port")["port"]))
			replicationtest.Wait(t, source, 51)
			replicationtest.Wait(t, content, 1)
			if block, err := content.Block(0); err != nil || string(block) != "a block of content" {
				t.Errorf("content %q %v", block, err)
			}
			b := start(t, map[string]any{"what": "db", "key": keys["key"], "encrypt": reader["encrypt"], "live": reader["live"], "port": port(t, l.Addr()), "get": "dir/file37"})
			if v := b.said("value")["value"]; v != "value 37" {
				t.Errorf("got %q", v)
			}
			if reader["live"] == false {
				b.said("ended")
			}
		})
	}
}

func TestNpmClearIsRefused(t *testing.T) {
	w := replicationtest.Writer(t, 0, []byte("secret"))
	n, _ := replicationtest.Node(t, replication.Config{}, w)
	l, _ := listen(t, n, "127.0.0.1:0")
	p := start(t, map[string]any{"key": w.Key().String(), "port": port(t, l.Addr()), "encrypt": false, "live": true, "want": 1})
	p.said("ended")
	if c := n.Counters(); c.ClearRefused != 1 {
		t.Errorf("%+v", c)
	}
}
