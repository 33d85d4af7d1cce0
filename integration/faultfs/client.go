package faultfs

import (
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// mountVariable tells a process that it is to serve, and where.
const mountVariable = "HYPHAFS_FAULTFS"

// FS is a mounted file system, served by another process.
type FS struct {
	cmd  *exec.Cmd
	conn io.ReadWriteCloser
	rpc  *rpc.Client
	base *Disk
}

// pipes are the two ends that a process speaks through.
type pipes struct {
	io.ReadCloser
	w io.WriteCloser
}

func (p pipes) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p pipes) Close() error                { return errors.Join(p.w.Close(), p.ReadCloser.Close()) }

// Start mounts d on the folder at mountpoint. TestMain of the calling test has to call Serve. The caller stops it.
func Start(mountpoint string, d *Disk) (*FS, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), mountVariable+"="+mountpoint)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	f := &FS{cmd: cmd, conn: pipes{out, in}, base: d}
	f.rpc = rpc.NewClient(f.conn)
	if err := f.rpc.Call("FS.Mount", d.Clone(), new(none)); err != nil {
		return nil, errors.Join(fmt.Errorf("mount %s: %w", mountpoint, err), f.Stop())
	}
	return f, nil
}

// Stop unmounts and ends the process. What still uses the mount gets ENOTCONN. It is idempotent.
func (f *FS) Stop() error {
	if f.cmd == nil {
		return nil
	}
	cmd := f.cmd
	f.cmd = nil
	_ = f.rpc.Close() // the process ends by it, which Wait reports
	return cmd.Wait()
}

// Len returns how many operations were recorded so far.
func (f *FS) Len() (n int, err error) {
	err = f.rpc.Call("FS.Len", new(none), &n)
	return n, err
}

// Log returns what happened so far.
func (f *FS) Log() (*Log, error) {
	l := &Log{Base: f.base}
	err := f.rpc.Call("FS.Log", new(none), &l.Ops)
	return l, err
}

// Inject lets calls fail from now on, in the place of the rule before.
func (f *FS) Inject(r Rule) error { return f.rpc.Call("FS.Inject", &r, new(none)) }

// Quota limits the bytes of all files; 0 lifts the limit.
func (f *FS) Quota(bytes int64) error { return f.rpc.Call("FS.Quota", &bytes, new(none)) }

// Used returns how many bytes the files hold.
func (f *FS) Used() (n int64, err error) {
	err = f.rpc.Call("FS.Used", new(none), &n)
	return n, err
}

// none is no argument, or no answer.
type none = bool

// Serve serves a mount and ends the process, if it was started by Start. Else it returns at once.
func Serve() {
	mountpoint := os.Getenv(mountVariable)
	if mountpoint == "" {
		return
	}
	r := &remote{mountpoint: mountpoint}
	s := rpc.NewServer()
	if err := s.RegisterName("FS", r); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s.ServeConn(pipes{os.Stdin, os.Stdout}) // until the parent closes it, or is gone
	if r.mount != nil {
		if err := r.unmount(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(0)
}

// remote is what the parent calls.
type remote struct {
	mountpoint string
	fs         *server
	mount      *fuse.Server
}

// Mount mounts d.
func (r *remote) Mount(d *Disk, _ *none) (err error) {
	for _, in := range d.Inodes { // an empty map does not come across
		if in.isDir() && in.Names == nil {
			in.Names = map[string]uint64{}
		}
	}
	r.fs = newServer(d)
	r.mount, err = fuse.NewServer(r.fs, r.mountpoint, &fuse.MountOptions{FsName: "faultfs", Name: "faultfs", DirectMount: true, DisableReadDirPlus: true, AllowOther: os.Getuid() == 0})
	if err != nil {
		return err
	}
	go r.mount.Serve() // ends with the process
	return r.mount.WaitMount()
}

// Len answers FS.Len.
func (r *remote) Len(_ *none, n *int) error {
	r.fs.mu.Lock()
	defer r.fs.mu.Unlock()
	*n = len(r.fs.ops)
	return nil
}

// Log answers FS.Log.
func (r *remote) Log(_ *none, ops *[]Op) error {
	r.fs.mu.Lock()
	defer r.fs.mu.Unlock()
	*ops = r.fs.ops[:len(r.fs.ops):len(r.fs.ops)]
	return nil
}

// Inject answers FS.Inject.
func (r *remote) Inject(rule *Rule, _ *none) error {
	r.fs.mu.Lock()
	defer r.fs.mu.Unlock()
	r.fs.rule = *rule
	return nil
}

// Quota answers FS.Quota.
func (r *remote) Quota(bytes *int64, _ *none) error {
	r.fs.mu.Lock()
	defer r.fs.mu.Unlock()
	r.fs.quota = *bytes
	return nil
}

// Used answers FS.Used.
func (r *remote) Used(_ *none, n *int64) error {
	r.fs.mu.Lock()
	defer r.fs.mu.Unlock()
	*n = r.fs.used
	return nil
}
