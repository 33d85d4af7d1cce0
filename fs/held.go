package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// HeldError says that a mount was taken away from its directory while other mount namespaces (containers, services, unshare(1)) had it, too.
type HeldError struct {
	Holders []string // a process of each namespace, such as "process 4711 (bash)"; only those this process may see
	Cut     bool     // it is gone there already; else it goes when this process ends
}

func (e *HeldError) Error() string {
	by := "other mount namespaces"
	if len(e.Holders) > 0 {
		by = "the mount namespace of " + strings.Join(e.Holders, ", ")
	}
	if !e.Cut {
		return "it was mounted in " + by + " as well, where it fails from the end of this process on"
	}
	return "it was mounted in " + by + " as well, where it fails from now on"
}

// maxHolders is how many mount namespaces a message names.
const maxHolders = 4

// holders names a process of each mount namespace that has the file system with that device number.
func holders(device uint64) (found []string) {
	tables, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil || device == 0 {
		return nil
	}
	var seen []string
	for _, path := range tables {
		proc := filepath.Dir(path)
		space, err := os.Readlink(filepath.Join(proc, "ns/mnt"))
		if err != nil || slices.Contains(seen, space) {
			continue // it has ended, is another user's, or one like it was looked at
		}
		seen = append(seen, space)
		text, err := os.ReadFile(path)
		if err != nil || !slices.ContainsFunc(parseMountinfo(string(text)), func(m mountpoint) bool { return m.device == device }) {
			continue
		}
		name, err := os.ReadFile(filepath.Join(proc, "comm"))
		if err != nil {
			continue
		}
		if found = append(found, fmt.Sprintf("process %s (%s)", filepath.Base(proc), firstLine(name))); len(found) == maxHolders {
			break
		}
	}
	return found
}

// abort cuts the connection of the mount with that device number by fusectl (Documentation/filesystems/fuse.rst): every waiting and later request fails. Who mounted may
// do that, and root.
func abort(device uint64) error {
	if device == 0 {
		return errors.New("number of the connection is not known")
	}
	name := filepath.Join(strconv.FormatUint(uint64(unix.Minor(device)), 10), "abort")
	err := os.WriteFile(filepath.Join("/sys/fs/fuse/connections", name), []byte("1"), 0)
	if errors.Is(err, syscall.ENOENT) { // fusectl is not mounted there
		return abortDetached(name)
	}
	return err
}

// abortDetached is abort through a fusectl of our own, which is mounted nowhere. Only root may have one.
func abortDetached(name string) error {
	control, err := unix.Fsopen("fusectl", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(control)
	if err := unix.FsconfigCreate(control); err != nil {
		return os.NewSyscallError("fsconfig", err)
	}
	root, err := unix.Fsmount(control, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fsmount", err)
	}
	defer unix.Close(root)
	file, err := unix.Openat(root, name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open "+name, err)
	}
	_, err = unix.Write(file, []byte("1"))
	return errors.Join(os.NewSyscallError("abort", err), unix.Close(file))
}
