package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/prompt"
)

// program is what one run of the command line has to work with.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	terminal       prompt.Terminal
}

// run does what args say and returns the exit code. An error is one line on stderr.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, getenv: os.Getenv, terminal: prompt.New(stdin, stderr)}
	if len(args) > 0 && filepath.Base(args[0]) == "mount.hyphafs" {
		var err error
		if args, err = fromFstab(args); err != nil {
			return p.ended(err)
		}
	}
	app := p.app()
	return p.ended(app.RunContext(ctx, reorder(app, args)))
}

// ended reports err and turns it into the exit code.
func (p *program) ended(err error) int {
	if err == nil {
		return int(fault.Done)
	}
	if errors.Is(err, context.Canceled) {
		err = fault.New(fault.CodeOf(err), "", "interrupted")
	}
	if line := fault.OneLine(err.Error()); line != "" {
		fmt.Fprintf(p.stderr, "hyphafs: %s\n", line)
	}
	return int(fault.CodeOf(err))
}

func (p *program) app() *cli.App {
	return &cli.App{
		Name:            "hyphafs",
		Usage:           "your own database, spread over your own machines, as a folder",
		UsageText:       "hyphafs COMMAND [flags] [DIR]",
		Version:         version(),
		Writer:          p.stdout,
		ErrWriter:       p.stderr,
		HideHelpCommand: false,
		ExitErrHandler:  func(*cli.Context, error) {}, // run decides
		OnUsageError:    usageError,
		CommandNotFound: func(*cli.Context, string) {},
		Action:          p.noCommand,
		Commands: prepare([]*cli.Command{
			p.mountCommand(), p.umountCommand(), p.signUpCommand(), p.signInCommand(), p.syncCommand(), p.statusCommand(), p.pendingCommand(),
			p.approveCommand(), p.denyCommand(), p.nodesCommand(), p.linkCommand(), p.serveCommand(), p.serviceCommand(), p.checkCommand(), p.passphraseCommand(), p.nodeCommand(),
		}),
	}
}

// prepare gives all commands what they share.
func prepare(commands []*cli.Command) []*cli.Command {
	for _, c := range commands {
		c.OnUsageError = usageError
		c.HideHelpCommand = true
	}
	return commands
}

func usageError(c *cli.Context, err error, _ bool) error {
	next := "see hyphafs help"
	if c != nil && c.Command != nil && c.Command.Name != "" && c.Command.Name != "hyphafs" {
		next = "see hyphafs " + c.Command.Name + " --help"
	}
	return fault.New(fault.Usage, next, "%w", err)
}

func (p *program) noCommand(c *cli.Context) error {
	if name := c.Args().First(); name != "" {
		return fault.New(fault.Usage, "see hyphafs help", "there is no command %q", name)
	}
	return cli.ShowAppHelp(c)
}

// version is the module's version, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return info.Main.Version
}

// reorder moves flags that stand behind arguments in front of them, since people type `hyphafs status DIR --json`. What follows "--" stays.
func reorder(app *cli.App, args []string) []string {
	at := slices.IndexFunc(args[min(1, len(args)):], func(a string) bool { return !strings.HasPrefix(a, "-") }) + 1
	if at == 0 {
		return args
	}
	command := app.Command(args[at])
	if command == nil {
		return args
	}
	if at+1 < len(args) && len(command.Subcommands) > 0 {
		for _, sub := range command.Subcommands {
			if sub.HasName(args[at+1]) {
				command, at = sub, at+1
				break
			}
		}
	}
	takesValue := map[string]bool{}
	for _, f := range command.Flags {
		_, isBool := f.(*cli.BoolFlag)
		for _, name := range f.Names() {
			takesValue[name] = !isBool
		}
	}
	var flags, rest []string
	for i := at + 1; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--":
			rest = append(rest, args[i+1:]...)
			i = len(args)
		case !strings.HasPrefix(a, "-") || a == "-":
			rest = append(rest, a)
		default:
			flags = append(flags, a)
			if !strings.Contains(a, "=") && takesValue[strings.TrimLeft(a, "-")] && i+1 < len(args) {
				i++
				flags = append(flags, args[i])
			}
		}
	}
	return slices.Concat(args[:at+1], flags, []string{"--"}, rest)
}

// arguments returns exactly what a command takes: at least least, at most most.
func arguments(c *cli.Context, least, most int) ([]string, error) {
	args := c.Args().Slice()
	switch {
	case len(args) < least:
		return nil, usageError(c, fmt.Errorf("%s needs %s", c.Command.Name, c.Command.ArgsUsage), false)
	case len(args) > most:
		return nil, usageError(c, fmt.Errorf("%s does not take %q", c.Command.Name, args[most]), false)
	}
	return args, nil
}
