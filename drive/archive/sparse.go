package archive

import (
	"sync"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// sparse is a hypercore.Storage in memory that costs what was written to it, wherever that lies: the feed that stands for a pack has a few blocks of a feed of any
// length.
type sparse struct{ files map[string]*sparseFile }

const sparsePage = 4096

func newSparse() *sparse { return &sparse{files: map[string]*sparseFile{}} }

func (s *sparse) Open(name string) (hypercore.File, error) {
	f := s.files[name]
	if f == nil {
		f = &sparseFile{pages: map[int64]*[sparsePage]byte{}}
		s.files[name] = f
	}
	return f, nil
}

func (s *sparse) Sync() error { return nil }

type sparseFile struct {
	mu    sync.Mutex // guards what follows
	pages map[int64]*[sparsePage]byte
	size  int64
}

func (f *sparseFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.each(p, off, func(part []byte, page int64, at int64) {
		if b := f.pages[page]; b != nil {
			copy(part, b[at:])
		} else {
			clear(part)
		}
	})
	return len(p), nil // what lies past the end reads as zeros, as hypercore takes it anyway
}

func (f *sparseFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.each(p, off, func(part []byte, page int64, at int64) {
		b := f.pages[page]
		if b == nil {
			b = new([sparsePage]byte)
			f.pages[page] = b
		}
		copy(b[at:], part)
	})
	f.size = max(f.size, off+int64(len(p)))
	return len(p), nil
}

// each calls do for each part of p, which lies at off, that is in one page.
func (f *sparseFile) each(p []byte, off int64, do func(part []byte, page, at int64)) {
	for len(p) > 0 {
		at := off % sparsePage
		n := min(int64(len(p)), sparsePage-at)
		do(p[:n], off/sparsePage, at)
		p, off = p[n:], off+n
	}
}

func (f *sparseFile) Truncate(size int64) error { panic("a feed truncates nothing") }

func (f *sparseFile) Size() (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size, nil
}

func (f *sparseFile) Punch(off, n int64) error { panic("nothing is cleared in a pack") }
func (f *sparseFile) Sync() error              { return nil }
func (f *sparseFile) Close() error             { return nil }
