package integration

import (
	"crypto/ed25519"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a browser node of 2019 does, in Node: hyperdb 3.5.0 in memory, websocket-stream 5.5.2, no stream cipher, the extension secure-ephemeral.

// connectBrowser connects p to the always-on node as the browser node did.
func connectBrowser(t *testing.T, p *peer, a *always, readKey string) {
	t.Helper()
	p.do("connectWebSocket", map[string]any{"url": a.ws() + "/hypha/" + readKey}, nil)
	p.await("handshake", func(e event) bool { return e.Event == "connected" })
}

// TestBrowserIsOrigin: a browser node of 2019 is the origin behind an always-on node, which adopts its Hypha. A mount signs in over TCP, asks, is approved by the browser node, and
// what it writes reaches it. The always-on node is killed in between.
func TestBrowserIsOrigin(t *testing.T) {
	needNode(t)
	needMount(t)
	id := identity(t)
	a := startAlways(t, "--adopt")
	p := startPeer(t)
	p.do("start", map[string]any{"seed": hex.EncodeToString(ed25519.PrivateKey(id.SourceSecret()).Seed()), "encrypt": false, "ephemeral": ephemeralKey(id)}, nil)
	p.do("put", map[string]any{"key": "/table", "value": "7b7d"}, nil)
	connectBrowser(t, p, a, id.Source.String())
	p.await("the end of the session that showed the Hypha", func(e event) bool { return e.Event == "disconnected" })
	a.kill()
	a.start()
	p.do("connectWebSocket", map[string]any{"url": a.ws() + "/hypha/" + id.Source.String()}, nil)
	eventually(t, "the origin's feed on the always-on node", func() bool { return a.metric("hyphafs_blocks") >= 2 })
	laptop := newNode(t, "B")
	laptop.mount("--sign-in", "--domain", "anna.example", "--name", "Laptop", "--peer", a.byTCP())
	asked := p.await("request", func(e event) bool { return e.Event == "message" && strings.Contains(e.Text, `"authorise"`) })
	_, rest, _ := strings.Cut(asked.Text, `"readKey":"`)
	key := rest[:64]
	if err := os.WriteFile(filepath.Join(laptop.dir, "early"), nil, 0o644); err == nil {
		t.Error("written before the approval")
	}
	p.do("authorize", map[string]any{"key": key}, nil)
	eventually(t, "the laptop writable", func() bool { return laptop.status().Writable })
	want := makeBig(t, filepath.Join(laptop.dir, "written here"), 200_000)
	if out, err := laptop.run("sync", "--peer", laptop.dir); err != nil {
		t.Fatalf("sync: %v\n%s", err, out)
	}
	var got struct{ SHA256 string }
	eventually(t, "the browser node to have the file", func() bool {
		return p.try("file", map[string]any{"path": []string{"written here"}, "keys": contentKeys(id)}, &got) == nil
	})
	if got.SHA256 != want {
		t.Errorf("%s, want %s", got.SHA256, want)
	}
	var authorised struct{ Authorized bool }
	p.do("authorized", map[string]any{"key": key}, &authorised)
	if !authorised.Authorized {
		t.Error("the browser node does not think that the laptop is authorised")
	}
}

// TestBrowserAsks: the mount is the origin, on TCP; the browser node of 2019 asks over WebSocket, is approved by a touch, and its row reaches the mount's node.
func TestBrowserAsks(t *testing.T) {
	needNode(t)
	needMount(t)
	id := identity(t)
	a := startAlways(t, ours(id))
	desktop := newNode(t, "Hypha")
	desktop.mount("--sign-up", "--domain", "anna.example", "--name", "Desktop", "--peer", a.byTCP())
	p := startPeer(t)
	var started struct{ Local string }
	p.do("start", map[string]any{"key": id.Source.String(), "encrypt": false, "contentFeed": false, "ephemeral": ephemeralKey(id)}, &started)
	connectBrowser(t, p, a, id.Source.String())
	var sent struct{ Sent int }
	eventually(t, "the request on its way", func() bool {
		p.do("ask", map[string]any{"nodeName": "Firefox on Ubuntu 64-bit"}, &sent)
		return sent.Sent > 0
	})
	dir := desktop.pending()
	if name := filepath.Base(dir); !strings.HasPrefix(name, "firefox-on-ubuntu-64-bit-") {
		t.Errorf("it is called %s", name)
	}
	touch(t, filepath.Join(dir, "approve"))
	eventually(t, "the browser node authorised", func() bool {
		var out struct{ Authorized bool }
		p.do("authorized", map[string]any{"key": started.Local}, &out)
		return out.Authorized
	})
	p.do("put", map[string]any{"key": "/table", "value": "7b2231223a2278227d"}, nil)
	eventually(t, "its row on the mount's node", func() bool {
		for _, f := range desktop.status().Feeds {
			if f.Key == started.Local && f.Have >= 2 {
				return true
			}
		}
		return false
	})
	desktop.stop()
	desktop.check()
}
