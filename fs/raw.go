package fs

import (
	"context"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// flagged carries the flags of a WRITE to our handles: go-fuse v2.12.1 (fs/bridge.go, write) passes on only who the caller is. Of that
// a write needs no process number, so the flags travel in its place. It also sees how many references the kernel gives up.
type flagged struct {
	fuse.RawFileSystem
	known *known
}

// Forget passes a FORGET on.
func (r flagged) Forget(node, references uint64) {
	if node != rootIno && node&controlBit == 0 {
		r.known.forgotten(references)
	}
	r.RawFileSystem.Forget(node, references)
}

// writeFlags is what a WRITE says besides its bytes.
type writeFlags uint32

const (
	flagAppend writeFlags = 1 << iota // by write(2) on a description with O_APPEND; never pages of a mapping
	flagKill                          // by a caller without CAP_FSETID: suid and sgid end
)

func flagsOf(in *fuse.WriteIn) (f writeFlags) {
	if in.WriteFlags&fuse.WRITE_CACHE == 0 && in.Flags&unix.O_APPEND != 0 {
		f |= flagAppend
	}
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		f |= flagKill
	}
	return f
}

// Write passes a WRITE on with its flags.
func (r flagged) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	in.Pid = uint32(flagsOf(in))
	return r.RawFileSystem.Write(cancel, in, data)
}

// Writev passes a WRITE on with its flags.
func (r flagged) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	in.Pid = uint32(flagsOf(in))
	return r.RawFileSystem.Writev(cancel, in, data)
}

// writing returns the flags of the WRITE that ctx belongs to.
func writing(ctx context.Context) writeFlags {
	caller, ok := fuse.FromContext(ctx)
	if !ok {
		return 0
	}
	return writeFlags(caller.Pid)
}
