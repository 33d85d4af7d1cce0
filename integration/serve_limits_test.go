package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestAlwaysOnLimits: connections that say nothing, too much or nonsense end by themselves, those of one address and all together are bounded, and the node serves on.
func TestAlwaysOnLimits(t *testing.T) {
	id := identity(t)
	a := startAlways(t, ours(id), "--max-connections", "60", "--max-per-address", "3", "--log-level", "debug")
	route := a.ws() + "/hypha/" + id.Source.String()
	from := func(address string) int {
		t.Helper()
		socket, answer, err := websocket.DefaultDialer.Dial(route, http.Header{"X-Forwarded-For": {address}})
		if answer == nil {
			t.Fatal(err)
		}
		if err == nil {
			t.Cleanup(func() { socket.Close() })
		}
		return answer.StatusCode
	}
	for i := range 5 { // as a reverse proxy on this machine passes them on
		want := http.StatusSwitchingProtocols
		if i >= 3 {
			want = http.StatusTooManyRequests
		}
		if got := from("192.0.2.1"); got != want {
			t.Errorf("connection %d of one address: %d, want %d", i, got, want)
		}
	}
	if got := from("192.0.2.2"); got != http.StatusSwitchingProtocols {
		t.Errorf("another address: %d", got)
	}
	if got := ended(t, a.http, "GET / HTTP/1.1\r\nHost: x\r\nLong: "+strings.Repeat("x", 64<<10)+"\r\n\r\n"); !strings.Contains(got, "431") {
		t.Errorf("a long header: %.100q", got)
	}
	type slow struct{ name, address, says string }
	finished := make(chan slow, 10)
	kinds := []slow{
		{"silent, TCP", a.tcp, ""}, {"nonsense, TCP", a.tcp, "\x7fnonsense, and more of it than a first frame may have" + strings.Repeat(".", 2000)}, {"half a first frame", a.tcp, "\x3d\x00"},
		{"silent, HTTP", a.http, ""}, {"half a request", a.http, "GET / HTTP/1.1\r\nHost: "},
		{"a WebSocket and no word", a.http, "GET /hypha/" + id.Source.String() + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"},
	}
	for _, kind := range kinds {
		go func() { // the loop below receives from each
			ended(t, kind.address, kind.says)
			finished <- kind
		}()
	}
	for range kinds {
		select {
		case <-finished:
		case <-time.After(patience):
			t.Fatal("a connection that says nothing is kept")
		}
	}
	// All together: what is beyond the bound is closed at once, and room comes back.
	var many []net.Conn
	defer func() {
		for _, c := range many {
			c.Close()
		}
	}()
	for range 80 {
		c, err := net.Dial("tcp", a.tcp)
		if err != nil {
			t.Fatal(err)
		}
		many = append(many, c)
	}
	eventually(t, "the surplus to be closed", func() bool { return strings.Count(a.stderr.String(), "too many connections") >= 10 })
	for _, c := range many {
		c.Close()
	}
	many = nil
	listen(t, a, id.Source, false)
	if n := a.metric("hyphafs_hyphas"); n != 1 {
		t.Errorf("%v Hyphas", n)
	}
}

// ended says something on a new connection, waits until the other side closes it, and returns what came.
func ended(t *testing.T, address, says string) string {
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer c.Close()
	if _, err := io.WriteString(c, says); err != nil {
		return fmt.Sprint(err) // it was closed while we spoke
	}
	got, err := io.ReadAll(c)
	if err != nil {
		return string(got) + err.Error()
	}
	return string(got)
}
