package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"hyphafs.org/hyphafs/drive"
)

// Server is a mount that answers. Safe for concurrent use.
type Server struct {
	dir    string
	device uint64 // st_dev of the mount: minor number names its fusectl connection
	kernel *fuse.Server
	log    *slog.Logger
	queue  *invalidations

	ended   chan struct{}  // closed when the kernel ended the session
	workers sync.WaitGroup // the serving and the invalidating goroutine; closed by Close and Wait

	mu        sync.Mutex
	unmounted bool // nothing of ours is mounted on dir any more; guarded by mu
}

func newServer(dir string, kernel *fuse.Server, queue *invalidations, log *slog.Logger) *Server {
	s := &Server{dir: dir, kernel: kernel, log: log, ended: make(chan struct{}), queue: queue}
	queue.kernel = kernel
	s.workers.Go(func() {
		defer close(s.ended)
		defer s.queue.stop()
		kernel.Serve()
	})
	s.workers.Go(queue.run)
	return s
}

// Dir is the absolute path of the mount.
func (s *Server) Dir() string { return s.dir }

// Done is closed when the mount is gone, by whomever.
func (s *Server) Done() <-chan struct{} { return s.ended }

// Wait returns nil when the mount is gone and nothing of it runs any more, or ctx's error.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case <-s.ended:
	case <-ctx.Done():
		select {
		case <-s.ended: // often why ctx ended, too
		default:
			return ctx.Err()
		}
	}
	s.workers.Wait()
	return nil
}

// Changed tells the kernel what peers changed. It never blocks and may be called with locks held: a goroutine of the
// server does the work in the order of the calls. changes stays the caller's.
func (s *Server) Changed(changes []drive.Change) { s.queue.add(changes) }

// Settled returns when every change given to Changed before it is known to the kernel, or with ctx's error.
func (s *Server) Settled(ctx context.Context) error { return s.queue.settled(ctx) }

// Unmount removes the mount and waits until it is gone. ErrBusy while files are open or somebody's current directory is
// inside: then nothing has changed and the mount goes on. If other mount namespaces hold the mount, which the kernel does not count as use, it is cut off there: a
// *HeldError says so, and that it is gone or goes with this process. A second Unmount returns nil.
func (s *Server) Unmount(ctx context.Context) error {
	if err := s.detach(ctx, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", s.dir, err)
	}
	if err := s.leave(context.WithoutCancel(ctx)); err != nil { // half-way is no place to stop, and it does not take long
		return fmt.Errorf("unmount %s: %w", s.dir, err)
	}
	return nil
}

// leaveTime is how long a mount that was in nobody's use may take to end. The kernel ends it at once, unless another mount namespace holds it: that may do so for ever.
const leaveTime = 3 * time.Second

// leave waits for the end of a mount that was taken away while nobody used it, and cuts it off where others hold it.
func (s *Server) leave(ctx context.Context) error {
	soon, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	if s.Wait(soon) == nil {
		return nil
	}
	held := &HeldError{Holders: holders(s.device)}
	if err := abort(s.device); err != nil {
		s.log.Info("the mount cannot be cut off; it ends with this process", "path", s.dir, "err", err)
		return held
	}
	held.Cut = true
	if err := s.Wait(ctx); err != nil {
		return err
	}
	return held
}

// Close ends the mount: it unmounts; if that is refused because the mount is busy it takes it out of the tree of names, lets open files
// go on until ctx ends, and then cuts them off. Where the kernel gives no way to cut (no right to it) Close returns ErrBusy
// and the rest ends with this process, which holds the device: what was open then fails with ENOTCONN. Other mount namespaces that hold the mount are a *HeldError, as with Unmount.
func (s *Server) Close(ctx context.Context) error {
	err := s.detach(ctx, 0)
	if err == nil {
		if err := s.leave(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("close mount %s: %w", s.dir, err)
		}
		return nil
	}
	s.log.Warn("mount is in use; waiting for its files to be closed", "path", s.dir, "err", err)
	if err := s.detach(context.WithoutCancel(ctx), unix.MNT_DETACH); err != nil {
		return fmt.Errorf("close mount %s: %w", s.dir, err)
	}
	if s.Wait(ctx) == nil {
		return nil
	}
	if err := abort(s.device); err != nil {
		return fmt.Errorf("close mount %s: %w: %w", s.dir, ErrBusy, err)
	}
	return s.Wait(context.WithoutCancel(ctx))
}

// detach takes the mount away from its directory, with fusermount3 where we may not do it ourselves.
func (s *Server) detach(ctx context.Context, flags int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ended:
		s.unmounted = true
	default:
	}
	if s.unmounted {
		return nil
	}
	if err := unmount(ctx, s.dir, flags); err != nil {
		return err
	}
	s.unmounted = true
	return nil
}

// unmount is umount2(2), or fusermount3 for an ordinary user. flags is 0 or MNT_DETACH.
func unmount(ctx context.Context, dir string, flags int) error {
	err := unix.Unmount(dir, flags|unix.UMOUNT_NOFOLLOW)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EBUSY):
		return ErrBusy
	case errors.Is(err, syscall.EINVAL) && !isMount(dir): // others took it away
		return nil
	case !errors.Is(err, syscall.EPERM):
		return os.NewSyscallError("umount", err)
	}
	how := "-u"
	if flags&unix.MNT_DETACH != 0 {
		how = "-uz"
	}
	out, err := exec.CommandContext(ctx, "fusermount3", how, "--", dir).CombinedOutput()
	if err == nil {
		return nil
	}
	if line := firstLine(out); line != "" {
		err = fmt.Errorf("%s: %w", line, err)
	}
	if m, ok := mountOf(dir); ok && m.fsType == fuseType {
		return errors.Join(ErrBusy, err)
	}
	return err
}
