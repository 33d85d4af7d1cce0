package record

import (
	"strings"
	"testing"
	"unicode/utf8"

	"hyphafs.org/hyphafs/drive/hypercore"
)

func TestCleanName(t *testing.T) {
	for in, want := range map[string]string{
		"Laptop":              "Laptop",
		"  a \t\n b ":         "a b",
		"../../etc":           "....etc",
		"..":                  "unnamed",
		"":                    "unnamed",
		"a\u202eb\u2066c\x1b": "abc",
		"\xff\xfe":            "unnamed",
		"naïve ☕":             "naïve ☕",
	} {
		if got := CleanName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := CleanName(strings.Repeat("ü", 500)); utf8.RuneCountInString(got) != maxLabel {
		t.Errorf("%d runes", utf8.RuneCountInString(got))
	}
}

func TestNodeDir(t *testing.T) {
	for in, want := range map[string]string{
		"Laptop": "laptop", "Anna's  PC!": "anna-s-pc", "☕": "node", "--x--": "x", strings.Repeat("ab ", 40): strings.TrimSuffix(strings.Repeat("ab-", 11), "-"),
	} {
		if got := Slug(in); got != want || len(got) > maxSlug {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := NodeDir("Laptop", hypercore.Key{1}); len(got) != len("laptop-01234567") {
		t.Error(got)
	}
}

func FuzzCleanName(f *testing.F) {
	f.Add("a/b\u202e\x00")
	f.Fuzz(func(t *testing.T, s string) {
		c := CleanName(s)
		if c == "" || c == "." || c == ".." || strings.ContainsAny(c, "/\x00\n\x1b") || utf8.RuneCountInString(c) > maxLabel || CleanName(c) != c {
			t.Fatalf("%q became %q, %q", s, c, CleanName(c))
		}
		if d := NodeDir(s, hypercore.Key{}); strings.Trim(d, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			t.Fatalf("%q", d)
		}
	})
}
