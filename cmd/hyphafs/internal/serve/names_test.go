package serve

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication/datdns"
	"hyphafs.org/hyphafs/replication/replicationtest"
)

// TestNames: a host is told its Hypha and no other, by TLS or by a reverse proxy on this machine.
func TestNames(t *testing.T) {
	first, second, third := replicationtest.Key(0), replicationtest.Key(1), replicationtest.Key(2)
	one := start(t, Settings{Hyphas: []hypercore.Key{first}, Domains: []string{"anna.example", "xn--mnchen-3ya.example"}})
	many := start(t, Settings{Hyphas: []hypercore.Key{first, second}, Domains: []string{"anna.example"}, Named: map[string]hypercore.Key{
		"bert.example": second, "gone.example": third, "third.example": third}})
	none := start(t, Settings{Adopt: true, Domains: []string{"anna.example"}})
	quiet := start(t, Settings{Hyphas: []hypercore.Key{first}})
	for _, c := range []struct {
		server *running
		host   string
		from   string
		secure bool
		want   hypercore.Key // zero: 404
	}{
		{one, "anna.example", "192.0.2.1:1", true, first},
		{one, "Anna.Example:443", "192.0.2.1:1", true, first},
		{one, "xn--mnchen-3ya.example", "192.0.2.1:1", true, first},
		{one, "anna.example", "127.0.0.1:1", false, first},
		{one, "anna.example", "[::1]:1", false, first},
		{one, "anna.example", "192.0.2.1:1", false, hypercore.Key{}},
		{one, "other.example", "192.0.2.1:1", true, hypercore.Key{}},
		{one, "192.0.2.7", "192.0.2.1:1", true, hypercore.Key{}},
		{one, "", "192.0.2.1:1", true, hypercore.Key{}},
		{many, "anna.example", "192.0.2.1:1", true, hypercore.Key{}},
		{many, "bert.example", "192.0.2.1:1", true, second},
		{many, "gone.example", "192.0.2.1:1", true, hypercore.Key{}},
		{none, "anna.example", "192.0.2.1:1", true, hypercore.Key{}},
		{quiet, "anna.example", "127.0.0.1:1", true, hypercore.Key{}},
	} {
		r := httptest.NewRequest(http.MethodGet, datdns.Path, nil)
		r.Host, r.RemoteAddr, r.TLS = c.host, c.from, nil
		if c.secure {
			r.TLS = &tls.ConnectionState{}
		}
		w := httptest.NewRecorder()
		c.server.handler().ServeHTTP(w, r)
		rec, err := datdns.Parse(w.Body.Bytes())
		if c.want.IsZero() {
			if w.Code != http.StatusNotFound || err == nil {
				t.Errorf("%s from %s was told %d %q", c.host, c.from, w.Code, w.Body)
			}
		} else if w.Code != http.StatusOK || err != nil || rec != (datdns.Record{Key: c.want, TTL: nameTTL}) {
			t.Errorf("%s from %s: %d %q, %v", c.host, c.from, w.Code, w.Body, err)
		}
	}
}
