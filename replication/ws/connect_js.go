package ws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall/js"
	"time"

	"hyphafs.org/hyphafs/replication"
)

const (
	maxBuffered = 512 << 10             // bytes the browser has taken and not sent, above which a Write waits
	pollTime    = 10 * time.Millisecond // the browser does not tell when it has sent some
)

// connect opens a WebSocket of the browser. Why it fails, the browser does not tell.
func connect(ctx context.Context, address string) (_ replication.Conn, err error) {
	class := js.Global().Get("WebSocket")
	if class.Type() != js.TypeFunction {
		return nil, errors.New("there is no WebSocket here")
	}
	defer func() {
		if thrown := recover(); thrown != nil { // a page of https asks for ws, or the port is one that browsers refuse
			err = fmt.Errorf("WebSocket: %v", thrown)
		}
	}()
	c := &conn{socket: class.New(address), opened: make(chan struct{}), closed: make(chan struct{}), arrived: make(chan struct{}, 1), listeners: map[string]js.Func{}}
	c.socket.Set("binaryType", "arraybuffer")
	c.listen("open", func(js.Value) { close(c.opened) })
	c.listen("message", c.receive)
	c.listen("close", func(js.Value) { c.end() })
	c.listen("error", func(js.Value) { c.end() }) // close follows, but not everywhere
	select {
	case <-c.opened:
		return c, nil
	case <-c.closed:
		return nil, errors.New("no WebSocket came about")
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), c.Close())
	}
}

// conn is a WebSocket of the browser as a stream of bytes. The session that reads bounds what is under way, so nothing else bounds what waits in received.
type conn struct {
	socket  js.Value
	opened  chan struct{}
	closed  chan struct{} // closed once, by end
	arrived chan struct{} // cap 1: received or text changed
	over    sync.Once

	mu        sync.Mutex         // guards what follows; held over nothing
	listeners map[string]js.Func // by event
	received  [][]byte
	text      bool // the peer sent text
}

func (c *conn) listen(event string, do func(js.Value)) {
	f := js.FuncOf(func(_ js.Value, args []js.Value) any { do(args[0]); return nil })
	c.socket.Call("addEventListener", event, f)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listeners[event] = f
}

// receive takes a message. It must not wait: nothing else runs in the browser meanwhile.
func (c *conn) receive(event js.Value) {
	data := event.Get("data")
	c.mu.Lock()
	if data.Type() == js.TypeString {
		c.text = true
	} else {
		bytes := js.Global().Get("Uint8Array").New(data)
		message := make([]byte, bytes.Length())
		js.CopyBytesToGo(message, bytes)
		c.received = append(c.received, message)
	}
	c.mu.Unlock()
	select {
	case c.arrived <- struct{}{}:
	default:
	}
}

func (c *conn) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		for len(c.received) > 0 {
			n := copy(p, c.received[0])
			if c.received[0] = c.received[0][n:]; len(c.received[0]) == 0 {
				c.received = c.received[1:]
			}
			if n > 0 {
				c.mu.Unlock()
				return n, nil
			}
		}
		text := c.text
		c.mu.Unlock()
		if text {
			return 0, errors.New("peer sent text where bytes were expected")
		}
		select {
		case <-c.arrived:
			continue
		default:
		}
		select {
		case <-c.arrived:
		case <-c.closed:
			return 0, io.EOF
		}
	}
}

func (c *conn) Write(p []byte) (int, error) {
	for c.socket.Get("bufferedAmount").Int() > maxBuffered {
		select {
		case <-c.closed:
			return 0, io.ErrClosedPipe
		case <-time.After(pollTime):
		}
	}
	select {
	case <-c.closed:
		return 0, io.ErrClosedPipe
	default:
	}
	bytes := js.Global().Get("Uint8Array").New(len(p))
	js.CopyBytesToJS(bytes, p)
	c.socket.Call("send", bytes)
	return len(p), nil
}

// Close does not wait for the peer.
func (c *conn) Close() error {
	c.socket.Call("close")
	c.end()
	return nil
}

// end lets everybody go who waits.
func (c *conn) end() {
	c.over.Do(func() {
		close(c.closed)
		c.mu.Lock()
		defer c.mu.Unlock()
		for event, f := range c.listeners {
			c.socket.Call("removeEventListener", event, f)
			f.Release()
		}
	})
}
