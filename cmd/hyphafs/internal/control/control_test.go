package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs handle behind a socket with a path longer than a socket address, until the test ends.
func serve(t *testing.T, handle Handler) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "control.sock")
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, handle) }() // the cleanup waits for it
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return path
}

func TestDoBringsBackTheAnswer(t *testing.T) {
	path := serve(t, func(_ context.Context, r Request) (any, error) { return append(r.Args, r.Op), nil })
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	var got []string
	if err := Do(t.Context(), path, Request{Op: "x", Args: []string{"a", "b"}}, &got); err != nil || !reflect.DeepEqual(got, []string{"a", "b", "x"}) {
		t.Errorf("got %q, %v", got, err)
	}
	if err := Do(t.Context(), path, Request{Op: "x"}, nil); err != nil {
		t.Error(err)
	}
	if pid, err := PID(path); err != nil || pid != os.Getpid() {
		t.Errorf("pid %d, %v", pid, err)
	}
}

func TestErrorsKeepCodeAndNext(t *testing.T) {
	for _, c := range []struct {
		err  error
		code fault.Code
		text string
	}{
		{fault.New(fault.Busy, "close it", "mount: %w", io.EOF), fault.Busy, "mount: EOF; close it"},
		{fmt.Errorf("approve: %w", fault.New(fault.NotApproved, "wait", "no")), fault.NotApproved, "approve: no; wait"},
		{errors.New("two\nlines"), fault.Failed, "two, lines"},
	} {
		path := serve(t, func(context.Context, Request) (any, error) { return nil, c.err })
		err := Do(t.Context(), path, Request{Op: "x"}, nil)
		if err == nil || err.Error() != c.text || fault.CodeOf(err) != c.code {
			t.Errorf("got %v (%d), want %q (%d)", err, fault.CodeOf(err), c.text, c.code)
		}
	}
}

func TestNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	if err := Do(t.Context(), path, Request{}, nil); !errors.Is(err, ErrNobody) {
		t.Errorf("no socket: %v", err)
	}
	if err := Do(t.Context(), filepath.Join(path, "missing", "s"), Request{}, nil); !errors.Is(err, ErrNobody) {
		t.Errorf("no directory: %v", err)
	}
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.listener.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := PID(path); !errors.Is(err, ErrNobody) {
		t.Errorf("dead socket: %v", err)
	}
	again, err := Listen(path)
	if err != nil {
		t.Fatalf("in place of a dead socket: %v", err)
	}
	if err := again.listener.Close(); err != nil {
		t.Error(err)
	}
}

func TestTheEndOfTheAskerEndsTheHandler(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan struct{})
	path := serve(t, func(ctx context.Context, _ Request) (any, error) {
		close(entered)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if err := Do(ctx, path, Request{Op: "wait"}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-ended
}

// TestTheEndOfTheNodeEndsTheHandler: who asked gets what the handler then says, and if it only says that it was cut off, why.
func TestTheEndOfTheNodeEndsTheHandler(t *testing.T) {
	for _, c := range []struct {
		says func(cut error) error
		want string
		code fault.Code
	}{
		{func(error) error { return errors.New("stopping") }, "stopping", fault.Failed},
		{func(cut error) error { return fmt.Errorf("checking: %w", cut) }, "the node is ending; ask again when it has ended", fault.Busy},
	} {
		path := filepath.Join(t.TempDir(), "control.sock")
		s, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served, asked := make(chan error, 1), make(chan error, 1)
		go func() {
			served <- s.Serve(ctx, func(inner context.Context, _ Request) (any, error) {
				cancel()
				<-inner.Done()
				return nil, c.says(inner.Err())
			})
		}()
		go func() { asked <- Do(t.Context(), path, Request{Op: "wait"}, nil) }()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
		if err := <-asked; err == nil || err.Error() != c.want || fault.CodeOf(err) != c.code {
			t.Errorf("the asker got %v, code %d; want %s, code %d", err, fault.CodeOf(err), c.want, c.code)
		}
	}
}

func TestBadRequests(t *testing.T) {
	path := serve(t, func(context.Context, Request) (any, error) { return "reached", nil })
	for _, text := range []string{"\n", "{\n", `{"op":1}` + "\n", strings.Repeat("x", maxRequest+1) + "\n"} {
		conn, err := dial(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, text); err != nil && len(text) < maxRequest {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if !strings.Contains(line, `"code":1`) && err == nil {
			t.Errorf("%.20q: %q, %v", text, line, err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// FuzzReadLine: a request, and an answer, that is taken is the first line, no longer than it may be, however it comes.
func FuzzReadLine(f *testing.F) {
	f.Add(`{"op":"approve","args":["laptop-01234567"]}` + "\n")
	f.Add(`{"data":{"pid":1},"code":3,"error":"why","next":"what"}` + "\n")
	f.Fuzz(func(t *testing.T, in string) {
		line, _, whole := strings.Cut(in, "\n")
		for _, to := range []any{&Request{}, &answer{}} {
			err := readLine(bufio.NewReaderSize(strings.NewReader(in), 16), 100, to)
			if want := whole && len(line) < 100 && json.Unmarshal([]byte(line), to) == nil; want != (err == nil) {
				t.Fatalf("%q: %v", in, err)
			}
		}
	})
}
