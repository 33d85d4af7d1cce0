package main

import (
	"strconv"
	"strings"
	"testing"
)

// read undoes word as systemd does: quotes, escapes, %% and $$.
func read(t *testing.T, s string) string {
	t.Helper()
	inner, quoted := strings.CutPrefix(s, `"`)
	if !quoted {
		return s
	}
	inner, ended := strings.CutSuffix(inner, `"`)
	if !ended {
		t.Fatalf("no end: %s", s)
	}
	var b strings.Builder
	for i := 0; i < len(inner); i++ {
		switch c := inner[i]; {
		case c == '"':
			t.Fatalf("a quote inside: %s", s)
		case c == '\\' && strings.HasPrefix(inner[i:], `\x`) && i+4 <= len(inner):
			n, err := strconv.ParseUint(inner[i+2:i+4], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			b.WriteByte(byte(n))
			i += 3
		case c == '\\' || c == '%' || c == '$':
			i++
			if i == len(inner) || c != '\\' && inner[i] != c {
				t.Fatalf("a bare %c: %s", c, s)
			}
			b.WriteByte(inner[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// FuzzWord: whatever an argument holds, systemd reads it as it was, in one line.
func FuzzWord(f *testing.F) {
	f.Add("--domain=anna.example")
	f.Add("a \"b\" \\ $HOME %h\n\tü")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		line := word(s)
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("%q is written %q", s, line)
		}
		if got := read(t, line); got != s {
			t.Fatalf("%q is read as %q", s, got)
		}
	})
}
