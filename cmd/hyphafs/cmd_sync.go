package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/node"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/status"
)

// patience is how long sync --peer waits before it says what for.
const patience = 3 * time.Second

func (p *program) syncCommand() *cli.Command {
	return &cli.Command{
		Name: "sync", Usage: "publish everything now and make it durable",
		ArgsUsage: "[DIR]", Flags: targetFlags(&cli.BoolFlag{Name: "peer", Usage: "wait until a peer has it all", DisableDefaultText: true}),
		Action: func(c *cli.Context) error {
			if !c.Bool("peer") {
				return p.fetch(c, node.OpSync, nil)
			}
			ctx, done := context.WithCancel(c.Context)
			var telling sync.WaitGroup
			telling.Go(func() { p.tellWaiting(ctx, c) })
			err := p.fetch(c, node.OpSync, nil, node.ArgPeer)
			done()
			telling.Wait()
			return err
		},
	}
}

// tellWaiting says on standard error that there is no peer to take anything, if ctx lasts.
func (p *program) tellWaiting(ctx context.Context, c *cli.Context) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(patience):
	}
	var s status.Status
	if err := p.fetch(c, node.OpStatus, &s); err != nil || ctx.Err() != nil || len(s.Peers) > 0 {
		return // sync meets the same error, or a peer is at it
	}
	why := "no --peer was given, and none came"
	if len(s.Unconnected) > 0 {
		why = status.Printable(s.Unconnected[0].URL + ": " + s.Unconnected[0].Reason)
	}
	fmt.Fprintf(p.stderr, "hyphafs: waiting for a peer, none is connected (%s); see hyphafs status\n", why)
}
