package serve

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication/datdns"
)

// nameTTL is how long who asks may keep the answer.
const nameTTL = time.Hour

// serveName answers Dat DNS, for the host that is asked. It is never answered in the clear, but to a reverse proxy on this machine.
func (n *Server) serveName(w http.ResponseWriter, r *http.Request) {
	key, ok := n.named(r.Host)
	if !ok || r.TLS == nil && !local(r.RemoteAddr) {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d", int(nameTTL.Seconds())))
	write(w, "text/plain; charset=utf-8", string(datdns.Record{Key: key, TTL: nameTTL}.Text()))
}

// named returns the Hypha that Dat DNS names for host, as a request has it.
func (n *Server) named(host string) (hypercore.Key, bool) {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host, err := datdns.HostName(host)
	if err != nil {
		return hypercore.Key{}, false
	}
	if key, ok := n.settings.Named[host]; ok {
		_, kept := n.bySourceKey(key)
		return key, kept
	}
	if !slices.Contains(n.settings.Domains, host) {
		return hypercore.Key{}, false
	}
	all := n.hyphas()
	if len(all) != 1 {
		return hypercore.Key{}, false
	}
	return all[0].source, true
}

// local reports whether address, "host:port", is this machine's.
func local(address string) bool {
	from, err := netip.ParseAddrPort(address)
	return err == nil && from.Addr().Unmap().IsLoopback()
}
