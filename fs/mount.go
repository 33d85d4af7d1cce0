package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hyphafs.org/hyphafs/drive/record"
)

// The errors of Mount and Unmount that a caller tells apart. They come wrapped with the directory.
var (
	ErrMounted = errors.New("something is mounted here already")
	ErrSilent  = errors.New("what is mounted here does not answer")
	ErrBusy    = errors.New("mount is in use")
	ErrOption  = errors.New("unknown mount option")
)

// Config is what a mount is made of. Drive is needed; Pending and Control may be nil, then the files they feed are not there.
type Config struct {
	Drive   Drive
	Pending Pending
	Control Control
	Options Options
	Log     *slog.Logger     // nil: nothing is logged
	Now     func() time.Time // nil: time.Now
}

// Options are the choices of the person who mounts.
type Options struct {
	AllowOther   bool     // let other users in; they are checked against owner and mode
	ReadOnly     bool     // the kernel refuses every change
	ShowControl  bool     // list .hypha in the root
	FsName       string   // what df shows as file system; empty: hyphafs
	MountOptions []string // words of -o; see doc.go for those that are understood
}

// fuseType is what the kernel calls our mounts: "fuse." and the name given to go-fuse.
const (
	fuseName = "hyphafs"
	fuseType = "fuse." + fuseName
)

// How long the kernel may answer by itself. Every change that does not come through it is told to it (see Server.Changed).
const (
	cacheTime     = time.Hour
	maxWrite      = 512 << 10
	maxBackground = 64
)

// Mount mounts cfg.Drive on dir and returns when the mount answers. A dead mount of an earlier hyphafs on dir is removed first;
// ErrMounted if another file system is there. The mount lives until Unmount, Close or umount(8); ctx ends only the attempt.
func Mount(ctx context.Context, dir string, cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	extra, flags, err := cfg.Options.parse()
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	if err := clear(ctx, dir, "", cfg.Log); err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	t := &tree{
		drive: cfg.Drive, pending: cfg.Pending, control: cfg.Control, options: cfg.Options,
		queue: newInvalidations(cfg.Log), log: cfg.Log, now: cfg.Now, since: cfg.Now(),
		uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()),
	}
	negative := cacheTime // the others are set in each answer: those of .hypha are 0
	raw := gofs.NewNodeFS(&node{tree: t, id: record.Root}, &gofs.Options{
		NegativeTimeout: &negative,
		NullPermissions: true,
		RootStableAttr:  &gofs.StableAttr{Ino: rootIno},
		ExternalNodeID:  true,
	})
	opts := mountOptions(cfg, extra, flags)
	kernel, err := fuse.NewServer(flagged{raw, &t.known}, dir, &opts)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	s := newServer(dir, kernel, t.queue, cfg.Log)
	if err := kernel.WaitMount(); err != nil {
		s.Close(ctx)
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	if m, ok := mountOf(dir); ok {
		s.device = m.device
		if err := lengthenReadAhead(m.device); err != nil {
			cfg.Log.Debug("the kernel reads 128 KiB ahead", "err", err)
		}
	}
	cfg.Log.Info("mounted", "path", dir)
	return s, nil
}

// mountOptions is what go-fuse is told; doc.go says why each is so.
func mountOptions(cfg Config, extra []string, flags uintptr) fuse.MountOptions {
	o := cfg.Options
	name := strings.NewReplacer(",", "_", "\\", "_", "\n", "_").Replace(o.FsName)
	if name == "" {
		name = fuseName
	}
	if flags == 0 {
		flags = syscall.MS_MGC_VAL
	}
	return fuse.MountOptions{
		AllowOther:               o.AllowOther,
		Options:                  extra,
		MaxBackground:            maxBackground,
		MaxWrite:                 maxWrite,
		FsName:                   name,
		Name:                     fuseName,
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true,
		DisableSplice:            true,
		DirectMount:              os.Geteuid() == 0,
		DirectMountFlags:         flags,
		ExtraCapabilities:        fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_DIRECT_IO_ALLOW_MMAP,
		Logger:                   slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		PanicHandler: func(why any) fuse.Status {
			cfg.Log.Error("request ended in a panic", "err", why, "stack", string(debug.Stack()))
			return fuse.EIO
		},
	}
}
