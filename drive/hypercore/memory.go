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

type memoryFile struct {
	mu   sync.RWMutex
	data []byte
}

func (f *memoryFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if off < 0 {
		return 0, fmt.Errorf("read at %d", off)
	}
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
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
	f.grow(off + int64(len(p)))
	return copy(f.data[off:], p), nil
}

// grow makes the file at least size bytes long. Called with mu held.
func (f *memoryFile) grow(size int64) {
	if more := size - int64(len(f.data)); more > 0 {
		f.data = append(f.data, make([]byte, more)...)
	}
}

func (f *memoryFile) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.grow(size)
	f.data = f.data[:size]
	return nil
}

func (f *memoryFile) Size() (int64, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return int64(len(f.data)), nil
}

func (f *memoryFile) Punch(off, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	end := min(off+n, int64(len(f.data)))
	if off >= 0 && off < end {
		clear(f.data[off:end])
	}
	return nil
}

func (f *memoryFile) Sync() error  { return nil }
func (f *memoryFile) Close() error { return nil }
