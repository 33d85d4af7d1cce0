package serve

import (
	"time"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
	"hyphafs.org/hyphafs/drive/archive"
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
	// Bucket is the object store where feeds are kept; nil: they are on disk, below State. It is closed by nobody here.
	Bucket archive.Bucket
	Cache  uint64 // bytes of disk for what is in Bucket

	idle time.Duration // how long a Hypha that is opened on demand stays open without a peer
}
