package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/serve"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
	"hyphafs.org/hyphafs/drive/archive/s3"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication/datdns"
)

func (p *program) serveCommand() *cli.Command {
	return &cli.Command{
		Name: "serve", Usage: "the always-on node: keep Hyphas, and let their nodes meet; it can read nothing of them",
		Flags: serveFlags(), Action: p.serve,
	}
}

// serveFlags are those of serve.
func serveFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "state", Usage: "where the node lives, in `DIR`", EnvVars: env("state")},
		&cli.StringFlag{Name: "http", Usage: "serve HTTP and WebSocket at `ADDR`, host:port; port 0 picks one", EnvVars: env("http"), DefaultText: ":443 with TLS"},
		text("tcp", "accept peers over TCP at `ADDR`, host:port; port 0 picks one"),
		list("tls-domain", "serve HTTPS, with a certificate for the host `D` by ACME, whose authority's terms you agree to; repeatable"),
		&cli.StringFlag{Name: "acme-http", Usage: "with --tls-domain, prove at `ADDR` that the host is this one, and send people on to HTTPS; none: not there", EnvVars: env("acme-http"), Value: ":80"},
		&cli.StringFlag{Name: "acme-directory", Usage: "get certificates from the authority at `URL`", EnvVars: env("acme-directory"), DefaultText: "Let's Encrypt"},
		text("tls-cert", "serve HTTPS with the certificate chain in `F`, read again when it is replaced"),
		text("tls-key", "the key of --tls-cert in `F`"),
		list("hypha", "keep the Hypha with this `READKEY`, 64 hex digits or a hyphalink; D=READKEY: and let Dat DNS name it for the host D; repeatable"),
		list("domain", "let Dat DNS name the only Hypha for the host `D`, as for each --tls-domain; for a node behind a reverse proxy; repeatable"),
		yes("no-discovery", "answer no Dat DNS: nobody learns a read key from a host's name"),
		yes("adopt", "take the first Hypha that shows itself by WebSocket, and no other, if there is none"),
		text("max-bytes", "keep at most `N` bytes of blocks of each Hypha; K, M, G and T may follow the number"),
		text("store", "keep feeds in an object store, `URL`: s3://BUCKET/PREFIX, with ?endpoint=URL for a server that is not Amazon's; credentials come from AWS_… in the environment or ~/.aws"),
		&cli.StringFlag{Name: "store-cache", Usage: "use at most `N` bytes of disk as a cache of --store", EnvVars: env("store-cache"), Value: "10G"},
		list("peer", "connect to `URL`, another always-on node, and stay connected; repeatable"),
		list("origin", "let pages of `URL`, https://host, connect although they come from elsewhere; repeatable"),
		yes("allow-clear", "serve TCP peers that do not encrypt: whoever knows the discovery key can then fetch ciphertext"),
		&cli.IntFlag{Name: "max-connections", Usage: "have at most `N` connections at once", EnvVars: env("max-connections"), Value: 4096},
		&cli.IntFlag{Name: "max-per-address", Usage: "have at most `N` connections from one address", EnvVars: env("max-per-address"), Value: 64},
		&cli.StringFlag{Name: "log-level", Usage: "debug, info, warn or error", EnvVars: env("log-level"), Value: "info"},
		&cli.StringFlag{Name: "log-format", Usage: "text or json", EnvVars: env("log-format"), Value: "text"},
	}
}

func (p *program) serve(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	s, err := serveSettings(c)
	if err != nil {
		return err
	}
	return serve.Run(c.Context, s, p.stderr, p.say)
}

// serveSettings reads the flags.
func serveSettings(c *cli.Context) (s serve.Settings, err error) {
	s = serve.Settings{
		HTTP: c.String("http"), TCP: c.String("tcp"), Adopt: c.Bool("adopt"), Peers: c.StringSlice("peer"), Origins: c.StringSlice("origin"), AllowClear: c.Bool("allow-clear"),
		MaxConns: c.Int("max-connections"), MaxPerAddress: c.Int("max-per-address"), LogLevel: c.String("log-level"), LogFormat: c.String("log-format"),
	}
	if err := checkLog(s.LogLevel, s.LogFormat); err != nil {
		return s, err
	}
	if err := secureSettings(c, &s); err != nil {
		return s, err
	}
	switch {
	case c.String("state") == "":
		return s, fault.New(fault.Usage, "say --state DIR", "where the node lives is missing")
	case s.HTTP == "" && s.TCP == "":
		return s, fault.New(fault.Usage, "say --http ADDR, --tcp ADDR or both", "there is nothing to listen at")
	case s.MaxConns < 1 || s.MaxPerAddress < 1:
		return s, fault.New(fault.Usage, "give at least 1", "--max-connections and --max-per-address bound what is served")
	}
	if s.State, err = state.At(c.String("state")); err != nil {
		return s, err
	}
	for flag, address := range map[string]string{"http": s.HTTP, "tcp": s.TCP, "acme-http": s.ClearHTTP} {
		if _, _, err := net.SplitHostPort(address); address != "" && err != nil {
			return s, fault.New(fault.Usage, "give it as host:port", "--%s %s: %w", flag, address, err)
		}
	}
	if s.Hyphas, s.Named, err = readKeys(c.StringSlice("hypha")); err != nil {
		return s, err
	}
	if c.Bool("no-discovery") {
		s.Named, s.Domains = nil, nil
	}
	if s.MaxBytes, err = parseBytes(c.String("max-bytes")); err != nil {
		return s, fault.New(fault.Usage, "give it as a number, or as 10G", "--max-bytes: %w", err)
	}
	if err := serveStore(c, &s); err != nil {
		return s, err
	}
	for _, origin := range s.Origins {
		if u, err := url.Parse(origin); err != nil || u.Scheme == "" || u.Host == "" || origin != u.Scheme+"://"+u.Host {
			return s, fault.New(fault.Usage, "give it as https://host", "--origin %s is no origin", origin)
		}
	}
	return s, checkURLs(s.Peers, nil)
}

// serveStore reads --store.
func serveStore(c *cli.Context, s *serve.Settings) (err error) {
	if c.String("store") == "" {
		return nil
	}
	if s.Cache, err = parseBytes(c.String("store-cache")); err != nil || s.Cache == 0 {
		return fault.New(fault.Usage, "give it as a number, or as 10G", "--store-cache: %w", err)
	}
	bucket, err := s3.Open(c.String("store"))
	if err != nil {
		return fault.New(fault.Usage, "see hyphafs serve --help", "--store: %w", err)
	}
	s.Bucket = bucket
	return nil
}

// secureSettings reads the flags of HTTPS and of the names that Dat DNS answers for.
func secureSettings(c *cli.Context, s *serve.Settings) (err error) {
	if s.TLSDomains, err = hostNames("tls-domain", c.StringSlice("tls-domain")); err != nil {
		return err
	}
	if s.Domains, err = hostNames("domain", c.StringSlice("domain")); err != nil {
		return err
	}
	s.Domains = append(s.Domains, s.TLSDomains...)
	s.TLSCert, s.TLSKey, s.ACMEDirectory = c.String("tls-cert"), c.String("tls-key"), c.String("acme-directory")
	switch {
	case (s.TLSCert == "") != (s.TLSKey == ""):
		return fault.New(fault.Usage, "give both", "--tls-cert and --tls-key belong together")
	case s.TLSCert != "" && len(s.TLSDomains) > 0:
		return fault.New(fault.Usage, "with --tls-cert, name the host with --domain", "--tls-domain gets a certificate of its own, --tls-cert has one")
	}
	if http := c.String("acme-http"); len(s.TLSDomains) > 0 && http != "none" {
		s.ClearHTTP = http
	}
	if s.HTTP == "" && (s.TLSCert != "" || len(s.TLSDomains) > 0) {
		s.HTTP = ":443"
	}
	return nil
}

// hostNames reads names of hosts.
func hostNames(flag string, texts []string) (hosts []string, err error) {
	for _, text := range texts {
		host, err := datdns.HostName(strings.ToLower(text))
		if err != nil {
			return nil, fault.New(fault.Usage, "give it as anna.example", "--%s %s: %w", flag, text, err)
		}
		hosts = append(hosts, host)
	}
	return hosts, nil
}

// readKeys reads the read keys of --hypha, and the hosts that some are named for. What is no key is not shown: it may be a slip that is somebody's secret.
func readKeys(texts []string) (keys []hypercore.Key, named map[string]hypercore.Key, err error) {
	named = map[string]hypercore.Key{}
	for i, text := range texts {
		host, digits, hasHost := strings.Cut(strings.TrimSpace(text), "=")
		if !hasHost {
			host, digits = "", host
		}
		key, err := hypercore.ParseKey(strings.TrimPrefix(digits, "hypha://"))
		if err != nil {
			return nil, nil, fault.New(fault.Usage, "see hyphafs link", "--hypha number %d: %w", i+1, err)
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
		if !hasHost {
			continue
		}
		hosts, err := hostNames("hypha", []string{host})
		if err != nil {
			return nil, nil, err
		}
		if other, ok := named[hosts[0]]; ok && other != key {
			return nil, nil, fault.New(fault.Usage, "leave one out", "--hypha: %s would name two Hyphas", host)
		}
		named[hosts[0]] = key
	}
	return keys, named, nil
}

// parseBytes reads a number of bytes: digits, and K, M, G or T for powers of 1024. Nothing is 0.
func parseBytes(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	digits, shift := text, 0
	if at := strings.IndexByte("KMGT", text[len(text)-1]); at >= 0 {
		digits, shift = text[:len(text)-1], 10*(at+1)
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return 0, fmt.Errorf("%q is no number of bytes", text)
	case err != nil || n == 0 || n > 1<<62>>shift:
		return 0, fmt.Errorf("%q is not between 1 and 2^62 bytes", text)
	}
	return n << shift, nil
}
