package replication

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"hyphafs.org/hyphafs/replication/wire"
)

const (
	highWater  = 512 << 10 // bytes in the outbox above which answers wait
	writePiece = 256 << 10 // bytes given to the connection at once
	keptBuffer = 16 << 10  // bytes of a buffer that is kept although little is sent
)

// outbox holds what the owner of a session wants sent until its writer has sent it.
type outbox struct {
	wake chan struct{} // cap 1: there is something to send
	room chan struct{} // cap 1: something was sent

	mu     sync.Mutex
	buf    []byte
	clear  int          // of buf, not encrypted: the first frame
	cipher *wire.Cipher // nil: in the clear

	sent     atomic.Uint64 // bytes
	progress atomic.Int64  // when something was last given to the connection, or when there was nothing to give; unix ns
	busy     atomic.Bool   // the writer holds bytes
}

func newOutbox() *outbox {
	return &outbox{wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// begin puts the first frame in, and the cipher that encrypts everything behind it.
func (o *outbox) begin(first []byte, cipher *wire.Cipher) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf, o.clear, o.cipher = append(o.buf, first...), len(first), cipher
	signal(o.wake)
}

// add appends what frame appends.
func (o *outbox) add(frame func(dst []byte) []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = frame(o.buf)
	signal(o.wake)
}

// size returns how many bytes wait.
func (o *outbox) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf)
}

// write sends until ctx ends or the connection fails.
func (o *outbox) write(ctx context.Context, conn io.Writer, now func() time.Time) error {
	var buf []byte
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-o.wake:
		}
		o.mu.Lock()
		if cap(buf) > 2*highWater || cap(buf) > keptBuffer && len(buf) < cap(buf)/8 {
			buf = nil
		}
		buf, o.buf = o.buf, buf[:0]
		if o.cipher != nil {
			o.cipher.XOR(buf[o.clear:])
		}
		o.clear = 0
		o.mu.Unlock()
		o.progress.Store(now().UnixNano())
		o.busy.Store(len(buf) > 0)
		for rest := buf; len(rest) > 0; {
			n, err := conn.Write(rest[:min(len(rest), writePiece)])
			o.sent.Add(uint64(n))
			if err != nil {
				return err
			}
			rest = rest[n:]
			o.progress.Store(now().UnixNano())
		}
		o.busy.Store(false)
		signal(o.room)
	}
}

// signal wakes whoever waits on ch, a channel of cap 1.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it has not looked since the last one
	}
}
