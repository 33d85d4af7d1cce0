package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/control"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/mounts"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
	"hyphafs.org/hyphafs/fs"
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

// How long a process that was killed may take to end: by itself, and once its mount is cut off.
const (
	endTime = time.Second
	cutTime = 10 * time.Second
)

// CleanDead removes a mount whose node died. If the node was killed and the kernel holds one of its threads, it is cut off first, and ends. Busy, with fs.ErrMounted, if a node still answers
// there, and Busy if one may.
func CleanDead(ctx context.Context, m mounts.Mount) error {
	if pid, killed := control.Killed(state.Dir(m.State).Socket()); killed {
		if err := cutOff(ctx, m, pid); err != nil {
			return err
		}
	}
	switch err := fs.ClearDead(ctx, m.Dir, ""); {
	case errors.Is(err, fs.ErrMounted):
		return fault.New(fault.Busy, "stop the node, or try again", "the mount at %s still answers: %w", m.Dir, fs.ErrMounted)
	case errors.Is(err, fs.ErrSilent):
		return fault.New(fault.Busy, "see what the node in "+m.State+" does", "the mount at %s does not answer", m.Dir)
	case err != nil:
		return fault.New(fault.Busy, "unmount it with fusermount3 -uz "+m.Dir, "cleaning the dead mount at %s: %w", m.Dir, err)
	}
	return nil
}

// cutOff lets the process of a node end that was killed. As long as it is there it has its state directory locked, so the mount cannot be another one's.
func cutOff(ctx context.Context, m mounts.Mount, pid int) error {
	process, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watching the node that was killed (pid %d): %w", pid, err)
	}
	if !endsWithin(ctx, process, endTime) {
		if err = fs.ClearDead(ctx, m.Dir, m.State); err != nil {
			err = fault.New(fault.Busy, "run umount -f -l "+m.Dir+" as root", "the node that was killed (pid %d) is held by its mount at %s: %w", pid, m.Dir, err)
		} else if !endsWithin(ctx, process, cutTime) {
			err = fault.New(fault.Busy, "wait for it, or restart the machine", "the node that was killed (pid %d) does not end", pid)
		}
	}
	return errors.Join(err, unix.Close(process))
}

func endsWithin(ctx context.Context, process int, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return AwaitEnd(ctx, process) == nil
}

// AwaitEnd returns when the process behind a pidfd has ended, or with ctx's error.
func AwaitEnd(ctx context.Context, process int) error {
	for {
		fds := []unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 200) // ms; in between, an interrupt is noticed
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return os.NewSyscallError("poll", err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}
