//go:build !js

package ws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"hyphafs.org/hyphafs/replication"
)

const (
	bufferSize = 4 << 10                // bytes, of the header and the pieces a message is masked in
	byeTime    = 100 * time.Millisecond // for telling the peer that this is the end
)

// dialer connects as package doc says.
func dialer() *websocket.Dialer {
	return &websocket.Dialer{Proxy: http.ProxyFromEnvironment, ReadBufferSize: bufferSize, WriteBufferSize: bufferSize}
}

// connect opens a WebSocket.
func connect(ctx context.Context, address string) (replication.Conn, error) {
	socket, answer, err := dialer().DialContext(ctx, address, nil)
	switch {
	case err == nil:
		return &conn{socket: socket}, nil
	case answer == nil:
		return nil, err
	case answer.StatusCode == http.StatusNotFound:
		return nil, ErrUnknown
	}
	return nil, fmt.Errorf("the peer answers with HTTP status %d instead of a WebSocket", answer.StatusCode)
}

// conn is a WebSocket as a stream of bytes. One Read and one Write may run at once, and Close at any time.
type conn struct {
	socket  *websocket.Conn
	message io.Reader // what is left of a message; of Read
	writing atomic.Bool
}

func (c *conn) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			kind, message, err := c.socket.NextReader()
			if err != nil {
				return 0, ended(err)
			}
			if kind != websocket.BinaryMessage {
				return 0, errors.New("peer sent text where bytes were expected")
			}
			c.message = message
		}
		n, err := c.message.Read(p)
		if errors.Is(err, io.EOF) {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, ended(err)
		}
	}
}

// ended is io.EOF for an end in order.
func ended(err error) error {
	if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived) {
		return io.EOF
	}
	return err
}

func (c *conn) Write(p []byte) (int, error) {
	c.writing.Store(true)
	defer c.writing.Store(false)
	if err := c.socket.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close tells the peer, unless a Write is under way, which it ends.
func (c *conn) Close() error {
	if !c.writing.Load() {
		bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = c.socket.WriteControl(websocket.CloseMessage, bye, time.Now().Add(byeTime)) // it sees the end of the connection anyway
	}
	return c.socket.Close()
}
