package hypercore

import (
	"fmt"
	"io"
	"sync"
)

// Memory is a Storage in memory, for the browser and for tests. It can be opened again after Close and holds what it
// held. Safe for concurrent use.
type Memory struct {
	mu    sync.Mutex
	files map[string]*memoryFile
}

// NewMemory returns an empty Storage.
func NewMemory() *Memory { return &Memory{files: map[string]*memoryFile{}} }

// Open returns the file called name.
func (m *Memory) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[name]
	if f == nil {
		f = &memoryFile{}
		m.files[name] = f
	}
	return f, nil
}

// Sync does nothing: there are no names to lose.
func (m *Memory) Sync() error { return nil }

// chunk is the unit in which a file in memory grows, in bytes: what is there is never copied.
const chunk = 4096

// memoryFile is chunks; nil: zeros.
type memoryFile struct {
	mu     sync.RWMutex // guards what follows
	size   int64
	chunks []*[chunk]byte
	// Invariant: what lies in a chunk beyond size is zero, and there is no chunk wholly beyond it.
}

func (f *memoryFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if off < 0 {
		return 0, fmt.Errorf("read at %d", off)
	}
	n := int(max(min(int64(len(p)), f.size-off), 0))
	for rest := p[:n]; len(rest) > 0; {
		i, at := off/chunk, int(off%chunk)
		k := min(len(rest), chunk-at)
		if i < int64(len(f.chunks)) && f.chunks[i] != nil {
			copy(rest[:k], f.chunks[i][at:])
		} else {
			clear(rest[:k])
		}
		rest, off = rest[k:], off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off < 0 {
		return 0, fmt.Errorf("write at %d", off)
	}
	end := off + int64(len(p))
	f.size = max(f.size, end)
	for rest := p; len(rest) > 0; {
		i, at := off/chunk, int(off%chunk)
		for i >= int64(len(f.chunks)) {
			f.chunks = append(f.chunks, nil)
		}
		if f.chunks[i] == nil {
			f.chunks[i] = new([chunk]byte)
		}
		k := copy(f.chunks[i][at:], rest)
		rest, off = rest[k:], off+int64(k)
	}
	return len(p), nil
}

func (f *memoryFile) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.zero(size, f.size)
	f.chunks = f.chunks[:min(int64(len(f.chunks)), (size+chunk-1)/chunk)]
	f.size = size
	return nil
}

func (f *memoryFile) Size() (int64, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.size, nil
}

func (f *memoryFile) Punch(off, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off >= 0 {
		f.zero(off, min(off+n, f.size))
	}
	return nil
}

// zero makes the bytes from from up to to zero and frees the chunks that have no others. Called with mu held.
func (f *memoryFile) zero(from, to int64) {
	for from < to && from/chunk < int64(len(f.chunks)) {
		i, at := from/chunk, from%chunk
		k := min(to-from, chunk-at)
		if k == chunk {
			f.chunks[i] = nil
		} else if f.chunks[i] != nil {
			clear(f.chunks[i][at : at+k])
		}
		from += k
	}
}

func (f *memoryFile) Sync() error  { return nil }
func (f *memoryFile) Close() error { return nil }
