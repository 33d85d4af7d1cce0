package record

import (
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/blake2b"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// maxLabel bounds a node's name as it is shown, in runes; maxSlug the part of it in a directory's name, in bytes.
const (
	maxLabel = 64
	maxSlug  = 32
)

// Fingerprint names a writer to people and programs: 32 hex digits of BLAKE2b-256 over its feed key.
func Fingerprint(feed hypercore.Key) string {
	sum := blake2b.Sum256(feed[:])
	return hex.EncodeToString(sum[:16])
}

// CleanName makes a name that another node gave fit to be shown: no '/', control, format or bidirectional characters, single spaces, at most
// 64 runes, and never empty, "." or "..".
func CleanName(name string) string {
	var b strings.Builder
	runes := 0
	for _, r := range strings.ToValidUTF8(name, "�") {
		if unicode.IsSpace(r) {
			r = ' '
		}
		if r == '/' || r == utf8.RuneError || r != ' ' && !unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r) || unicode.Is(unicode.Cf, r) {
			continue
		}
		if runes++; runes > maxLabel {
			break
		}
		b.WriteRune(r)
	}
	clean := strings.Join(strings.Fields(b.String()), " ")
	if strings.Trim(clean, ".") == "" {
		return "unnamed"
	}
	return clean
}

// Slug is the part of a name that stands in a directory's name: [a-z0-9-], at most 32 characters, "node" if nothing is left.
func Slug(name string) string {
	var b strings.Builder
	gap := false
	for _, r := range strings.ToLower(name) {
		if r < utf8.RuneSelf && (unicode.IsDigit(r) || unicode.IsLower(r)) {
			if gap && b.Len() > 0 {
				b.WriteByte('-')
			}
			gap = false
			b.WriteRune(r)
		} else {
			gap = true
		}
		if b.Len() >= maxSlug {
			break
		}
	}
	slug := strings.Trim(b.String()[:min(b.Len(), maxSlug)], "-")
	if slug == "" {
		return "node"
	}
	return slug
}

// NodeDir is the name of a node's directory under pending and nodes: slug, dash, first 8 hex digits of the fingerprint.
func NodeDir(name string, feed hypercore.Key) string { return Slug(name) + "-" + Fingerprint(feed)[:8] }
