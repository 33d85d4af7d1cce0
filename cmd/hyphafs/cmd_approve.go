package main

import (
	"github.com/urfave/cli/v2"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/node"
)

func (p *program) approveCommand() *cli.Command {
	return &cli.Command{
		Name: "approve", Usage: "let a node that asks write; it is durable when the command returns",
		ArgsUsage: "NODE [DIR]", Flags: targetFlags(), Action: func(c *cli.Context) error { return p.answer(c, node.OpApprove) },
	}
}

func (p *program) denyCommand() *cli.Command {
	return &cli.Command{
		Name: "deny", Usage: "refuse a node that asks, now and later",
		ArgsUsage: "NODE [DIR]", Flags: targetFlags(), Action: func(c *cli.Context) error { return p.answer(c, node.OpDeny) },
	}
}

func (p *program) answer(c *cli.Context, op string) error {
	args, err := arguments(c, 1, 2)
	if err != nil {
		return err
	}
	t, err := p.find(c, append(args[1:], "")[0])
	if err != nil {
		return err
	}
	return t.ask(c.Context, nil, op, args[0])
}
