package prompt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/prompt/prompttest"
)

func typed(t *testing.T, master *os.File, text string) {
	t.Helper()
	if _, err := io.WriteString(master, text); err != nil {
		t.Fatal(err)
	}
}

func TestAskTakesTheAnswerOrTheFallback(t *testing.T) {
	master, terminal := prompttest.Open(t)
	var out bytes.Buffer
	term := New(terminal, &out)
	if !term.Interactive() {
		t.Fatal("a terminal is not taken for one")
	}
	typed(t, master, " anna.example \n\n")
	for _, want := range []string{"anna.example", "fallback"} {
		if got, err := term.Ask(t.Context(), "Domain", "fallback"); err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	if got := out.String(); got != "Domain [fallback]: Domain [fallback]: " {
		t.Errorf("asked %q", got)
	}
}

func TestSecretShowsNothingAndPutsEchoBack(t *testing.T) {
	master, terminal := prompttest.Open(t)
	term := New(terminal, io.Discard)
	before, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	typed(t, master, "two words\n")
	got, err := term.Secret(t.Context(), "Passphrase")
	if err != nil || string(got) != "two words" {
		t.Errorf("got %q, %v", got, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := term.Secret(ended, "Passphrase"); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	after, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil || after.Lflag != before.Lflag || after.Lflag&unix.ECHO == 0 {
		t.Errorf("echo: %x before, %x after, %v", before.Lflag, after.Lflag, err)
	}
}

func TestNoTerminalIsNeverAsked(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), w.Close()); err != nil {
			t.Error(err)
		}
	})
	for _, in := range []io.Reader{strings.NewReader("x\n"), r} {
		term := New(in, io.Discard)
		if _, err := term.Ask(t.Context(), "Domain", ""); !errors.Is(err, ErrNoTerminal) || term.Interactive() {
			t.Errorf("%T: %v", in, err)
		}
		term.Say("nobody hears %s", "this")
	}
}

func TestFirstLine(t *testing.T) {
	for in, want := range map[string]string{"a b\nc\n": "a b", "a": "a", "a\r\n": "a", "": "", " kept \n": " kept "} {
		if got, err := FirstLine(strings.NewReader(in)); err != nil || string(got) != want {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
	for _, in := range []string{strings.Repeat("x", MaxLine+1), strings.Repeat("x", MaxLine*3), "a\x00b\n"} {
		if _, err := FirstLine(strings.NewReader(in)); err == nil {
			t.Errorf("%.20q (%d bytes) was taken", in, len(in))
		}
	}
	if got, err := FirstLine(strings.NewReader(strings.Repeat("x", MaxLine) + "\n")); err != nil || len(got) != MaxLine {
		t.Errorf("the longest line: %d bytes, %v", len(got), err)
	}
}

func TestSources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file, empty := write("file", "from file\nsecond\n"), write("empty", "\n")
	write("passphrase", "from credentials\n")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	typed(t, w, "from fd\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(r.Fd())) // Read closes what it is given
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		source Source
		want   string
		err    error
	}{
		{Source{FD: fd, File: file, Credentials: dir}, "from fd", nil},
		{Source{FD: -1, File: file, Credentials: dir}, "from file", nil},
		{Source{FD: -1, Credentials: dir}, "from credentials", nil},
		{Source{FD: -1, File: dir + "/missing", Credentials: dir}, "", fs.ErrNotExist},
		{Source{FD: -1, Credentials: dir + "/missing"}, "", ErrNoSource},
		{Source{FD: -1}, "", ErrNoSource},
	} {
		got, err := c.source.Read()
		if string(got) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%+v: got %q, %v", c.source, got, err)
		}
	}
	if _, err := (Source{FD: -1, File: empty}).Read(); err == nil {
		t.Error("an empty passphrase was taken")
	}
}

func TestSaveNeverReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	if err := Save(path, []byte("eight words")); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, []byte("other")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second save: %v", err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "eight words\n" {
		t.Errorf("%q, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func FuzzFirstLine(f *testing.F) {
	f.Add([]byte("a b c\nd"))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := FirstLine(bytes.NewReader(in))
		if err == nil && (len(got) > MaxLine || bytes.ContainsAny(got, "\n\x00")) {
			t.Errorf("%q became %q", in, got)
		}
	})
}
