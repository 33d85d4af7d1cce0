package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"hyphafs.org/hyphafs/auth"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/node"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/transport"
)

// settings reads the flags of c, looks for the node they mean and asks a person for what is missing. role is that of the command sign-up or sign-in, and
// empty for mount. Nothing is written.
func (p *program) settings(ctx context.Context, c *cli.Context, role state.Role) (node.Settings, error) {
	s := node.Settings{
		AllowClear: c.Bool("allow-clear"), AllowOther: c.Bool("allow-other"), TrustStore: c.Bool("trust-store"),
		ReadTimeout: c.Duration("read-timeout"), LogLevel: c.String("log-level"), LogFormat: c.String("log-format"),
	}
	if err := checkLog(s.LogLevel, s.LogFormat); err != nil {
		return s, err
	}
	role, err := wantedRole(c, role)
	if err != nil {
		return s, err
	}
	if s.Config.Domain, err = cleanDomain(c.String("domain")); err != nil {
		return s, err
	}
	if s.State, err = p.stateOf(c, s.Config.Domain); err != nil {
		return s, err
	}
	if s.State != "" {
		old, err := s.State.Config()
		if err == nil {
			return s, again(c, &s, old, role)
		}
		if !errors.Is(err, state.ErrNoNode) {
			return s, damaged(err)
		}
	}
	if err := p.first(ctx, c, &s, role); err != nil {
		return s, err
	}
	return s, addresses(c, &s)
}

func damaged(err error) error {
	if errors.Is(err, state.ErrNewer) {
		return fault.New(fault.Failed, "use that version, or another --state", "%w", err)
	}
	if errors.Is(err, state.ErrDamaged) {
		return fault.New(fault.Damaged, "restore the file, or sign in anew with another --state", "%w", err)
	}
	return err
}

func checkLog(level, format string) error {
	var known slog.Level
	if err := known.UnmarshalText([]byte(level)); err != nil {
		return fault.New(fault.Usage, "take debug, info, warn or error", "there is no log level %q", level)
	}
	if format != "text" && format != "json" {
		return fault.New(fault.Usage, "take text or json", "there is no log format %q", format)
	}
	return nil
}

func wantedRole(c *cli.Context, role state.Role) (state.Role, error) {
	up, in := c.Bool("sign-up"), c.Bool("sign-in")
	switch {
	case role != "":
		return role, nil
	case up && in:
		return "", fault.New(fault.Usage, "give one of them", "--sign-up makes a new Hypha and --sign-in joins one")
	case up:
		return state.SignUp, nil
	case in:
		return state.SignIn, nil
	}
	return "", nil
}

func cleanDomain(domain string) (string, error) {
	if domain == "" {
		return "", nil
	}
	clean, err := auth.CleanDomain(domain)
	if err != nil {
		return "", fault.New(fault.Usage, "take a name of at least 3 characters, such as anna.example", "--domain: %w", err)
	}
	return clean, nil
}

// stateOf returns the state directory that is meant, or nothing if that needs the domain to be asked.
func (p *program) stateOf(c *cli.Context, domain string) (state.Dir, error) {
	if given := c.String("state"); given != "" {
		return state.At(given)
	}
	home, err := state.Home(p.getenv)
	if err != nil {
		return "", err
	}
	if domain != "" {
		return forDomain(home, domain)
	}
	if c.Bool("sign-up") || c.Bool("sign-in") || c.Command.Name == "sign-up" || c.Command.Name == "sign-in" {
		return "", nil // a new one
	}
	nodes, err := state.Nodes(home)
	if err != nil || len(nodes) == 0 {
		return "", err
	}
	if len(nodes) == 1 {
		return nodes[0], nil
	}
	var names []string
	for _, n := range nodes {
		names = append(names, filepath.Base(string(n)))
	}
	return "", fault.New(fault.Usage, "say --domain", "several nodes live here: %s", strings.Join(names, ", "))
}

func forDomain(home, domain string) (state.Dir, error) {
	d, err := state.ForDomain(home, domain)
	if err != nil {
		return "", fault.New(fault.Usage, "take another domain, or say --state", "%w", err)
	}
	return d, nil
}

// again fills s for a node that exists: what it remembers, except where a flag says otherwise.
func again(c *cli.Context, s *node.Settings, old state.Config, role state.Role) error {
	domain := s.Config.Domain
	s.Config = old
	switch {
	case c.Command.Name == string(role):
		return fault.New(fault.Failed, "mount it with hyphafs mount", "%s is a node of %s already", s.State, old.Domain)
	case domain != "" && domain != old.Domain:
		return fault.New(fault.WrongPassphrase, "leave --domain out, or take another --state", "%s is a node of %s, not of %s", s.State, old.Domain, domain)
	case role != "" && role != old.Role:
		return fault.New(fault.Failed, "leave --"+string(role)+" out, or take another --state", "%s is a node of %s already, by %s", s.State, old.Domain, old.Role)
	}
	return addresses(c, s)
}

// first fills s for a node that does not exist yet.
func (p *program) first(ctx context.Context, c *cli.Context, s *node.Settings, role state.Role) error {
	s.New = true
	var err error
	if role == "" {
		if c.Command.Name == "check" {
			return fault.New(fault.Failed, "say --state or --domain", "no node lives in %s", orDefault(string(s.State), "the default place"))
		}
		if role, err = p.askRole(ctx); err != nil {
			return err
		}
	}
	s.Config.Role = role
	if s.Config.Domain == "" {
		if s.Config.Domain, err = p.askDomain(ctx); err != nil {
			return err
		}
	}
	if s.State == "" {
		home, err := state.Home(p.getenv)
		if err != nil {
			return err
		}
		if s.State, err = forDomain(home, s.Config.Domain); err != nil {
			return err
		}
		if old, err := s.State.Config(); err == nil {
			s.New = false
			return again(c, s, old, role)
		}
	}
	name := c.String("name")
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return err
		}
		name = "hyphafs on " + host
	}
	s.Config.Name = auth.CleanName(name)
	return nil
}

func (p *program) askRole(ctx context.Context) (state.Role, error) {
	if !p.terminal.Interactive() {
		return "", fault.New(fault.Usage, "say --sign-up to make a new Hypha, or --sign-in to join one", "this is the first mount, and no terminal can be asked")
	}
	p.terminal.Say("No node lives here yet. Sign up to make a new Hypha, or sign in to one that you have on another machine.")
	for {
		answer, err := p.terminal.Ask(ctx, "sign up or sign in? (up/in)", "")
		if err != nil {
			return "", err
		}
		switch strings.TrimPrefix(strings.ReplaceAll(strings.ToLower(answer), " ", "-"), "sign-") {
		case "up":
			return state.SignUp, nil
		case "in":
			return state.SignIn, nil
		}
	}
}

func (p *program) askDomain(ctx context.Context) (string, error) {
	if !p.terminal.Interactive() {
		return "", fault.New(fault.Usage, "say --domain", "the Hypha's name is missing, and no terminal can be asked")
	}
	for {
		answer, err := p.terminal.Ask(ctx, "Domain (the Hypha's name, such as anna.example)", "")
		if err != nil {
			return "", err
		}
		domain, err := auth.CleanDomain(answer)
		if err == nil {
			return domain, nil
		}
		p.terminal.Say("%v", err)
	}
}

// addresses puts the peers and listeners of the flags into s; without flags, what the node remembers stays.
func addresses(c *cli.Context, s *node.Settings) error {
	if c.IsSet("peer") {
		s.Config.Peers = c.StringSlice("peer")
	}
	if c.IsSet("listen") {
		s.Config.Listen = c.StringSlice("listen")
	}
	if c.IsSet("no-discovery") {
		s.Config.NoDiscovery = c.Bool("no-discovery")
	}
	return checkURLs(s.Config.Peers, s.Config.Listen)
}

func checkURLs(peers, listen []string) error {
	for _, u := range peers {
		if err := transport.CheckPeer(u); err != nil {
			return fault.New(fault.Usage, "give it as tcp://host:port, ws://host:port or wss://host", "--peer %s: %w", u, err)
		}
	}
	for _, u := range listen {
		if err := transport.CheckListen(u); err != nil {
			return fault.New(fault.Usage, "give it as tcp://host:port or ws://host:port", "--listen %s: %w", u, err)
		}
	}
	return nil
}

func orDefault(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
