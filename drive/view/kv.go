package view

import (
	"errors"
	"strings"
	"sync"

	"github.com/tidwall/btree"
)

// KV is an ordered store of keys and values. View and Update may run at the same time; a View sees one state throughout. An Update
// happens whole, and durably, or not at all; one runs at a time.
type KV interface {
	View(func(Tx) error) error
	Update(func(Tx) error) error
	Close() error
}

// Tx reads and, in an Update, writes. Slices it returns are valid until the transaction ends and must not be changed; those
// it is given may be changed afterwards.
type Tx interface {
	// Get returns nil for a key that is not there.
	Get(key []byte) ([]byte, error)
	Put(key, value []byte) error
	Delete(key []byte) error
	// Scan calls fn for the keys that begin with prefix, ascending, from the first that is not below from on, until fn reports false. fn must not write.
	Scan(prefix, from []byte, fn func(key, value []byte) (more bool, err error)) error
}

// ErrReadOnly says that a View tried to write.
var ErrReadOnly = errors.New("read-only transaction")

// Memory is a KV in memory, for the browser and for checks.
type Memory struct {
	mu   sync.RWMutex // guards rows; an Update replaces it, so a View keeps what it took
	rows *btree.Map[string, []byte]
	one  sync.Mutex // one Update at a time; taken before mu
}

// NewMemory returns an empty KV.
func NewMemory() *Memory { return &Memory{rows: &btree.Map[string, []byte]{}} }

// View runs fn on the state of now.
func (m *Memory) View(fn func(Tx) error) error {
	m.mu.Lock()
	rows := m.rows.Copy()
	m.mu.Unlock()
	return fn(&memoryTx{rows: rows})
}

// Update runs fn and, if it succeeds, makes what it wrote the state.
func (m *Memory) Update(fn func(Tx) error) error {
	m.one.Lock()
	defer m.one.Unlock()
	m.mu.Lock()
	rows := m.rows.Copy()
	m.mu.Unlock()
	if err := fn(&memoryTx{rows: rows, writable: true}); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows = rows
	return nil
}

// Close does nothing: the state stays.
func (m *Memory) Close() error { return nil }

type memoryTx struct {
	rows     *btree.Map[string, []byte]
	writable bool
}

func (t *memoryTx) Get(key []byte) ([]byte, error) {
	v, _ := t.rows.Get(string(key))
	return v, nil
}

func (t *memoryTx) Put(key, value []byte) error {
	if !t.writable {
		return ErrReadOnly
	}
	t.rows.Set(string(key), append([]byte{}, value...))
	return nil
}

func (t *memoryTx) Delete(key []byte) error {
	if !t.writable {
		return ErrReadOnly
	}
	t.rows.Delete(string(key))
	return nil
}

func (t *memoryTx) Scan(prefix, from []byte, fn func(key, value []byte) (bool, error)) (err error) {
	start := max(string(prefix), string(from))
	t.rows.Ascend(start, func(key string, value []byte) bool {
		if !strings.HasPrefix(key, string(prefix)) {
			return false
		}
		var more bool
		more, err = fn([]byte(key), value)
		return more && err == nil
	})
	return err
}
