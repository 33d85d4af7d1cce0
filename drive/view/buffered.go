package view

import (
	"bytes"
	"slices"
	"strings"
	"sync"

	"github.com/tidwall/btree"
)

// Buffered is a KV whose updates are seen at once and reach the KV below with the next Flush, all together. A crash loses the
// updates since then, whole ones, from the newest backwards: for a view that is no loss, since what it folds is kept elsewhere.
type Buffered struct {
	base KV

	one sync.Mutex // one Update at a time; taken before mu
	out sync.Mutex // one Flush at a time; taken before mu

	mu     sync.Mutex // guards what follows; held for a moment only, in which a view of base may begin
	fresh  *layer     // what changed since the last Flush began
	frozen *layer     // what the Flush at work is writing, or nil
}

// layer maps rows to values; a nil value is a deletion.
type layer = btree.Map[string, []byte]

// NewBuffered returns a Buffered over base, which it owns.
func NewBuffered(base KV) *Buffered { return &Buffered{base: base, fresh: &layer{}} }

func (b *Buffered) layers() (fresh, frozen *layer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.frozen != nil {
		frozen = b.frozen.Copy()
	}
	return b.fresh.Copy(), frozen
}

// View runs fn on one state.
func (b *Buffered) View(fn func(Tx) error) error {
	b.mu.Lock() // until the view of the base began: a Flush that ends in between would show there what the layers of now do not know
	began := false
	err := b.base.View(func(base Tx) error {
		var over []*layer
		for _, l := range []*layer{b.fresh, b.frozen} {
			if l != nil && l.Len() > 0 {
				over = append(over, l.Copy())
			}
		}
		began = true
		b.mu.Unlock()
		if len(over) == 0 { // nearly always, where nothing changes
			return fn(base)
		}
		return fn(&bufferedTx{layers: over, base: base})
	})
	if !began {
		b.mu.Unlock()
	}
	return err
}

// Update runs fn and shows what it wrote.
func (b *Buffered) Update(fn func(Tx) error) error {
	return b.UpdateShown(fn, func(show func()) { show() })
}

// UpdateShown is Update, with what fn wrote being seen when then calls show: at an instant of the caller's choice, in no time.
func (b *Buffered) UpdateShown(fn func(Tx) error, then func(show func())) error {
	b.one.Lock()
	defer b.one.Unlock()
	before, frozen := b.layers()
	fresh := before.Copy()
	err := b.base.View(func(base Tx) error {
		return fn(&bufferedTx{layers: []*layer{fresh, frozen}, base: base, writable: true})
	})
	if err != nil {
		return err
	}
	then(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.fresh = fresh
	})
	return nil
}

// Pending returns how many rows wait for a Flush.
func (b *Buffered) Pending() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fresh.Len()
}

// Flush writes what changed to the KV below; when it returns, that is as durable as the KV makes it.
func (b *Buffered) Flush() error {
	b.out.Lock()
	defer b.out.Unlock()
	b.one.Lock() // no update may be half-way: it would bring the frozen rows back
	b.mu.Lock()
	b.frozen, b.fresh = b.fresh, &layer{}
	rows := b.frozen.Copy() // of its own: copying a layer, which readers do, changes it
	b.mu.Unlock()
	b.one.Unlock()
	var err error
	if rows.Len() > 0 {
		err = b.base.Update(func(tx Tx) (err error) {
			rows.Scan(func(key string, value []byte) bool {
				if value == nil {
					err = tx.Delete([]byte(key))
				} else {
					err = tx.Put([]byte(key), value)
				}
				return err == nil
			})
			return err
		})
	}
	b.one.Lock()
	defer b.one.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil { // keep the rows, under what changed since
		merged := rows.Copy()
		b.fresh.Scan(func(key string, value []byte) bool {
			merged.Set(key, value)
			return true
		})
		b.fresh = merged
	}
	b.frozen = nil
	return err
}

// Close flushes and closes the KV below.
func (b *Buffered) Close() error {
	err := b.Flush()
	if closing := b.base.Close(); err == nil {
		err = closing
	}
	return err
}

type bufferedTx struct {
	layers   []*layer // the newest first; nil ones are empty
	base     Tx
	writable bool
}

func (t *bufferedTx) Get(key []byte) ([]byte, error) {
	for _, l := range t.layers {
		if l == nil {
			continue
		}
		if v, ok := l.Get(string(key)); ok {
			return v, nil
		}
	}
	return t.base.Get(key)
}

func (t *bufferedTx) Put(key, value []byte) error {
	if !t.writable {
		return ErrReadOnly
	}
	t.layers[0].Set(string(key), append([]byte{}, value...))
	return nil
}

func (t *bufferedTx) Delete(key []byte) error {
	if !t.writable {
		return ErrReadOnly
	}
	t.layers[0].Set(string(key), nil)
	return nil
}

// Scan merges the layers with the rows below.
func (t *bufferedTx) Scan(prefix, from []byte, fn func(key, value []byte) (bool, error)) error {
	over := &layer{}
	start := max(string(prefix), string(from))
	for _, l := range slices.Backward(t.layers) {
		if l == nil {
			continue
		}
		l.Ascend(start, func(key string, value []byte) bool {
			if !strings.HasPrefix(key, string(prefix)) {
				return false
			}
			over.Set(key, value)
			return true
		})
	}
	it := over.Iter()
	ahead := it.First()
	more := true
	emit := func(limit []byte) (err error) { // the changed rows below limit, all of them if it is nil
		for ; ahead && more && (limit == nil || it.Key() < string(limit)); ahead = it.Next() {
			if v := it.Value(); v != nil {
				if more, err = fn([]byte(it.Key()), v); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err := t.base.Scan(prefix, from, func(key, value []byte) (bool, error) {
		if err := emit(key); err != nil || !more {
			return false, err
		}
		if ahead && bytes.Equal([]byte(it.Key()), key) {
			value = it.Value()
			ahead = it.Next()
			if value == nil {
				return true, nil
			}
		}
		var err error
		more, err = fn(key, value)
		return more, err
	})
	if err != nil || !more {
		return err
	}
	return emit(nil)
}
