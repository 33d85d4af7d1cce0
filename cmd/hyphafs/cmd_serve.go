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
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/s3"
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
		text("http", "serve HTTP and WebSocket at `ADDR`, host:port; port 0 picks one"),
		text("tcp", "accept peers over TCP at `ADDR`, host:port; port 0 picks one"),
		list("hypha", "keep the Hypha with this `READKEY`, 64 hex digits or a hyphalink; repeatable"),
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
	for flag, address := range map[string]string{"http": s.HTTP, "tcp": s.TCP} {
		if _, _, err := net.SplitHostPort(address); address != "" && err != nil {
			return s, fault.New(fault.Usage, "give it as host:port", "--%s %s: %w", flag, address, err)
		}
	}
	if s.Hyphas, err = readKeys(c.StringSlice("hypha")); err != nil {
		return s, err
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

// readKeys reads the read keys of --hypha. What is no key is not shown: it may be a slip that is somebody's secret.
func readKeys(texts []string) (keys []hypercore.Key, err error) {
	for i, text := range texts {
		key, err := hypercore.ParseKey(strings.TrimPrefix(strings.TrimSpace(text), "hypha://"))
		if err != nil {
			return nil, fault.New(fault.Usage, "see hyphafs link", "--hypha number %d: %w", i+1, err)
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys, nil
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
