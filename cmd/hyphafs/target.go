package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/control"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/mounts"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
)

// target is the running node that a command talks to.
type target struct {
	state state.Dir
	mount string // where it is mounted, if the kernel's table says so
}

// ask does one request at the target and decodes the answer into out.
func (t target) ask(ctx context.Context, out any, op string, args ...string) error {
	err := control.Do(ctx, t.state.Socket(), control.Request{Op: op, Args: args}, out)
	if !errors.Is(err, control.ErrNobody) {
		return err
	}
	if t.mount != "" {
		return fault.New(fault.NotRunning, "mount it again, or clean it with hyphafs umount", "the node of %s is dead", t.mount)
	}
	return fault.New(fault.NotRunning, "mount it", "no node runs in %s", t.state)
}

// find returns the node that dir (a folder in a mount, or a state directory), --state, the working directory or, if there is
// just one, the list of mounts means.
func (p *program) find(c *cli.Context, dir string) (target, error) {
	all, err := mounts.List()
	if err != nil {
		return target{}, err
	}
	switch {
	case dir != "":
		return inMount(all, dir)
	case c.String("state") != "":
		return inState(all, c.String("state"))
	}
	if cwd, err := os.Getwd(); err == nil {
		if m, ok := mounts.Find(all, cwd); ok {
			return target{state: state.Dir(m.State), mount: m.Dir}, nil
		}
	}
	return only(all)
}

func inMount(all []mounts.Mount, dir string) (target, error) {
	real, err := mounts.Real(dir)
	if err != nil {
		return target{}, err
	}
	if m, ok := mounts.Find(all, real); ok {
		return target{state: state.Dir(m.State), mount: m.Dir}, nil
	}
	if _, err := state.Dir(real).Config(); err == nil {
		return inState(all, real)
	}
	return target{}, fault.New(fault.NotRunning, "mount it with hyphafs mount "+dir, "nothing of hyphafs is mounted at %s", dir)
}

func inState(all []mounts.Mount, dir string) (target, error) {
	d, err := state.At(dir)
	if err != nil {
		return target{}, err
	}
	for _, m := range all {
		if m.State == string(d) {
			return target{state: d, mount: m.Dir}, nil
		}
	}
	return target{state: d}, nil
}

// only returns the one node among all that this user can talk to.
func only(all []mounts.Mount) (target, error) {
	var mine []mounts.Mount
	var names []string
	for _, m := range all {
		if _, err := os.Stat(filepath.Join(m.State, "config.json")); err == nil {
			mine, names = append(mine, m), append(names, m.Dir)
		}
	}
	switch len(mine) {
	case 0:
		return target{}, fault.New(fault.NotRunning, "mount one with hyphafs mount DIR", "no node is mounted")
	case 1:
		return target{state: state.Dir(mine[0].State), mount: mine[0].Dir}, nil
	}
	return target{}, fault.New(fault.Usage, "say which one you mean", "several nodes are mounted: %s", strings.Join(names, ", "))
}
