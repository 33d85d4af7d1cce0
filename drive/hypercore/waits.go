package hypercore

import (
	"context"
	"sync"
)

// waits keeps who waits for which block, and who wants to hear of changes.
type waits struct {
	mu       sync.Mutex // guards what follows; taken after nothing, held over nothing
	wishes   map[uint64]*wish
	order    []uint64 // of wishes, oldest first
	watchers map[chan struct{}]struct{}
}

type wish struct {
	readers int
	arrived chan struct{} // closed when the block is stored
}

// Get returns block seq, waiting until a peer delivers it; ctx ends the wait. The caller owns the block.
func (f *Feed) Get(ctx context.Context, seq uint64) ([]byte, error) {
	for {
		if f.Has(seq) {
			return f.Block(seq)
		}
		w := f.waits.wish(seq)
		f.mu.RLock()
		stored, broken := f.data.has(seq), f.broken
		f.mu.RUnlock()
		if stored || broken != nil {
			f.waits.leave(seq, w)
			if broken != nil {
				return nil, broken
			}
			return f.Block(seq)
		}
		select {
		case <-w.arrived:
		case <-ctx.Done():
			f.waits.leave(seq, w)
			return nil, ctx.Err()
		}
		f.waits.leave(seq, w)
	}
}

// Wanted returns the blocks that someone waits for in Get, the oldest wish first. The caller owns the slice.
func (f *Feed) Wanted() []uint64 {
	f.waits.mu.Lock()
	defer f.waits.mu.Unlock()
	return append([]uint64(nil), f.waits.order...)
}

// Watch returns a channel that gets a signal, at least one after the last change, when the length grew, a block was stored or
// a wish was made. stop ends it.
func (f *Feed) Watch() (changed <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	w := &f.waits
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watchers == nil {
		w.watchers = map[chan struct{}]struct{}{}
	}
	w.watchers[ch] = struct{}{}
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.watchers, ch)
	}
}

// wish joins the wish for seq, or makes it.
func (w *waits) wish(seq uint64) *wish {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wishes == nil {
		w.wishes = map[uint64]*wish{}
	}
	it := w.wishes[seq]
	if it == nil {
		it = &wish{arrived: make(chan struct{})}
		w.wishes[seq] = it
		w.order = append(w.order, seq)
		w.signal()
	}
	it.readers++
	return it
}

// leave ends one reader's part in it; the last one takes the wish away.
func (w *waits) leave(seq uint64, it *wish) {
	w.mu.Lock()
	defer w.mu.Unlock()
	it.readers--
	if it.readers == 0 && w.wishes[seq] == it {
		w.forget(seq)
	}
}

// stored tells of the blocks from from up to to.
func (w *waits) stored(from, to uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.wishes) > 0 {
		for seq := from; seq < to; seq++ {
			if it := w.wishes[seq]; it != nil {
				close(it.arrived)
				w.forget(seq)
			}
		}
	}
	w.signal()
}

// forget takes a wish from the list. Called with mu held.
func (w *waits) forget(seq uint64) {
	delete(w.wishes, seq)
	for i, s := range w.order {
		if s == seq {
			w.order = append(w.order[:i], w.order[i+1:]...)
			return
		}
	}
}

// signal wakes the watchers. Called with mu held.
func (w *waits) signal() {
	for ch := range w.watchers {
		select {
		case ch <- struct{}{}:
		default: // it has not looked since the last one
		}
	}
}

// Wish asks for the blocks from from up to to that are not stored, without waiting: they are among Wanted until they
// arrive or readers of others push them out. At most maxWishes are kept.
func (f *Feed) Wish(from, to uint64) {
	for seq := from; seq < to; seq++ {
		if f.Has(seq) {
			continue
		}
		f.waits.idle(seq)
	}
}

// maxWishes bounds the wishes nobody waits for.
const maxWishes = 256

// idle makes a wish that no reader holds.
func (w *waits) idle(seq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wishes[seq] != nil || len(w.order) >= maxWishes {
		return
	}
	if w.wishes == nil {
		w.wishes = map[uint64]*wish{}
	}
	w.wishes[seq] = &wish{arrived: make(chan struct{})}
	w.order = append(w.order, seq)
	w.signal()
}
