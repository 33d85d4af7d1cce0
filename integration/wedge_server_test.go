package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// asWedge, when set, makes the test binary a process that cannot be killed, as a node once could be: its value is the mount point. What a node of the state directory in its working directory
// holds it holds, too: the lock, the control socket and a mount. Of the only file there no READ is ever answered, and when the first one came it tells the kernel to drop the page
// that the READ is for.
const asWedge = "HYPHAFS_TEST_WEDGE"

type wedgeFile struct {
	gofs.Inode
	asked chan struct{} // READs
}

func (f *wedgeFile) Open(context.Context, uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (f *wedgeFile) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o644, 1
	return 0
}

func (f *wedgeFile) Read(context.Context, gofs.FileHandle, []byte, int64) (fuse.ReadResult, syscall.Errno) {
	f.asked <- struct{}{}
	select {}
}

// runWedge is the process. It returns only if it cannot begin.
func runWedge(dir string) int {
	if err := wedge(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

func wedge(dir string) error {
	state, err := os.Getwd()
	if err != nil {
		return err
	}
	lock, err := os.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return err
	}
	if err := os.Remove("control.sock"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	socket, err := net.Listen("unix", "control.sock")
	if err != nil {
		return err
	}
	defer socket.Close()
	file := &wedgeFile{asked: make(chan struct{}, 16)}
	root := &gofs.Inode{}
	_, err = gofs.Mount(dir, root, &gofs.Options{
		MountOptions: fuse.MountOptions{FsName: state, Name: "hyphafs", DirectMount: os.Geteuid() == 0},
		OnAdd: func(ctx context.Context) {
			root.AddChild(wedgeName, root.NewPersistentInode(ctx, file, gofs.StableAttr{Mode: syscall.S_IFREG}), false)
		},
	})
	if err != nil {
		return err
	}
	fmt.Println("ready " + dir)
	<-file.asked
	return fmt.Errorf("the page was dropped: %v", file.NotifyContent(0, 0))
}

// wedgeName is the file of which nobody gets a byte.
const wedgeName = "f"
