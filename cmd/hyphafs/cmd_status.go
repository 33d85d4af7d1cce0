package main

import (
	"encoding/json"
	"fmt"

	"github.com/urfave/cli/v2"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/node"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/status"
)

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show state, peers and progress; exit 0 writable, 3 read-only, 4 not running",
		ArgsUsage: "[DIR]", Flags: targetFlags(jsonFlag()), Action: p.status,
	}
}

func (p *program) status(c *cli.Context) error {
	var s status.Status
	if err := p.fetch(c, node.OpStatus, &s); err != nil {
		return err
	}
	out := s.Text()
	if c.Bool("json") {
		out = s.JSON()
	}
	if _, err := p.stdout.Write(out); err != nil {
		return err
	}
	if !s.Writable {
		return &fault.Error{Code: fault.NotApproved}
	}
	return nil
}

func (p *program) pendingCommand() *cli.Command {
	return &cli.Command{
		Name: "pending", Usage: "list the nodes that ask to be approved, with the words to compare",
		ArgsUsage: "[DIR]", Flags: targetFlags(jsonFlag()),
		Action: func(c *cli.Context) error {
			requests := []status.Request{}
			return p.show(c, node.OpPending, &requests, func() []byte { return status.RequestsText(requests) })
		},
	}
}

func (p *program) nodesCommand() *cli.Command {
	return &cli.Command{
		Name: "nodes", Usage: "list the nodes that may write: name, fingerprint, who approved it, last seen",
		ArgsUsage: "[DIR]", Flags: targetFlags(jsonFlag()),
		Action: func(c *cli.Context) error {
			writers := []status.Writer{}
			return p.show(c, node.OpNodes, &writers, func() []byte { return status.WritersText(writers) })
		},
	}
}

func (p *program) linkCommand() *cli.Command {
	return &cli.Command{
		Name: "link", Usage: "print the hyphalink: who has it can fetch the sealed feeds, and read nothing",
		ArgsUsage: "[DIR]", Flags: targetFlags(),
		Action: func(c *cli.Context) error {
			var s status.Status
			if err := p.fetch(c, node.OpStatus, &s); err != nil {
				return err
			}
			_, err := fmt.Fprintln(p.stdout, s.Hyphalink)
			return err
		},
	}
}

// fetch asks the node that the only argument of c means.
func (p *program) fetch(c *cli.Context, op string, out any, args ...string) error {
	dirs, err := arguments(c, 0, 1)
	if err != nil {
		return err
	}
	t, err := p.find(c, append(dirs, "")[0])
	if err != nil {
		return err
	}
	return t.ask(c.Context, out, op, args...)
}

// show prints what fetch brought into v, as JSON or as text says.
func (p *program) show(c *cli.Context, op string, v any, text func() []byte) error {
	var raw json.RawMessage
	if err := p.fetch(c, op, &raw); err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("the node's answer: %w", err)
	}
	out := text()
	if c.Bool("json") {
		out = status.Indent(v)
	}
	_, err := p.stdout.Write(out)
	return err
}
