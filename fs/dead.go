package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxMountinfo bounds what is read of /proc/self/mountinfo, in bytes.
const maxMountinfo = 16 << 20

// mountpoint is a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mountpoint struct {
	dir, fsType, source string
	device              uint64 // as st_dev
}

// parseMountinfo returns the mounts in text, oldest first. Lines that are not understood are left out.
func parseMountinfo(text string) []mountpoint {
	var all []mountpoint
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		for i := 6; i+2 < len(fields); i++ {
			if fields[i] != "-" {
				continue
			}
			major, minor, _ := strings.Cut(fields[2], ":")
			a, errA := strconv.ParseUint(major, 10, 32)
			b, errB := strconv.ParseUint(minor, 10, 32)
			if errA == nil && errB == nil {
				all = append(all, mountpoint{dir: unescape(fields[4]), fsType: fields[i+1], source: unescape(fields[i+2]), device: unix.Mkdev(uint32(a), uint32(b))})
			}
			break
		}
	}
	return all
}

// unescape undoes the octal escapes of mountinfo: \040 space, \011 tab, \012 newline, \134 backslash.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountOf returns the topmost mount on exactly dir.
func mountOf(dir string) (mountpoint, bool) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return mountpoint{}, false
	}
	defer f.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(io.LimitReader(f, maxMountinfo)); err != nil {
		return mountpoint{}, false
	}
	all := parseMountinfo(text.String())
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].dir == dir {
			return all[i], true
		}
	}
	return mountpoint{}, false
}

// isMount says whether something is mounted on dir.
func isMount(dir string) bool {
	_, ok := mountOf(dir)
	return ok
}

// answerTime is how long a mount has to answer, which one whose server lives does at once.
const answerTime = 10 * time.Second

// look is stat(2) of dir and, of a mount of ours, statfs(2): the kernel may still know the root's attributes, but never answers that by itself. Both may hang with the server: that
// is ErrSilent, and the thread which asked is the kernel's until the mount is gone or this process ends.
func look(ctx context.Context, dir string, ours bool) (unix.Stat_t, error) {
	type answer struct {
		st  unix.Stat_t
		err error
	}
	said := make(chan answer, 1)
	go func() { // waited for below, if that can be
		var a answer
		if a.err = unix.Stat(dir, &a.st); a.err == nil && ours {
			a.err = unix.Statfs(dir, new(unix.Statfs_t))
		}
		said <- a
	}()
	soon, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	select {
	case a := <-said:
		return a.st, a.err
	case <-soon.Done():
		return unix.Stat_t{}, errors.Join(ErrSilent, ctx.Err())
	}
}

// ClearDead removes the mounts of hyphafs from dir whose servers are dead; nothing is mounted on it then. That a server is dead the kernel says once its last thread is gone; while one cannot
// end the mount hangs, and only who knows its process can tell. So killed may name the source (Options.FsName) of a mount whose server is known to have been killed:
// that is cut off first, whereupon the process ends. Errors: ErrMounted if something else is mounted on dir, ErrSilent if that does not answer in ten seconds.
func ClearDead(ctx context.Context, dir, killed string) error {
	return clear(ctx, dir, killed, slog.New(slog.DiscardHandler))
}

// clear makes dir fit to be mounted on: it must be a directory with nothing mounted on it, but for what ClearDead removes.
func clear(ctx context.Context, dir, killed string, log *slog.Logger) error {
	for range 16 {
		m, mounted := mountOf(dir)
		ours := mounted && m.fsType == fuseType
		if ours && killed != "" && m.source == killed {
			log.Warn("cutting off the mount of a node that was killed", "path", dir)
			if err := force(ctx, m); err != nil {
				return fmt.Errorf("mount of a killed node cannot be cut off: %w", err)
			}
			continue
		}
		st, err := look(ctx, dir, ours)
		dead := errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED)
		switch {
		case dead && ours:
			log.Warn("removing the dead mount of a node that was killed", "path", dir)
			if err := unmount(ctx, dir, 0); err == nil {
				continue
			}
			if err := unmount(ctx, dir, unix.MNT_DETACH); err != nil {
				return fmt.Errorf("dead mount cannot be removed: %w", err)
			}
		case dead:
			return fmt.Errorf("%w, and its server is dead: %s (%s); unmount it first", ErrMounted, m.source, m.fsType)
		case err != nil && mounted && errors.Is(err, ErrSilent):
			return fmt.Errorf("%w: %s (%s); see what its server does, or take another directory", err, m.source, m.fsType)
		case err != nil:
			return os.NewSyscallError("stat", err)
		case mounted:
			return fmt.Errorf("%w: %s (%s); unmount it first, or take another directory", ErrMounted, m.source, m.fsType)
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return syscall.ENOTDIR
		default:
			return nil
		}
	}
	return fmt.Errorf("%w: too many dead mounts, one upon the other", ErrMounted)
}

// force cuts a mount off, so that every request fails that waits for its server, and takes it away. fusermount3 does not cut.
func force(ctx context.Context, m mountpoint) error {
	err := unix.Unmount(m.dir, unix.MNT_FORCE|unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, syscall.EPERM) {
		if err := abort(m.device); err != nil {
			return err
		}
		return unmount(ctx, m.dir, unix.MNT_DETACH)
	}
	return os.NewSyscallError("umount", err)
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line
}
