// Package prompt asks a person on a terminal and finds the passphrase, wherever it comes from. It knows no node and no key;
// what it reads is handed on as bytes that their taker wipes.
//
// A terminal is asked only when standard input is one: a script never waits for an answer, it gets exit code 2. Echo is off while a
// passphrase is typed and is put back however the prompt ends, also by a signal: the wait is a poll(2) on the terminal and on a
// pipe that the end of the context writes to, so no goroutine is left reading.
package prompt

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// MaxLine bounds what is taken as one answer or passphrase, in bytes.
const MaxLine = 4096

// ErrNoTerminal says that there is nobody to ask.
var ErrNoTerminal = errors.New("standard input is not a terminal")

// Terminal is a terminal that can be asked. The zero value is none.
type Terminal struct {
	in  *os.File
	out io.Writer
}

// New returns the terminal behind in, which asks on out; without one every question gets ErrNoTerminal.
func New(in io.Reader, out io.Writer) Terminal {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return Terminal{}
	}
	return Terminal{in: f, out: out}
}

// Interactive reports whether somebody can be asked.
func (t Terminal) Interactive() bool { return t.in != nil }

// Say shows a line to the person.
func (t Terminal) Say(format string, args ...any) {
	if t.in != nil {
		fmt.Fprintf(t.out, format+"\n", args...)
	}
}

// Ask returns the answer to question, trimmed; an empty one means fallback.
func (t Terminal) Ask(ctx context.Context, question, fallback string) (string, error) {
	if fallback != "" {
		question += " [" + fallback + "]"
	}
	line, err := t.line(ctx, question+": ", true)
	if err != nil {
		return "", err
	}
	if answer := strings.TrimSpace(string(line)); answer != "" {
		return answer, nil
	}
	return fallback, nil
}

// Secret returns what is typed without showing it. The caller owns the bytes.
func (t Terminal) Secret(ctx context.Context, question string) ([]byte, error) {
	return t.line(ctx, question+": ", false)
}

func (t Terminal) line(ctx context.Context, question string, echo bool) ([]byte, error) {
	if t.in == nil {
		return nil, ErrNoTerminal
	}
	fd := int(t.in.Fd())
	if !echo {
		old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return nil, err
		}
		quiet := *old
		quiet.Lflag &^= unix.ECHO
		quiet.Lflag |= unix.ICANON | unix.ISIG
		quiet.Iflag |= unix.ICRNL
		if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
			return nil, err
		}
		defer func() {
			_ = unix.IoctlSetTermios(fd, unix.TCSETS, old) // the terminal is gone if this fails
			fmt.Fprintln(t.out)
		}()
	}
	fmt.Fprint(t.out, question)
	if err := wait(ctx, fd); err != nil {
		return nil, err
	}
	buf := make([]byte, MaxLine+1)
	n, err := t.in.Read(buf) // a terminal gives one whole line
	if err != nil && (!errors.Is(err, io.EOF) || n == 0) {
		return nil, fmt.Errorf("no answer: %w", err)
	}
	return cut(buf[:n])
}

// wait returns when fd can be read or ctx ended.
func wait(ctx context.Context, fd int) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_, _ = w.Write([]byte{0}) // wakes the poll; the reader is this function's own
	})
	defer func() {
		if !stop() {
			<-done
		}
		_ = r.Close()
		_ = w.Close()
	}()
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(r.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if fds[0].Revents != 0 {
			return nil
		}
	}
}

// FirstLine reads the first line of r without its end. It reads no more than it must bound: MaxLine bytes and a little.
func FirstLine(r io.Reader) ([]byte, error) {
	line, err := bufio.NewReaderSize(io.LimitReader(r, MaxLine+2), MaxLine+2).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return cut(line)
}

// cut returns line without its end; it is clipped, so that the caller's bytes end where the line does.
func cut(line []byte) ([]byte, error) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) > MaxLine {
		return nil, fmt.Errorf("the line is longer than %d bytes", MaxLine)
	}
	if bytes.IndexByte(line, 0) >= 0 {
		return nil, errors.New("the line holds a NUL byte")
	}
	return line[:len(line):len(line)], nil
}
