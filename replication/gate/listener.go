package gate

import (
	"log/slog"
	"net"
)

// Listener lets a net.Listener accept only what its Gate lets in; further connections are closed at once. A connection gives its place back when it is closed.
type Listener struct {
	net.Listener
	Gate *Gate
	Log  *slog.Logger
}

// Accept returns the next connection that the gate lets in.
func (l Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		leave, err := l.Gate.Enter(conn.RemoteAddr().String())
		if err == nil {
			return &placed{conn, leave}, nil
		}
		l.Log.Warn("connection refused", "peer", conn.RemoteAddr(), "err", err)
		conn.Close() // it was told nothing yet
	}
}

// placed is a connection that has a place.
type placed struct {
	net.Conn
	leave func()
}

func (p *placed) Close() error {
	p.leave()
	return p.Conn.Close()
}
