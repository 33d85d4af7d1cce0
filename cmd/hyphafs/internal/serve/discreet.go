package serve

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
)

// discreet keeps addresses and keys out of a log. In their place stands a word that is the same throughout one run and can be traced back to nobody. At debug level
// addresses stay.
type discreet struct {
	slog.Handler
	words words
}

func newDiscreet(h slog.Handler) discreet {
	var w words
	_, _ = rand.Read(w.salt[:]) // it never fails
	w.keys = regexp.MustCompile(`[0-9a-fA-F]{64}`)
	w.addresses = regexp.MustCompile(`\[[0-9a-fA-F:.]+(%\w+)?\]:\d+|[0-9a-fA-F]*:[0-9a-fA-F:.]*[0-9a-fA-F]|\d+\.\d+\.\d+\.\d+(:\d+)?`)
	return discreet{h, w}
}

// Handle passes on a record without keys, and without addresses from info level on.
func (d discreet) Handle(ctx context.Context, r slog.Record) error {
	clean := d.words.hideKeys
	if r.Level >= slog.LevelInfo {
		clean = d.words.hide
	}
	out := slog.NewRecord(r.Time, r.Level, clean(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(cleaned(a, clean))
		return true
	})
	return d.Handler.Handle(ctx, out)
}

// WithAttrs hides addresses too, since the level is not known yet.
func (d discreet) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		out[i] = cleaned(a, d.words.hide)
	}
	return discreet{d.Handler.WithAttrs(out), d.words}
}

// WithGroup is slog.Handler.
func (d discreet) WithGroup(name string) slog.Handler {
	return discreet{d.Handler.WithGroup(name), d.words}
}

// cleaned applies clean to everything in a that becomes text.
func cleaned(a slog.Attr, clean func(string) string) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return slog.String(a.Key, clean(v.String()))
	case slog.KindAny:
		if v.Any() == nil {
			return a
		}
		return slog.String(a.Key, clean(fmt.Sprint(v.Any())))
	case slog.KindGroup:
		group := v.Group()
		out := make([]slog.Attr, len(group))
		for i, inner := range group {
			out[i] = cleaned(inner, clean)
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(out...)}
	}
	return a
}

// words replace what is not to be read.
type words struct {
	salt            [16]byte
	keys, addresses *regexp.Regexp
}

func (w words) word(kind, of string) string {
	sum := sha256.Sum256(append(w.salt[:], of...))
	return kind + "-" + hex.EncodeToString(sum[:4])
}

func (w words) hideKeys(s string) string {
	return w.keys.ReplaceAllStringFunc(s, func(key string) string { return w.word("key", strings.ToLower(key)) })
}

// hide replaces keys and addresses; the port of an address goes with it.
func (w words) hide(s string) string {
	return w.addresses.ReplaceAllStringFunc(w.hideKeys(s), func(text string) string {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			withPort, err := netip.ParseAddrPort(text)
			if err != nil {
				return text // a time, or whatever else has colons and dots
			}
			ip = withPort.Addr()
		}
		return w.word("address", ip.Unmap().String())
	})
}
