package integration

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"hyphafs.org/hyphafs/auth"
)

// identity derives the keys of the tests' Hypha, as a person with the passphrase could.
func identity(t *testing.T) *auth.Identity {
	t.Helper()
	id, err := auth.Derive(t.Context(), "anna.example", auth.NewSecret([]byte(passphrase)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(id.Wipe)
	return id
}

func contentKeys(id *auth.Identity) map[string]string {
	k := id.Content()
	e := k.Epochs[0]
	return map[string]string{"names": hex.EncodeToString(k.Names[:]), "meta": hex.EncodeToString(e.Meta[:]), "blocks": hex.EncodeToString(e.Blocks[:])}
}

func ephemeralKey(id *auth.Identity) string {
	k := id.Ephemeral()
	return hex.EncodeToString(k[:])
}

func port(t *testing.T, url string) int {
	t.Helper()
	var p int
	if _, err := fmt.Sscanf(url[strings.LastIndex(url, ":")+1:], "%d", &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestNpmReadsOurs: an npm hyperdb replicates a Hypha that hyphafs made, encrypted and in the clear. It lists and gets every record, and the blocks of
// files, opened with the content keys by a script, are the files.
func TestNpmReadsOurs(t *testing.T) {
	for _, encrypt := range []bool{true, false} {
		t.Run(fmt.Sprintf("encrypt %v", encrypt), func(t *testing.T) {
			needNode(t)
			id := identity(t)
			desktop := newNode(t, "Hypha", "--allow-clear")
			desktop.signUp("Desktop")
			if err := os.MkdirAll(filepath.Join(desktop.dir, "photos/2024"), 0o755); err != nil {
				t.Fatal(err)
			}
			hashes := map[string]string{"photos/2024/big": makeBig(t, filepath.Join(desktop.dir, "photos/2024/big"), 300_001), "small": makeBig(t, filepath.Join(desktop.dir, "small"), 11)}
			if out, err := desktop.run("sync", desktop.dir); err != nil {
				t.Fatalf("sync: %v\n%s", err, out)
			}
			p := startPeer(t)
			p.do("start", map[string]any{"key": id.Source.String(), "encrypt": encrypt}, nil)
			p.do("connect", map[string]any{"port": port(t, desktop.listening())}, nil)
			p.await("handshake", func(e event) bool { return e.Event == "connected" })
			length := desktop.status().Feeds[0].Length
			eventually(t, "the npm peer to have the feed", func() bool {
				var out struct{ Lengths map[string]uint64 }
				p.do("lengths", nil, &out)
				return out.Lengths[id.Source.String()] == length
			})
			var list struct{ Keys [][]dbNode }
			p.do("list", nil, &list)
			families := map[byte]int{}
			for _, nodes := range list.Keys {
				if len(nodes) != 1 || nodes[0].Value == nil || nodes[0].Feed != id.Source.String() {
					t.Errorf("listed %+v", nodes)
					continue
				}
				families[nodes[0].Key[0]]++
				var got struct{ Nodes []dbNode }
				p.do("get", map[string]any{"key": nodes[0].Key}, &got)
				if len(got.Nodes) != 1 || *got.Nodes[0].Value != *nodes[0].Value {
					t.Errorf("get %s: %+v", nodes[0].Key, got)
				}
			}
			// entries: photos, 2024, big, small; inodes: these and the root; one writer
			if families['d'] != 4 || families['f'] != 5 || families['n'] != 1 {
				t.Errorf("records by family: %v", families)
			}
			for path, want := range hashes {
				var got struct {
					Size   int64
					SHA256 string
				}
				p.do("file", map[string]any{"path": strings.Split(path, "/"), "keys": contentKeys(id)}, &got)
				if got.SHA256 != want {
					t.Errorf("%s: %+v, want %s", path, got, want)
				}
			}
		})
	}
}

// TestNpmOrigin: hyphafs signs in to a database whose origin is an npm hyperdb, is authorised by it, and what it writes verifies there. Encrypted, hyphafs
// dials; in the clear, which it never dials, the origin does.
func TestNpmOrigin(t *testing.T) {
	for _, encrypt := range []bool{true, false} {
		t.Run(fmt.Sprintf("encrypt %v", encrypt), func(t *testing.T) { npmOrigin(t, encrypt) })
	}
}

func npmOrigin(t *testing.T, encrypt bool) {
	needNode(t)
	id := identity(t)
	p := startPeer(t)
	p.do("start", map[string]any{"seed": hex.EncodeToString(ed25519.PrivateKey(id.SourceSecret()).Seed()), "encrypt": encrypt, "ephemeral": ephemeralKey(id)}, nil)
	p.do("put", map[string]any{"key": "table", "value": "7b7d"}, nil)
	laptop := newNode(t, "B")
	if encrypt {
		var listening struct{ Port int }
		p.do("listen", nil, &listening)
		laptop.signIn("Laptop", fmt.Sprintf("tcp://127.0.0.1:%d", listening.Port))
	} else {
		laptop.mount("--sign-in", "--domain", "anna.example", "--name", "Laptop", "--listen", "tcp://127.0.0.1:0", "--allow-clear")
		p.do("connect", map[string]any{"port": port(t, laptop.listening())}, nil)
	}
	asked := p.await("request", func(e event) bool { return e.Event == "message" && strings.Contains(e.Text, `"authorise"`) })
	_, rest, _ := strings.Cut(asked.Text, `"readKey":"`)
	key := rest[:64]
	if err := os.WriteFile(filepath.Join(laptop.dir, "early"), nil, 0o644); err == nil {
		t.Error("written before the approval")
	}
	p.do("authorize", map[string]any{"key": key}, nil)
	eventually(t, "the laptop writable", func() bool { return laptop.status().Writable })
	want := makeBig(t, filepath.Join(laptop.dir, "written here"), 200_000)
	if out, err := laptop.run("sync", laptop.dir); err != nil {
		t.Fatalf("sync: %v\n%s", err, out)
	}
	var got struct{ SHA256 string }
	eventually(t, "the npm origin to have the file", func() bool {
		return p.try("file", map[string]any{"path": []string{"written here"}, "keys": contentKeys(id)}, &got) == nil
	})
	if got.SHA256 != want {
		t.Errorf("%s, want %s", got.SHA256, want)
	}
	var authorised struct{ Authorized bool }
	p.do("authorized", map[string]any{"key": key}, &authorised)
	if !authorised.Authorized {
		t.Error("the npm origin does not think that the laptop is authorised")
	}
	p.do("put", map[string]any{"key": "table", "value": "7b226e223a327d"}, nil)
}

// TestNpmNativeNode: a node that behaves as Hypha's native node of 2019 did asks over clear TCP without proof, shows up in pending with a warning, is
// approved by touch, and its next put reaches hyphafs.
func TestNpmNativeNode(t *testing.T) {
	needNode(t)
	id := identity(t)
	desktop := newNode(t, "Hypha", "--allow-clear")
	desktop.signUp("Desktop")
	p := startPeer(t)
	var started struct{ Local string }
	p.do("start", map[string]any{"key": id.Source.String(), "encrypt": false, "contentFeed": false, "ephemeral": ephemeralKey(id)}, &started)
	p.do("connect", map[string]any{"port": port(t, desktop.listening())}, nil)
	p.await("handshake", func(e event) bool { return e.Event == "connected" })
	var sent struct{ Sent int }
	eventually(t, "the request on its way", func() bool {
		p.do("ask", map[string]any{"nodeName": "Native node"}, &sent)
		return sent.Sent > 0
	})
	dir := desktop.pending()
	if name := filepath.Base(dir); !strings.HasPrefix(name, "native-node-") {
		t.Errorf("it is called %s", name)
	}
	said, err := os.ReadFile(filepath.Join(dir, "request.json"))
	if err != nil || !strings.Contains(string(said), `"proof": "none"`) || !strings.Contains(string(said), "warning") || !strings.Contains(string(said), started.Local) {
		t.Errorf("request.json: %s %v", said, err)
	}
	touch(t, filepath.Join(dir, "approve"))
	eventually(t, "the native node authorised", func() bool {
		var out struct{ Authorized bool }
		p.do("authorized", map[string]any{"key": started.Local}, &out)
		return out.Authorized
	})
	p.do("put", map[string]any{"key": "/table", "value": "7b7d"}, nil)
	eventually(t, "its entry here", func() bool {
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

// TestClearIsRefused: without --allow-clear a peer that does not encrypt gets nothing.
func TestClearIsRefused(t *testing.T) {
	needNode(t)
	id := identity(t)
	desktop := newNode(t, "Hypha")
	desktop.signUp("Desktop")
	p := startPeer(t)
	p.do("start", map[string]any{"key": id.Source.String(), "encrypt": false}, nil)
	p.do("connect", map[string]any{"port": port(t, desktop.listening())}, nil)
	p.await("end of the connection", func(e event) bool { return e.Event == "disconnected" })
	var out struct{ Lengths map[string]uint64 }
	p.do("lengths", nil, &out)
	if n := out.Lengths[id.Source.String()]; n != 0 {
		t.Errorf("it got %d blocks", n)
	}
}

// TestNpmReadsCrowd: four nodes write at once for a while; an npm hyperdb finds every key of each, and the newest entry of it, through the tries that they wrote.
func TestNpmReadsCrowd(t *testing.T) {
	needNode(t)
	const writers = 4
	s := newSwarm(t, writers, 1)
	a := startAlways(t, "--hypha", s.source.String())
	s.connect(a)
	s.authorise(writers)
	for range 120 {
		var round sync.WaitGroup
		for _, n := range s.nodes[:writers] {
			round.Go(func() {
				if err := n.put(t.Context(), 1); err != nil {
					t.Error(err)
				}
			})
		}
		round.Wait()
	}
	s.complete(writers)
	s.readable(writers)
	p := startPeer(t)
	p.do("start", map[string]any{"key": s.source.String(), "encrypt": true}, nil)
	p.do("connect", map[string]any{"port": port(t, a.tcp)}, nil)
	eventually(t, "the npm peer to have the feeds", func() bool {
		var out struct{ Lengths map[string]uint64 }
		p.do("lengths", nil, &out)
		return !slices.ContainsFunc(s.nodes[:writers], func(n *swarmer) bool { return out.Lengths[n.own.Key().String()] != n.own.Len() })
	})
	for _, n := range s.nodes[:writers] {
		newest := map[string]uint64{}
		for seq := uint64(1); seq < n.own.Len(); seq++ {
			e, err := n.db.Entry(n.own.Key(), seq)
			if err != nil {
				t.Fatal(err)
			}
			newest[e.Key] = seq
		}
		delete(newest, "") // authorisations
		for key, seq := range newest {
			var got struct{ Nodes []dbNode }
			p.do("get", map[string]any{"key": key}, &got)
			if !slices.ContainsFunc(got.Nodes, func(d dbNode) bool { return d.Feed == n.own.Key().String() && d.Seq == seq }) {
				t.Errorf("get %s: %+v, want block %d", key, got.Nodes, seq)
			}
		}
	}
}
