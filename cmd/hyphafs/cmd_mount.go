package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/background"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/mounts"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/node"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
	"hyphafs.org/hyphafs/fs"
)

func (p *program) mountCommand() *cli.Command {
	return &cli.Command{
		Name: "mount", Usage: "mount a Hypha; asks for what it needs on a terminal",
		ArgsUsage: "DIR", Flags: mountFlags(), Action: p.mount,
	}
}

func (p *program) mount(c *cli.Context) error {
	args, err := arguments(c, 1, 1)
	if err != nil {
		return err
	}
	opts, err := parseOptions(c.StringSlice("o"))
	if err != nil {
		return err
	}
	for _, flag := range opts.flags {
		if err := setFlag(c, flag); err != nil {
			return err
		}
	}
	dir, err := mountPoint(c.Context, args[0])
	if err != nil {
		return err
	}
	s, err := p.settings(c.Context, c, "")
	if err != nil {
		return err
	}
	if err := mayCover(dir, s.State); err != nil {
		return err
	}
	if names, err := os.ReadDir(dir); err == nil && len(names) > 0 {
		fmt.Fprintf(p.stderr, "hyphafs: %s is not empty; what is in it is hidden until it is unmounted\n", args[0])
	}
	s.Mount, s.ReadOnly, s.ShowControl, s.Options = dir, opts.readOnly, opts.showControl, opts.kernel
	return p.withPassphrase(c, s, func(pass []byte) error {
		if c.Bool("foreground") {
			return node.Run(c.Context, s, pass, p.stderr, &foreground{p: p, shown: args[0]})
		}
		return p.inBackground(c.Context, s, pass)
	})
}

// inBackground starts the node that s describes and returns when it is ready.
func (p *program) inBackground(ctx context.Context, s node.Settings, pass []byte) error {
	if err := s.State.Make(); err != nil {
		return err
	}
	err := background.Start(ctx, []string{"hyphafs", "node", s.Mount}, s, pass, s.State.Log(), p.say)
	if err != nil && s.New {
		s.State.Abandon()
	}
	return err
}

// say shows a line to the person.
func (p *program) say(line string) { fmt.Fprintln(p.stdout, line) }

// mountPoint returns dir as an absolute path that can be mounted on.
func mountPoint(ctx context.Context, dir string) (string, error) {
	real, err := mounts.Real(dir)
	if err != nil {
		return "", err
	}
	all, err := mounts.List()
	if err != nil {
		return "", err
	}
	if m, ok := mounts.Find(all, real); ok && m.Dir == real {
		err := node.CleanDead(ctx, m)
		if errors.Is(err, fs.ErrMounted) {
			return "", fault.New(fault.Busy, "use it, or unmount it with hyphafs umount "+dir, "%s is mounted already, by the node in %s", dir, m.State)
		}
		if err != nil {
			return "", err
		}
	}
	info, err := os.Stat(real)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fault.New(fault.Failed, "make it with mkdir "+dir, "there is no folder %s", dir)
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", fault.New(fault.Failed, "take another name", "%s is not a folder", dir)
	}
	return real, nil
}

// mayCover refuses a mount on dir that would hide the node's own state: the node would wait for itself.
func mayCover(dir string, d state.Dir) error {
	real, err := mounts.Real(string(d))
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(dir, real); err == nil && filepath.IsLocal(rel) {
		return fault.New(fault.Usage, "mount another folder, or say another --state", "the state directory %s lies in %s and would be hidden by the mount", d, dir)
	}
	return nil
}

// foreground tells the person at the terminal what a node says.
type foreground struct {
	p     *program
	shown string
}

func (f *foreground) Say(line string) { f.p.say(line) }
func (f *foreground) Ready()          { f.p.say("ready " + f.shown) }

// nodeCommand is what mount runs in the background. People do not call it.
func (p *program) nodeCommand() *cli.Command {
	return &cli.Command{Name: "node", Hidden: true, ArgsUsage: "DIR", Action: func(c *cli.Context) error {
		var s node.Settings
		tell, pass, err := background.Inherited(&s)
		if err != nil {
			return fault.New(fault.Usage, "use hyphafs mount", "node is run by mount: %w", err)
		}
		defer clear(pass)
		err = node.Run(c.Context, s, pass, p.stderr, tell)
		if err != nil && tell.Fail(err) {
			return &fault.Error{Code: fault.CodeOf(err)}
		}
		return err
	}}
}

func (p *program) signUpCommand() *cli.Command {
	return &cli.Command{
		Name: "sign-up", Usage: "make a new Hypha on this node, its origin, without mounting",
		Flags: nodeFlags(), Action: func(c *cli.Context) error { return p.sign(c, state.SignUp) },
	}
}

func (p *program) signInCommand() *cli.Command {
	return &cli.Command{
		Name: "sign-in", Usage: "make this machine a node of an existing Hypha, without mounting",
		Flags: nodeFlags(), Action: func(c *cli.Context) error { return p.sign(c, state.SignIn) },
	}
}

func (p *program) sign(c *cli.Context, role state.Role) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	s, err := p.settings(c.Context, c, role)
	if err != nil {
		return err
	}
	return p.withPassphrase(c, s, func(pass []byte) error { return node.Sign(c.Context, s, pass, p.stderr, p.say) })
}
