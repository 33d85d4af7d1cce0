package drive

import (
	"sync/atomic"
	"syscall"

	"hyphafs.org/hyphafs/drive/hypercore"
)

var fail, failOwn atomic.Bool

type failing struct {
	hypercore.Storage
	own bool
}
type failFile struct {
	hypercore.File
	own bool
}

func (s failing) Open(n string) (hypercore.File, error) {
	f, err := s.Storage.Open(n)
	return failFile{f, s.own}, err
}
func (f failFile) WriteAt(p []byte, off int64) (int, error) {
	if f.own && failOwn.Load() || !f.own && fail.Load() {
		return 0, syscall.ENOSPC
	}
	return f.File.WriteAt(p, off)
}
