package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// dropper drops the kernel's clean caches: by itself as root, or by asking the root process that started this one.
type dropper struct{ ask, answer *os.File }

// helper is the dropper behind the descriptors that asUser hands on.
func helper() *dropper {
	syscall.CloseOnExec(3)
	syscall.CloseOnExec(4)
	return &dropper{os.NewFile(3, "ask"), os.NewFile(4, "answer")}
}

// drop returns when pages, names and inodes are dropped. What is dirty stays: sync first.
func (d *dropper) drop() error {
	if d.ask == nil {
		return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
	}
	_, err := d.ask.Write([]byte{1})
	if err == nil {
		_, err = d.answer.Read(make([]byte, 1))
	}
	if err != nil {
		return fmt.Errorf("dropping caches: %w", err)
	}
	return nil
}

// setup makes /dev/fuse usable for everybody in a mount namespace of its own, and goes on there as the user $2.
const setup = `set -e
mount --make-rprivate /
mknod "$1/fuse" c 10 229
chmod 666 "$1/fuse"
mount --bind "$1/fuse" /dev/fuse
dir=$1 user=$2; shift 2
exec setpriv --reuid "$user" --regid "$user" --clear-groups -- "$@"`

// asUser runs this program again as the user uid below base, and drops caches for it as long as it runs.
func asUser(ctx context.Context, base string, uid int, args []string) error {
	if err := errors.Join(os.Chmod(base, 0o755), os.Chown(base, uid, uid)); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	asked, ask, err := os.Pipe()
	if err != nil {
		return err
	}
	defer asked.Close()
	answer, answered, err := os.Pipe()
	if err != nil {
		return errors.Join(err, ask.Close())
	}
	defer answered.Close()
	again := append([]string{"-c", setup, "sh", base, strconv.Itoa(uid), self}, args...)
	cmd := exec.Command("sh", append(again, "-user", "0", "-helped", "-dir", base)...) // the last of two equal flags counts
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "HOME="+base, "XDG_DATA_HOME="+filepath.Join(base, "data"), "XDG_RUNTIME_DIR=")
	cmd.ExtraFiles = []*os.File{ask, answer}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	err = cmd.Start()
	if err := errors.Join(err, ask.Close(), answer.Close()); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })() // it may have ended
	here := dropper{}
	for one := make([]byte, 1); err == nil; {
		if _, err = asked.Read(one); err == nil {
			err = here.drop()
		}
		if err == nil {
			_, err = answered.Write(one)
		}
	}
	if errors.Is(err, io.EOF) { // it has ended
		err = nil
	}
	return errors.Join(err, cmd.Wait())
}
