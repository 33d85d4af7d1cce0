// Package prompttest gives tests a terminal.
package prompttest

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Open opens a pseudo-terminal until the test ends: what is written to keyboard is typed at terminal, what the terminal shows is read from
// keyboard. Without pseudo-terminals the test is skipped.
func Open(t testing.TB) (keyboard, terminal *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, keyboard.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno != 0 {
		t.Skipf("no other end of the pseudo-terminal: %v", errno)
	}
	terminal = os.NewFile(fd, "terminal")
	t.Cleanup(func() {
		if err := errors.Join(terminal.Close(), keyboard.Close()); err != nil {
			t.Error(err)
		}
	})
	return keyboard, terminal
}
