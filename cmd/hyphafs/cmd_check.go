package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/control"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/node"
)

func (p *program) checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "verify every signature, tree, record and the view; exit 1 when something is wrong",
		ArgsUsage: "[DIR]", Flags: append(passphraseFlags(),
			&cli.StringFlag{Name: "log-level", Usage: "debug, info, warn or error", EnvVars: env("log-level"), Value: "warn"},
			&cli.StringFlag{Name: "log-format", Usage: "text or json", EnvVars: env("log-format"), Value: "text"}),
		Action: p.check,
	}
}

// check asks the node if it runs, since it has the lock and the keys; else it opens the store itself.
func (p *program) check(c *cli.Context) error {
	args, err := arguments(c, 0, 1)
	if err != nil {
		return err
	}
	if len(args) == 1 {
		t, err := p.find(c, args[0])
		if err != nil && fault.CodeOf(err) != fault.NotRunning {
			return err
		}
		if err != nil {
			return fault.New(fault.NotRunning, "check its store with --state or --domain", "nothing of hyphafs is mounted at %s", args[0])
		}
		if err := setFlag(c, "--state="+string(t.state)); err != nil {
			return err
		}
	}
	s, err := p.settings(c.Context, c, "")
	if err != nil {
		return err
	}
	err = control.Do(c.Context, s.State.Socket(), control.Request{Op: node.OpCheck}, nil)
	if errors.Is(err, control.ErrNobody) {
		err = p.withPassphrase(c, s, func(pass []byte) error { return node.Check(c.Context, s, pass, p.stderr) })
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s is clean\n", s.State)
	return err
}
