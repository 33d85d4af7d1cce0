package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestErrorIsOneLineWithTheNextStep(t *testing.T) {
	err := New(Busy, "stop it first", "mount %s: %w", "/x", errors.Join(io.EOF, io.ErrClosedPipe))
	if got, want := err.Error(), "mount /x: EOF, io: read/write on closed pipe; stop it first"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Error("the cause is lost")
	}
	if got := (&Error{Code: NotApproved}).Error(); got != "" {
		t.Errorf("a bare code says %q", got)
	}
}

func TestCodeOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Code
	}{
		{nil, Done},
		{io.EOF, Failed},
		{New(Damaged, "", "x"), Damaged},
		{fmt.Errorf("wrapped: %w", New(WrongPassphrase, "", "x")), WrongPassphrase},
	} {
		if got := CodeOf(c.err); got != c.want {
			t.Errorf("%v: got %d, want %d", c.err, got, c.want)
		}
	}
}

func TestParts(t *testing.T) {
	inner := New(Busy, "wait", "a\nb")
	for _, c := range []struct {
		err        error
		text, next string
	}{{inner, "a, b", "wait"}, {fmt.Errorf("x: %w", inner), "x: a, b; wait", ""}, {io.EOF, "EOF", ""}} {
		code, text, next := Parts(c.err)
		if code != CodeOf(c.err) || text != c.text || next != c.next {
			t.Errorf("%v: %d %q %q", c.err, code, text, next)
		}
	}
}

// TestCodesAreThoseOfTheContract keeps the numbers that scripts rely on.
func TestCodesAreThoseOfTheContract(t *testing.T) {
	for want, code := range []Code{Done, Failed, Usage, NotApproved, NotRunning, WrongPassphrase, Busy, Damaged} {
		if int(code) != want {
			t.Errorf("code %d became %d", want, code)
		}
	}
}
