package fs

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
)

// mountFlags are the words that are bits of mount(2) and not text; on and off are the bits they set and clear.
var mountFlags = map[string]struct{ on, off uintptr }{
	"ro":         {on: syscall.MS_RDONLY},
	"rw":         {off: syscall.MS_RDONLY},
	"suid":       {off: syscall.MS_NOSUID},
	"nosuid":     {on: syscall.MS_NOSUID},
	"dev":        {off: syscall.MS_NODEV},
	"nodev":      {on: syscall.MS_NODEV},
	"exec":       {off: syscall.MS_NOEXEC},
	"noexec":     {on: syscall.MS_NOEXEC},
	"sync":       {on: syscall.MS_SYNCHRONOUS},
	"dirsync":    {on: syscall.MS_DIRSYNC},
	"noatime":    {on: syscall.MS_NOATIME},
	"nodiratime": {on: syscall.MS_NODIRATIME},
	"relatime":   {on: syscall.MS_RELATIME},
}

// forMount are words of fstab that mean something to mount(8) and systemd only.
var forMount = []string{"defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "async", "atime"}

// parse folds the words of -o into o and splits the rest as go-fuse wants it: text for the kernel or fusermount3, and,
// for a mount(2) of our own, bits. Without other words a mount is nosuid and nodev, as fusermount3 makes them.
func (o *Options) parse() (extra []string, flags uintptr, err error) {
	flags = syscall.MS_NOSUID | syscall.MS_NODEV
	extra = []string{"default_permissions"}
	words := o.MountOptions
	if o.ReadOnly {
		words = append(slices.Clone(words), "ro")
	}
	for _, word := range words {
		bit, isBit := mountFlags[word]
		name, value, _ := strings.Cut(word, "=")
		switch {
		case isBit:
			flags = flags&^bit.off | bit.on
			if os.Geteuid() != 0 {
				extra = append(extra, word)
			}
			o.ReadOnly = flags&syscall.MS_RDONLY != 0
		case word == "allow_other":
			o.AllowOther = true
		case word == "show_control":
			o.ShowControl = true
		case name == "fsname" && value != "":
			o.FsName = value
		case word == "", word == "default_permissions", slices.Contains(forMount, word),
			strings.HasPrefix(word, "x-"), strings.HasPrefix(word, "comment="):
		case name == "context" || name == "fscontext" || name == "defcontext" || name == "rootcontext":
			extra = append(extra, word)
		default:
			return nil, 0, fmt.Errorf("%w %q", ErrOption, word)
		}
	}
	return extra, flags, nil
}
