// Package gate bounds how many connections a node has at once, in all and from one address, over all its listeners.
package gate

import (
	"errors"
	"net/netip"
	"sync"
)

// The errors of Enter.
var (
	ErrFull    = errors.New("too many connections")
	ErrCrowded = errors.New("too many connections from one address")
)

// Gate counts connections. All methods may be called from many goroutines at once. A nil Gate lets everybody in.
type Gate struct {
	most, each int

	mu   sync.Mutex // guards what follows; held over nothing
	all  int
	from map[netip.Prefix]int
}

// New makes a Gate for most connections at once, each of them from one address at most; 0: no bound.
func New(most, each int) *Gate { return &Gate{most: most, each: each, from: map[netip.Prefix]int{}} }

// Enter takes a place for a connection from address, "host:port" or a bare address; leave gives it back and may be called again. Of IPv6, the 64 bits that a site
// is given count as one address. Loopback is this machine: a reverse proxy is there, or whoever could do worse; only the sum bounds it.
func (g *Gate) Enter(address string) (leave func(), err error) {
	if g == nil {
		return func() {}, nil
	}
	site := siteOf(address)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.most > 0 && g.all >= g.most:
		return nil, ErrFull
	case g.each > 0 && g.from[site] >= g.each && !site.Addr().IsLoopback():
		return nil, ErrCrowded
	}
	g.all++
	g.from[site]++
	return sync.OnceFunc(func() { g.leave(site) }), nil
}

func (g *Gate) leave(site netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.from[site]--; g.from[site] == 0 {
		delete(g.from, site)
	}
}

// Count returns how many connections there are.
func (g *Gate) Count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all
}

// siteOf is what counts as one address. Whatever is no IP address counts as one.
func siteOf(address string) netip.Prefix {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		port, err := netip.ParseAddrPort(address)
		if err != nil {
			return netip.Prefix{}
		}
		ip = port.Addr()
	}
	ip = ip.Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() && !ip.IsLoopback() {
		bits = 64
	}
	site, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return site
}
