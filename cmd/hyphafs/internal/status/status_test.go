package status

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"
)

func full() Status {
	return Status{
		Domain: "anna.example", Node: Node{Name: "Lap\x1b[31mtop", Fingerprint: "1f2e3d4c5b6a"}, Hyphalink: "hypha://00",
		Words: "one two three four five six", Mount: "/home/a/Hypha", Listen: []string{"tcp://[::]:4000"},
		Peers:       []Peer{{URL: "tcp://h:1", Kind: "hyphafs", Connected: 75, Down: 1536, Up: 10}},
		Unconnected: []Unconnected{{URL: "tcp://gone:2", Reason: "connection re\x1bfused"}},
		Feeds:       []Feed{{Key: "abcdef0123456789", Writer: "desktop-1f2e3d4c", Length: 10, Have: 7}},
		Pending:     2,
		Unpublished: Amount{Files: 1, Bytes: 2048},
		Alarms:      []string{"a feed forked"},
	}
}

// TestJSONHasTheContractsFields keeps the names that scripts rely on.
func TestJSONHasTheContractsFields(t *testing.T) {
	var got map[string]any
	if err := json.Unmarshal(full().JSON(), &got); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"domain", "node.name", "node.fingerprint", "hyphalink", "writable", "mount", "listen", "peers", "unconnected", "feeds", "pending",
		"conflicts", "unpublished.files", "unpublished.bytes", "missing.blocks", "missing.bytes", "alarms", "pid"} {
		if !has(got, strings.Split(path, ".")) {
			t.Errorf("no %s", path)
		}
	}
	peer, feed := got["peers"].([]any)[0].(map[string]any), got["feeds"].([]any)[0].(map[string]any)
	for _, name := range []string{"url", "kind", "fingerprint", "connected_s", "down_bytes", "up_bytes"} {
		if _, ok := peer[name]; !ok {
			t.Errorf("no %s of a peer", name)
		}
	}
	for _, name := range []string{"key", "writer", "length", "have"} {
		if _, ok := feed[name]; !ok {
			t.Errorf("no %s of a feed", name)
		}
	}
}

func has(in map[string]any, path []string) bool {
	v, ok := in[path[0]]
	if !ok || len(path) == 1 {
		return ok
	}
	inner, ok := v.(map[string]any)
	return ok && has(inner, path[1:])
}

func TestEmptyListsAreNotNull(t *testing.T) {
	if text := string((Status{}).JSON()); strings.Contains(text, "null") {
		t.Error(text)
	}
}

func TestTextShowsTheWordsUntilApproved(t *testing.T) {
	s := full()
	text := string(s.Text())
	for _, want := range []string{"one two three four five six", "tcp://h:1", "1m15s", "tcp://gone:2 not connected: connection re\ufffdfused", "1.5 KiB", "7 of 10", "1 file, 2.0 KiB", "a feed forked", "2 (hyphafs pending)"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Error("a control character reaches the terminal")
	}
	s.Writable, s.Words = true, ""
	if text := string(s.Text()); !strings.Contains(text, "writable") || strings.Contains(text, "words") {
		t.Error(text)
	}
	s.Writable = false
	if text := string(s.Text()); !strings.Contains(text, "read-only\n") {
		t.Error(text)
	}
}

func TestBrief(t *testing.T) {
	for _, c := range []struct {
		s    Status
		err  error
		want string
	}{
		{Status{Writable: true, Peers: make([]Peer, 2)}, nil, "writable, 2 peers"},
		{Status{Words: "a b c d e f", Peers: make([]Peer, 1)}, nil, "read-only, waiting for approval, 1 peer"},
		{Status{}, errors.New("x"), "read-only, 0 peers, ALARM: see hyphafs status"},
		{full(), nil, "read-only, waiting for approval, 1 peer, ALARM: see hyphafs status"},
	} {
		if got := Brief(c.s, c.err); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1<<20 - 1: "1.0 MiB", 1 << 30: "1.0 GiB", 1<<64 - 1: "16.0 EiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{"Anna's ☃ laptop": "Anna's ☃ laptop", "a\x00\n\x1b\u202eb": "a����b", "\xff": "�"} {
		if got := Printable(in); got != want {
			t.Errorf("%q: got %q", in, got)
		}
	}
}

func TestLists(t *testing.T) {
	seen := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	text := string(WritersText([]Writer{
		{Node: "d-1", Name: "Desktop", Fingerprint: "0123456789"},
		{Node: "l-2", Name: "Lap\ttop", Fingerprint: "abcdefabcdef", ApprovedBy: "d-1", LastSeen: &seen},
		{Node: "x-3", Name: "Self", Fingerprint: "99", ApprovedBy: "d-1", Self: true},
	}))
	for _, want := range []string{"itself: the origin", "2026-01-02 03:04:05", "abcdefab ", "this node", "never", "Lap�top"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if text := string((Writer{Name: "N", Fingerprint: "f"}).Text()); !strings.Contains(text, "name        N\n") {
		t.Error(text)
	}
	if text := string(RequestsText(nil)); text != "" {
		t.Errorf("no requests: %q", text)
	}
	if text := string(RequestsText([]Request{{Node: "laptop-1", Words: "a b c d e f\n"}})); !strings.Contains(text, "a b c d e f\n") {
		t.Error(text)
	}
}

// FuzzPrintable: names from elsewhere cannot change a terminal.
func FuzzPrintable(f *testing.F) {
	f.Add("Lap\x1b[2Jtop\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		shown := Printable(s)
		for _, r := range shown {
			if !unicode.IsPrint(r) && r != unicode.ReplacementChar {
				t.Fatalf("%q is shown as %q", s, shown)
			}
		}
		if text := (Status{Domain: s, Peers: []Peer{{URL: s, Kind: s}}, Alarms: []string{s}}).Text(); bytes.ContainsAny(text, "\x1b\r\u202e") {
			t.Fatalf("%q is shown in %q", s, text)
		}
	})
}
