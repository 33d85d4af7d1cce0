package transport_test

import (
	"net/url"
	"slices"
	"testing"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/transport"
)

func TestCheck(t *testing.T) {
	for text, good := range map[string][2]bool{ // as a peer, to listen at
		"tcp://host:1": {true, true}, "tcp://:0": {false, true}, "tcp://[::1]:4000": {true, true}, "tcp://10.0.0.1:65535/": {true, true},
		"ws://host:1": {true, true}, "ws://host": {true, false}, "ws://:0": {false, true}, "ws://host:1/folder": {true, false},
		"wss://host": {true, false}, "wss://host:1": {true, false}, "wss://host/folder": {true, false}, "ws://host:1?x": {false, false},
		"host:1": {}, "tcp://host": {}, "tcp://host:1/path": {}, "tcp://host:x": {}, "http://host:1": {}, "": {}, "%": {},
	} {
		peer, listen := transport.CheckPeer(text), transport.CheckListen(text)
		if (peer == nil) != good[0] || (listen == nil) != good[1] {
			t.Errorf("%q: %v, %v", text, peer, listen)
		}
	}
}

// FuzzCheck: a URL that is taken has a transport, and what that needs.
func FuzzCheck(f *testing.F) {
	f.Add("tcp://[::1]:4000/")
	f.Add("ws://host:1")
	f.Add("wss://host/folder")
	f.Fuzz(func(t *testing.T, text string) {
		peer, listen := transport.CheckPeer(text) == nil, transport.CheckListen(text) == nil
		if !peer && !listen {
			return
		}
		u, err := url.Parse(text)
		if err != nil || !slices.Contains([]string{"tcp", "ws", "wss"}, u.Scheme) {
			t.Fatalf("%q was taken", text)
		}
		if peer && u.Hostname() == "" || u.Port() == "" && (listen || u.Scheme == "tcp") || listen && u.Scheme == "wss" {
			t.Fatalf("%q was taken: as a peer %v, to listen at %v", text, peer, listen)
		}
	})
}
