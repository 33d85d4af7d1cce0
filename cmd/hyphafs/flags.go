package main

import (
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
)

// env names the environment variable of a flag.
func env(flag string) []string {
	return []string{"HYPHAFS_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))}
}

func text(name, usage string) cli.Flag {
	return &cli.StringFlag{Name: name, Usage: usage, EnvVars: env(name)}
}

func list(name, usage string) cli.Flag {
	return &cli.StringSliceFlag{Name: name, Usage: usage, EnvVars: env(name)}
}

func yes(name, usage string) cli.Flag {
	return &cli.BoolFlag{Name: name, Usage: usage, EnvVars: env(name), DisableDefaultText: true}
}

// passphraseFlags say where the passphrase comes from and which node is meant.
func passphraseFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "state", Usage: "where the node lives, in `DIR`", EnvVars: env("state"), DefaultText: "$XDG_DATA_HOME/hyphafs/<domain>"},
		text("domain", "the Hypha's name `D`, salt of the keys"),
		text("passphrase-file", "read the passphrase from the first line of `F`"),
		&cli.IntFlag{Name: "passphrase-fd", Usage: "read the passphrase from the first line of descriptor `N`", EnvVars: env("passphrase-fd"), Value: -1, DefaultText: "asked"},
	}
}

// nodeFlags are those of mount, sign-up and sign-in.
func nodeFlags() []cli.Flag {
	return append(passphraseFlags(),
		&cli.StringFlag{Name: "name", Usage: "this node's name `N`, a memory aid", EnvVars: env("name"), DefaultText: "hyphafs on <hostname>"},
		list("listen", "accept peers at `URL`: tcp://host:port or ws://host:port, port 0 picks one; repeatable"),
		list("peer", "connect to `URL` and stay connected: tcp://host:port, ws://host:port or wss://host; repeatable; those of the first mount are remembered, later ones are for that run"),
		yes("no-discovery", "look for no peers, and listen only where --listen says"),
		yes("allow-clear", "serve peers that do not encrypt: whoever knows the discovery key can then fetch ciphertext"),
		&cli.StringFlag{Name: "log-level", Usage: "debug, info, warn or error", EnvVars: env("log-level"), Value: "info"},
		&cli.StringFlag{Name: "log-format", Usage: "text or json", EnvVars: env("log-format"), Value: "text"},
	)
}

// mountFlags are those of mount.
func mountFlags() []cli.Flag {
	return append(nodeFlags(),
		yes("sign-up", "on a first mount: make a new Hypha, whose origin this node is"),
		yes("sign-in", "on a first mount: become a node of an existing Hypha"),
		&cli.BoolFlag{Name: "foreground", Aliases: []string{"f"}, Usage: "stay, and print \"ready DIR\" when the mount answers", EnvVars: env("foreground"), DisableDefaultText: true},
		yes("allow-other", "let other users use the mount"),
		yes("trust-store", "once, after the state directory was moved or restored: no other machine can have later changes of this node; if one has, its feeds fork"),
		&cli.StringSliceFlag{Name: "o", Usage: "mount `OPTIONS` as in fstab: ro, show_control, allow_other, and any flag as name=value"},
		&cli.DurationFlag{Name: "read-timeout", Usage: "how long a read waits for a block that no peer has", EnvVars: env("read-timeout"), Value: 30 * time.Second},
	)
}

// targetFlags say which running node a command talks to, for those who are not in its mount.
func targetFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{&cli.StringFlag{Name: "state", Usage: "the node that lives in `DIR`", EnvVars: env("state")}}, more...)
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON", DisableDefaultText: true}
}

// setFlag sets a flag given as --name or --name=value, unless the command line or the environment set it before; lists grow.
func setFlag(c *cli.Context, flag string) error {
	name, value, ok := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
	if !ok {
		value = "true"
	}
	if c.IsSet(name) && c.StringSlice(name) == nil {
		return nil
	}
	if err := c.Set(name, value); err != nil {
		return fault.New(fault.Usage, "see hyphafs "+c.Command.Name+" --help", "option %s: %w", name, err)
	}
	return nil
}
