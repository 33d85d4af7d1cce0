package fs

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// controlText is a file to read, made anew at each open: what one open handle reads is of one piece.
type controlText struct {
	controlBase
	text func(ctx context.Context) ([]byte, error)
}

var (
	_ gofs.NodeGetattrer = (*controlText)(nil)
	_ gofs.NodeSetattrer = (*controlText)(nil)
	_ gofs.NodeOpener    = (*controlText)(nil)
	_ gofs.FileReader    = (*textHandle)(nil)
)

// textItem is an item that is a text to read.
func textItem(name string, mode uint32, text func(ctx context.Context) ([]byte, error)) item {
	return item{name, mode, func(at spot) gofs.InodeEmbedder {
		return &controlText{controlBase: controlBase{spot: at}, text: text}
	}}
}

// Getattr answers stat(2) with the size the text has now.
func (c *controlText) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	text, err := c.text(ctx)
	if err != nil {
		return c.errno(err, "getattr")
	}
	c.fill(len(text), &out.Attr)
	return 0
}

// Setattr refuses.
func (c *controlText) Setattr(context.Context, gofs.FileHandle, *fuse.SetAttrIn, *fuse.AttrOut) syscall.Errno {
	return syscall.EPERM
}

// Open answers open(2).
func (c *controlText) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	if flags&(syscall.O_ACCMODE|syscall.O_TRUNC) != syscall.O_RDONLY {
		return nil, 0, syscall.EACCES
	}
	text, err := c.text(ctx)
	if err != nil {
		return nil, 0, c.errno(err, "open")
	}
	return textHandle(text), fuse.FOPEN_DIRECT_IO, 0
}

// textHandle is the text one open handle reads.
type textHandle []byte

// Read answers read(2).
func (h textHandle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if off < 0 || off >= int64(len(h)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, h[off:])]), 0
}
