package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/mounts"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
)

// Lock takes a state directory for this process; Busy if another one has it.
func Lock(d state.Dir) (*state.Lock, error) {
	lock, err := d.Lock()
	if errors.Is(err, state.ErrLocked) {
		next := "wait for it, or stop it"
		if all, listErr := mounts.List(); listErr == nil {
			for _, m := range all {
				if m.State == string(d) {
					next = "it is mounted at " + m.Dir + ", use that or hyphafs umount it"
				}
			}
		}
		return nil, fault.New(fault.Busy, next, "the node in %w", err)
	}
	return lock, err
}

// CleanDead removes a mount whose node died; Busy if a node still answers there.
func CleanDead(ctx context.Context, dir string) error {
	if !mounts.Dead(dir) {
		return fault.New(fault.Busy, "stop the node, or try again", "the mount at %s still answers", dir)
	}
	err := unix.Unmount(dir, unix.MNT_DETACH)
	if errors.Is(err, unix.EPERM) && os.Getuid() != 0 {
		var out []byte
		out, err = exec.CommandContext(ctx, "fusermount3", "-uz", "--", dir).CombinedOutput()
		if err != nil && len(out) > 0 {
			err = fmt.Errorf("%s", out)
		}
	}
	if err != nil {
		return fault.New(fault.Busy, "unmount it with fusermount3 -uz "+dir, "cleaning the dead mount at %s: %w", dir, err)
	}
	return nil
}
