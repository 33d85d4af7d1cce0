package serve

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// TestDiscreet: whatever way an address or a key gets into a log, it does not come out.
func TestDiscreet(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(newDiscreet(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	key := hypercore.Key{1, 2, 3}
	log.Info("peer left", "peer", "tcp://192.0.2.7:4000", "feed", key, "err", fmt.Errorf("read tcp 10.1.2.3:80->[2001:db8::7]:4001: %w", errors.New("reset")))
	log.With("peer", "ws://192.0.2.7").WithGroup("g").Warn("block 3 of feed "+key.String(), slog.Group("in", "addr", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 8), Port: 1}, "key", strings.ToUpper(key.String())))
	log.Info("kept", "elapsed", 3*time.Second, "at", "12:34:56", "version", "1.2.3", "n", 5, "err", error(nil), "host", "wss://hypha.example")
	log.Debug("for the operator", "peer", "192.0.2.9:1", "key", key)
	text := out.String()
	for _, hidden := range []string{"192.0.2.7", "10.1.2.3", "2001:db8", "192.0.2.8", ":4000", ":4001", key.String(), strings.ToUpper(key.String())} {
		if strings.Contains(text, hidden) {
			t.Errorf("%q is in\n%s", hidden, text)
		}
	}
	for _, shown := range []string{"elapsed=3s", "at=12:34:56", "version=1.2.3", "n=5", "reset", "wss://hypha.example", "192.0.2.9:1", "err=<nil>"} {
		if !strings.Contains(text, shown) {
			t.Errorf("%q is not in\n%s", shown, text)
		}
	}
	if words := regexp.MustCompile(`://address-[0-9a-f]{8}`).FindAllString(text, -1); len(words) != 2 || words[0] != words[1] {
		t.Errorf("one address has the words %v", words)
	}
}

// FuzzDiscreet: an address that netip reads is hidden wherever it stands.
func FuzzDiscreet(f *testing.F) {
	f.Add(uint8(4), []byte{192, 0, 2, 7}, uint16(80), "from ", " to")
	f.Add(uint8(6), []byte("0123456789abcdef"), uint16(0), "", "")
	d := newDiscreet(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, family uint8, raw []byte, port uint16, before, after string) {
		ip := net.IP(raw)
		if len(raw) != 4 && len(raw) != 16 {
			return
		}
		address := (&net.TCPAddr{IP: ip, Port: int(port)}).String()
		shown := d.words.hide(clean(before) + " " + address + " " + clean(after))
		if strings.Contains(shown, address) || strings.Contains(shown, ip.String()) {
			t.Fatalf("%q is in %q", address, shown)
		}
	})
}

// clean leaves of s what cannot make an address by itself.
func clean(s string) string { return strings.Trim(s, "0123456789abcdefABCDEF:.[]%") + "" }
