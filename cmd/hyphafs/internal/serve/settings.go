package serve

import (
	"path/filepath"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
	"hyphafs.org/hyphafs/drive/hypercore"
)

// Settings say how an always-on node runs.
type Settings struct {
	State         state.Dir
	HTTP          string // address to serve HTTP and WebSocket at, "host:port"; empty: not
	TCP           string // address to accept peers at over TCP; empty: not
	Hyphas        []hypercore.Key
	Adopt         bool   // take the first Hypha that shows itself if there is none
	MaxBytes      uint64 // of blocks, of each Hypha; 0: no bound
	Peers         []string
	Origins       []string // pages of other hosts that may connect
	AllowClear    bool     // also over TCP
	MaxConns      int      // in all; 0: no bound
	MaxPerAddress int      // 0: no bound
	TLSDomains    []string // names of hosts, as datdns.HostName gives them, to get certificates for by ACME; empty: not
	ClearHTTP     string   // with TLSDomains: address to answer HTTP-01 at, and to send people on to HTTPS; empty: not
	ACMEDirectory string   // URL of the authority; empty: Let's Encrypt's
	TLSCert       string   // path of a certificate chain, instead of TLSDomains
	TLSKey        string   // path of its key
	// Named says which Hypha Dat DNS names for a host, and Domains for which hosts it names the only one that is kept. Hosts are as datdns.HostName gives them.
	Named     map[string]hypercore.Key
	Domains   []string
	LogLevel  string
	LogFormat string
	// Store is where feeds are kept; nil: on disk, below State.
	Store Store
}

// Store returns the storage of the feeds of one Hypha, named by its discovery key in hex: a function from a feed's name, its discovery key in hex, to its storage.
type Store func(hypha string) func(name string) hypercore.Storage

// Disk keeps feeds in the folder dir.
func Disk(dir string) Store {
	return func(hypha string) func(string) hypercore.Storage {
		return func(name string) hypercore.Storage { return hypercore.Dir(filepath.Join(dir, hypha, name)) }
	}
}
