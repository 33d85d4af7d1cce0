package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/control"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/mounts"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/node"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
)

func (p *program) umountCommand() *cli.Command {
	return &cli.Command{
		Name: "umount", Aliases: []string{"unmount"}, Usage: "publish, flush, unmount and wait for the node to end",
		ArgsUsage: "DIR", Action: p.umount,
	}
}

func (p *program) umount(c *cli.Context) error {
	args, err := arguments(c, 1, 1)
	if err != nil {
		return err
	}
	all, err := mounts.List()
	if err != nil {
		return err
	}
	real, err := mounts.Real(args[0])
	if err != nil {
		return err
	}
	m, ok := mounts.Find(all, real)
	if !ok || m.Dir != real {
		return fault.New(fault.NotRunning, "see findmnt -t "+mounts.Type, "nothing of hyphafs is mounted at %s", args[0])
	}
	socket := state.Dir(m.State).Socket()
	pid, err := control.PID(socket)
	if errors.Is(err, control.ErrNobody) {
		return node.CleanDead(c.Context, m)
	}
	if err != nil {
		return err
	}
	process, err := unix.PidfdOpen(pid, 0) // before it is asked to end: its pid cannot be another's yet
	if err != nil {
		return fmt.Errorf("watching the node (pid %d): %w", pid, err)
	}
	var note string
	err = control.Do(c.Context, socket, control.Request{Op: node.OpStop}, &note)
	if err == nil {
		err = node.AwaitEnd(c.Context, process)
	}
	if err == nil && note != "" {
		fmt.Fprintln(p.stderr, "hyphafs: "+fault.OneLine(note))
	}
	return errors.Join(err, unix.Close(process))
}
