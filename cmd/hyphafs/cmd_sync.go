package main

import (
	"github.com/urfave/cli/v2"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/node"
)

func (p *program) syncCommand() *cli.Command {
	return &cli.Command{
		Name: "sync", Usage: "publish everything now and make it durable",
		ArgsUsage: "[DIR]", Flags: targetFlags(&cli.BoolFlag{Name: "peer", Usage: "wait until a peer has it all", DisableDefaultText: true}),
		Action: func(c *cli.Context) error {
			if c.Bool("peer") {
				return p.fetch(c, node.OpSync, nil, node.ArgPeer)
			}
			return p.fetch(c, node.OpSync, nil)
		},
	}
}
