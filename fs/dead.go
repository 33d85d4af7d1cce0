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

// clear makes dir fit to be mounted on: it must be a directory with nothing mounted on it. Dead mounts of hyphafs, whose node was
// killed, are removed.
func clear(ctx context.Context, dir string, log *slog.Logger) error {
	for range 16 {
		m, mounted := mountOf(dir)
		var st unix.Stat_t
		err := unix.Stat(dir, &st)
		if err == nil && mounted && m.fsType == fuseType {
			// The kernel may still know the root's attributes; it never answers statfs by itself.
			err = unix.Statfs(dir, new(unix.Statfs_t))
		}
		dead := errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED)
		switch {
		case dead && mounted && m.fsType == fuseType:
			log.Warn("removing the dead mount of a node that was killed", "path", dir)
			if err := unmount(ctx, dir, 0); err == nil {
				continue
			}
			if err := unmount(ctx, dir, unix.MNT_DETACH); err != nil {
				return fmt.Errorf("dead mount cannot be removed: %w", err)
			}
		case dead:
			return fmt.Errorf("%w, and its server is dead: %s (%s); unmount it first", ErrMounted, m.source, m.fsType)
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

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line
}
