package fs

import (
	"context"
	"sync"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// intentNode is a file that does something when a person means it: approve, deny, keep, drop. Two things are meant, by the
// mount's owner or root:
//   - touch(1) without a time: one SETATTR that sets both times to now and nothing else;
//   - the file's own word written, alone or with one newline, when the handle is closed.
//
// Everything else that programs do to a file while they copy, unpack, back up, search or edit is taken without a word and does
// nothing, so that none of them fails on the way through, and none of them acts.
type intentNode struct {
	controlBase
	word string // what to write
	help string // what reading tells
	act  func(ctx context.Context) error
}

var (
	_ gofs.NodeGetattrer = (*intentNode)(nil)
	_ gofs.NodeSetattrer = (*intentNode)(nil)
	_ gofs.NodeOpener    = (*intentNode)(nil)
	_ gofs.FileReader    = (*intentHandle)(nil)
	_ gofs.FileWriter    = (*intentHandle)(nil)
	_ gofs.FileWritever  = (*intentHandle)(nil)
	_ gofs.FileFlusher   = (*intentHandle)(nil)
	_ gofs.FileFsyncer   = (*intentHandle)(nil)
)

// intentItem is an item that does act.
func intentItem(name, word, help string, act func(ctx context.Context) error) item {
	return item{name, intentMode, func(at spot) gofs.InodeEmbedder {
		return &intentNode{controlBase: controlBase{spot: at}, word: word, help: help, act: act}
	}}
}

// Getattr answers stat(2).
func (i *intentNode) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	i.fill(len(i.help), &out.Attr)
	return 0
}

// meant says whether valid is what touch(1) sends. The file handle and the lock owner say only how it came.
func meant(valid uint32) bool {
	const touch = fuse.FATTR_ATIME | fuse.FATTR_ATIME_NOW | fuse.FATTR_MTIME | fuse.FATTR_MTIME_NOW
	return valid&^(fuse.FATTR_FH|fuse.FATTR_LOCKOWNER) == touch
}

// allowed says whether the caller may act: the mount's owner or root.
func (i *intentNode) allowed(ctx context.Context) bool {
	caller, ok := fuse.FromContext(ctx)
	return ok && (caller.Uid == 0 || caller.Uid == i.tree.uid)
}

// Setattr is where a touch arrives. Any other change is taken and does nothing.
func (i *intentNode) Setattr(ctx context.Context, f gofs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if !i.allowed(ctx) {
		return syscall.EPERM
	}
	if meant(in.Valid) {
		if errno := i.do(ctx, "touch"); errno != 0 {
			return errno
		}
	}
	return i.Getattr(ctx, f, out)
}

// do acts and says so in the log.
func (i *intentNode) do(ctx context.Context, how string) syscall.Errno {
	err := i.act(whole(ctx))
	i.tree.log.Info("a person decided", "op", i.word, "path", i.path, "how", how, "err", err)
	return i.errno(err, i.word)
}

// Open answers open(2).
func (i *intentNode) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY && !i.allowed(ctx) {
		return nil, 0, syscall.EACCES
	}
	return &intentHandle{node: i}, fuse.FOPEN_DIRECT_IO, 0
}

// intentHandle collects what is written through one open file.
type intentHandle struct {
	node *intentNode

	mu      sync.Mutex
	written []byte // no longer than the word and its newline need; guarded by mu, as the rest
	base    int64  // offset of the first byte written: 0, or the size that stat tells when the word was appended
	other   bool   // something else was written: nothing is meant
	done    bool   // acted, or gave up: a handle acts once
}

// Read tells what the file does.
func (h *intentHandle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return textHandle(h.node.help).Read(ctx, dest, off)
}

// Write takes what is written. Only a word written from the start or appended, without gaps, counts.
func (h *intentHandle) Write(_ context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.written) == 0 && off == int64(len(h.node.help)) {
		h.base = off
	}
	if off != h.base+int64(len(h.written)) || len(h.written)+len(data) > len(h.node.word)+1 {
		h.other = true
	} else {
		h.written = append(h.written, data...)
	}
	return uint32(len(data)), 0
}

// Writev is Write of data in pieces.
func (h *intentHandle) Writev(ctx context.Context, data [][]byte, off int64) (uint32, syscall.Errno) {
	var done uint32
	for _, piece := range data {
		n, _ := h.Write(ctx, piece, off+int64(done))
		done += n
	}
	return done, 0
}

// Flush comes at each close(2) of the open file: if the word was written, it acts, and close tells how it went.
func (h *intentHandle) Flush(ctx context.Context) syscall.Errno {
	h.mu.Lock()
	defer h.mu.Unlock()
	word := string(h.written)
	if h.done || h.other || word != h.node.word && word != h.node.word+"\n" {
		return 0
	}
	h.done = true
	return h.node.do(ctx, "write")
}

// Fsync has nothing to do: what counts is durable when it is answered.
func (h *intentHandle) Fsync(context.Context, uint32) syscall.Errno { return 0 }
