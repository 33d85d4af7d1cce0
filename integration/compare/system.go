package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The systems by name.
const (
	hyphafs     = "hyphafs"
	ext4        = "ext4"        // whatever the disk below has, no FUSE
	passthrough = "passthrough" // go-fuse's loopback, which passes reads and writes through when it is root
	loopback    = "loopback"    // the same without
	gocryptfs   = "gocryptfs"
	juicefs     = "juicefs"
)

// system is one file system under test. Its server, if it has one, is a process of its own.
type system struct {
	name  string
	dir   string                                     // where it is used
	back  string                                     // where it keeps everything, on the disk that all share
	start func(s *system) (*exec.Cmd, error)         // the server in the foreground, not started; nil: dir is a folder of the disk
	first func(ctx context.Context, s *system) error // makes the store, may be nil
	tool  string                                     // hyphafs

	server *exec.Cmd
	said   *bytes.Buffer
	ended  chan error
}

// systems makes the folders and stores of those that were asked for, mounted by none.
func systems(c settings, base string) ([]*system, error) {
	tool := filepath.Join(c.bin, "hyphafs")
	all := []*system{
		{name: hyphafs, start: startHyphafs, tool: tool, first: signUp},
		{name: ext4},
		{name: passthrough, start: func(s *system) (*exec.Cmd, error) {
			return exec.Command(filepath.Join(c.bin, "loopback"), "-q", s.dir, s.back), nil
		}},
		{name: loopback, start: func(s *system) (*exec.Cmd, error) { return startPlain(filepath.Join(c.bin, "loopback"), s) }},
		{name: gocryptfs, first: initGocryptfs, start: func(s *system) (*exec.Cmd, error) {
			return exec.Command("gocryptfs", "-q", "-fg", "-nosyslog", "-passfile", s.back+".pass", s.back, s.dir), nil
		}},
		{name: juicefs, first: func(ctx context.Context, s *system) error {
			return command(ctx, c.juicefs, "format", "--storage", "file", "--bucket", s.back+"/", "--trash-days", "0", "sqlite3://"+s.back+".db", "compare")
		}, start: func(s *system) (*exec.Cmd, error) {
			return exec.Command(c.juicefs, "mount", "--no-usage-report", "--cache-dir", s.back+".cache", "--log", s.back+".log", "sqlite3://"+s.back+".db", s.dir), nil
		}},
	}
	all = slices.DeleteFunc(all, func(s *system) bool {
		return len(c.systems) > 0 && !slices.Contains(c.systems, s.name) || s.name == juicefs && c.juicefs == "" || s.name == passthrough && os.Geteuid() != 0
	})
	for _, s := range all {
		s.dir, s.back = filepath.Join(base, s.name), filepath.Join(base, s.name+".back")
		for _, dir := range []string{s.dir, s.back} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return nil, err
			}
		}
		if s.first != nil {
			if err := s.first(context.Background(), s); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

func signUp(ctx context.Context, s *system) error {
	return command(ctx, s.tool, "sign-up", "--domain", "compare.example", "--name", "compare", "--no-discovery", "--state", s.state(), "--passphrase-file", s.back+"/passphrase")
}

func (s *system) state() string { return s.back + "/state" }

func startHyphafs(s *system) (*exec.Cmd, error) {
	return exec.Command(s.tool, "mount", "-f", "--log-level", "warn", "--no-discovery", "--state", s.state(), "--passphrase-file", s.back+"/passphrase", s.dir), nil
}

func initGocryptfs(ctx context.Context, s *system) error {
	if err := os.WriteFile(s.back+".pass", []byte("for measuring only\n"), 0o600); err != nil {
		return err
	}
	return command(ctx, "gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", s.back+".pass", s.back)
}

// startPlain is the loopback without passthrough. As root it would pass through, so the mount is made here and the server, which gets the open
// device, runs without the capability that passthrough needs.
func startPlain(program string, s *system) (*exec.Cmd, error) {
	if os.Geteuid() != 0 {
		return exec.Command(program, "-q", s.dir, s.back), nil
	}
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,max_read=131072", device.Fd()) // as go-fuse gives them
	if err := unix.Mount(s.back, s.dir, "fuse.loopback", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return nil, errors.Join(err, device.Close())
	}
	cmd := exec.Command("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", program, "-q", "/dev/fd/3", s.back)
	cmd.ExtraFiles = []*os.File{device}
	return cmd, nil
}

// mount starts the server and returns when the mount answers.
func (s *system) mount(ctx context.Context) error {
	if s.start == nil {
		return nil
	}
	cmd, err := s.start(s)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	s.server, s.said, s.ended = cmd, &bytes.Buffer{}, make(chan error, 1)
	cmd.Stdout, cmd.Stderr = s.said, s.said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is for us
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	for _, f := range cmd.ExtraFiles {
		if err := f.Close(); err != nil {
			return err
		}
	}
	ended := s.ended
	go func() { ended <- cmd.Wait() }() // ends with the server; unmount waits for it
	for {
		if s.mounted() {
			var st unix.Statfs_t
			return unix.Statfs(s.dir, &st)
		}
		select {
		case err := <-ended:
			s.server = nil
			return fmt.Errorf("%s ended: %w\n%s", s.name, err, s.said)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// mounted asks the kernel's table: the folder itself would answer before.
func (s *system) mounted() bool {
	table, err := os.ReadFile("/proc/self/mounts")
	return err == nil && strings.Contains(string(table), " "+s.dir+" ")
}

// unmount returns when the server has ended.
func (s *system) unmount(ctx context.Context) error {
	if s.server == nil {
		return nil
	}
	how := []string{"fusermount3", "-u", s.dir}
	if s.name == hyphafs {
		how = []string{s.tool, "umount", s.dir}
	}
	if err := command(ctx, how[0], how[1:]...); err != nil {
		return fmt.Errorf("%s: %w\n%s", s.name, err, s.said)
	}
	err := <-s.ended
	s.server = nil
	if err != nil {
		return fmt.Errorf("%s ended: %w\n%s", s.name, err, s.said)
	}
	return nil
}

// publish makes hyphafs publish everything; the others have nothing to publish.
func (s *system) publish(ctx context.Context) error {
	if s.name != hyphafs {
		return nil
	}
	return command(ctx, s.tool, "sync", s.dir)
}

// cool empties all caches: what the server knows, the pages and names of its mount, and those of the disk below. hyphafs publishes first, so
// that what is read afterwards comes out of its feeds.
func (s *system) cool(ctx context.Context, root *dropper) error {
	if err := errors.Join(s.publish(ctx), s.unmount(ctx)); err != nil {
		return err
	}
	unix.Sync()
	err := error(nil)
	if root != nil {
		err = root.drop()
	} else if s.start == nil {
		err = forget(s.dir)
	} else {
		err = forget(s.back)
	}
	if err != nil {
		return err
	}
	return s.mount(ctx)
}

// forget drops the pages of every file below dir, which is all that an ordinary user can do.
func forget(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
	})
}

// command runs a program to its end.
func command(ctx context.Context, name string, args ...string) error {
	return commandIn(ctx, "", name, args...)
}

func commandIn(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, said.Bytes())
	}
	return nil
}
