package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
)

// Bounds of what is read.
const (
	maxRequest  = 64 << 10
	maxAnswer   = 64 << 20
	requestTime = 10 * time.Second
)

// ErrNobody says that no node listens on the socket.
var ErrNobody = errors.New("no node runs there")

// Request is what a command asks for.
type Request struct {
	Op   string   `json:"op"`
	Args []string `json:"args,omitempty"`
}

type answer struct {
	Data  json.RawMessage `json:"data,omitempty"`
	Code  fault.Code      `json:"code,omitempty"`
	Error string          `json:"error,omitempty"`
	Next  string          `json:"next,omitempty"`
}

// Handler does what r asks for. Its result is sent as JSON, its error with the code that fault finds in it. ctx ends when the asker goes away or
// the node stops.
type Handler func(ctx context.Context, r Request) (any, error)

// Server is a listening control socket.
type Server struct {
	listener *net.UnixListener
	path     string
}

// Listen makes the socket at path, in place of one that a dead node left. Whoever calls it holds the lock of the state directory.
func Listen(path string) (*Server, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var l *net.UnixListener
	err := at(path, func(short string) error {
		var err error
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // the short name is gone by then; the next node removes the socket
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &Server{listener: l, path: path}, nil
}

// at calls fn with a name of path that fits a socket address.
func at(path string, fn func(short string) error) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = fn(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
	return errors.Join(err, dir.Close())
}

// Serve answers until ctx ends, then waits for the handlers under way and removes the socket.
func (s *Server) Serve(ctx context.Context, handle Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	var handlers sync.WaitGroup
	defer handlers.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = s.listener.Close() }) // Close below reports
	defer stop()
	defer func() { _ = os.Remove(s.path) }() // one that stays is taken for what it is: dead
	for {
		conn, err := s.listener.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				err = conn.Close()
			}
			if errors.Is(err, net.ErrClosed) {
				err = nil
			}
			return err
		}
		if err != nil {
			return errors.Join(err, s.listener.Close())
		}
		handlers.Go(func() { serveOne(ctx, conn, handle) })
	}
}

// errEnding answers who asks a node that ends, and whose request that cut off.
var errEnding = fault.New(fault.Busy, "ask again when it has ended", "the node is ending")

// serveOne answers one request. Nobody is left to tell when the connection fails, so its errors end here.
func serveOne(ctx context.Context, conn *net.UnixConn, handle Handler) {
	defer func() { _ = conn.Close() }()
	node := ctx
	ctx, cancel := context.WithCancel(node)
	defer cancel()
	interrupt := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer interrupt()
	if pid, uid, err := peer(conn); err != nil || (uid != os.Getuid() && uid != 0) {
		send(conn, answer{Code: fault.Failed, Error: fmt.Sprintf("the node of another user does not answer uid %d (pid %d)", uid, pid)})
		return
	}
	if err := conn.SetReadDeadline(time.Now().Add(requestTime)); err != nil {
		return
	}
	in := bufio.NewReader(conn)
	var r Request
	if err := readLine(in, maxRequest, &r); err != nil {
		send(conn, answer{Code: fault.Failed, Error: "control request: " + fault.OneLine(err.Error())})
		return
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return
	}
	if node.Err() != nil {
		send(conn, encode(nil, errEnding))
		return
	}
	var watcher sync.WaitGroup
	watcher.Go(func() { // the asker sends nothing more: a read ends when it goes away, or with interrupt
		_, _ = in.ReadByte()
		cancel()
	})
	data, err := handle(ctx, r)
	if node.Err() != nil && errors.Is(err, context.Canceled) {
		err = errEnding
	}
	send(conn, encode(data, err))
	cancel()
	watcher.Wait()
}

func encode(data any, err error) answer {
	if err == nil {
		var raw []byte
		if raw, err = json.Marshal(data); err == nil {
			return answer{Data: raw}
		}
	}
	var a answer
	a.Code, a.Error, a.Next = fault.Parts(err)
	return a
}

func send(conn *net.UnixConn, a answer) {
	line, err := json.Marshal(a)
	if err == nil {
		_, _ = conn.Write(append(line, '\n'))
	}
}

// Do asks the node behind the socket at path and decodes what it sends into out, unless out is nil. ErrNobody: no node listens. A
// refusal of the node comes back as a *fault.Error.
func Do(ctx context.Context, path string, r Request, out any) error {
	conn, err := dial(path)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("asking the node: %w", err))
	}
	var a answer
	if err := readLine(bufio.NewReader(conn), maxAnswer, &a); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("the node went away without an answer: %w", err)
	}
	if a.Code != fault.Done || a.Error != "" {
		return &fault.Error{Code: a.Code, Err: errors.New(a.Error), Next: a.Next}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(a.Data, out)
}

// PID returns the process that listens on the socket at path: ErrNobody if none does, or it was killed.
func PID(path string) (int, error) {
	conn, err := dial(path)
	if err != nil {
		return 0, err
	}
	pid, _, err := peer(conn)
	return pid, errors.Join(err, conn.Close())
}

// Killed returns the process that listens on the socket at path, if it was killed and cannot end: the kernel holds one of its threads.
func Killed(path string) (pid int, ok bool) {
	conn, err := connect(path)
	if err != nil {
		return 0, false
	}
	pid, _, err = peer(conn)
	ok = err == nil && ending(pid)
	return pid, errors.Join(err, conn.Close()) == nil && ok
}

// ending says whether a process was killed: its first thread is a zombie or has SIGKILL (9) before it (proc_pid_status(5)).
func ending(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		switch field, value, _ := strings.Cut(strings.TrimSpace(line), ":\t"); field {
		case "State":
			if strings.HasPrefix(value, "Z") || strings.HasPrefix(value, "X") {
				return true
			}
		case "SigPnd", "ShdPnd":
			if set, err := strconv.ParseUint(value, 16, 64); err == nil && set&(1<<(unix.SIGKILL-1)) != 0 {
				return true
			}
		}
	}
	return false
}

// dial connects to a node that may answer.
func dial(path string) (*net.UnixConn, error) {
	conn, err := connect(path)
	if err != nil {
		return nil, err
	}
	if pid, _, err := peer(conn); err == nil && ending(pid) {
		return nil, errors.Join(ErrNobody, conn.Close())
	}
	return conn, nil
}

func connect(path string) (*net.UnixConn, error) {
	var conn *net.UnixConn
	err := at(path, func(short string) error {
		var err error
		conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: short, Net: "unix"})
		return err
	})
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return nil, ErrNobody
	case err != nil:
		return nil, fmt.Errorf("reaching the node: %w", err)
	}
	return conn, nil
}

// peer returns the process at the other end and its user.
func peer(conn *net.UnixConn) (pid, uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, -1, err
	}
	var cred *unix.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) { cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, -1, err
	}
	if inner != nil {
		return 0, -1, inner
	}
	return int(cred.Pid), int(cred.Uid), nil
}

// readLine decodes one line of at most limit bytes into v.
func readLine(r *bufio.Reader, limit int, v any) error {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return fmt.Errorf("longer than %d bytes", limit)
		}
		line = append(line, part...)
		if err == nil {
			return json.Unmarshal(line, v)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
}
