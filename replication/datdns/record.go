package datdns

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"hyphafs.org/hyphafs/drive/hypercore"
)

const (
	// DefaultTTL is that of a record which does not say.
	DefaultTTL = time.Hour
	// MaxTTL is the longest that a record is believed to last.
	MaxTTL = 7 * 24 * time.Hour

	// Path is where a host keeps its record.
	Path = "/.well-known/dat"

	maxRecord = 4 << 10 // bytes
)

// The errors of this package.
var (
	ErrNoHost    = errors.New("not the name of a host")
	ErrNone      = errors.New("the host names no key")
	ErrMalformed = errors.New("malformed Dat DNS record")
)

// Record is what a host says.
type Record struct {
	Key hypercore.Key
	TTL time.Duration // whole seconds; 0: not to be kept
}

// Parse reads a record. ErrMalformed if it is none.
func Parse(text []byte) (Record, error) {
	if len(text) > maxRecord {
		return Record{}, fmt.Errorf("%w: more than %d bytes", ErrMalformed, maxRecord)
	}
	lines := strings.Split(strings.TrimRight(string(text), "\r\n"), "\n")
	if len(lines) > 2 {
		return Record{}, fmt.Errorf("%w: %d lines", ErrMalformed, len(lines))
	}
	link, ok := strings.CutPrefix(strings.TrimSuffix(lines[0], "\r"), "dat://")
	key, err := hypercore.ParseKey(strings.TrimSuffix(link, "/"))
	if !ok || err != nil {
		return Record{}, fmt.Errorf("%w: the first line is no dat:// URL of a key", ErrMalformed)
	}
	r := Record{key, DefaultTTL}
	if len(lines) == 1 {
		return r, nil
	}
	name, value, _ := strings.Cut(lines[1], "=")
	seconds, err := strconv.ParseUint(value, 10, 32)
	if !strings.EqualFold(name, "TTL") || err != nil {
		return Record{}, fmt.Errorf("%w: the second line is no TTL", ErrMalformed)
	}
	r.TTL = min(time.Duration(seconds)*time.Second, MaxTTL)
	return r, nil
}

// Text is the file of r.
func (r Record) Text() []byte {
	return fmt.Appendf(nil, "dat://%v/\nTTL=%d\n", r.Key, int64(r.TTL/time.Second))
}

// HostName returns domain as the name of a host on the Internet, lower case and in ASCII (RFC 5891); ErrNoHost if it cannot be one. A Hypha may have any name.
func HostName(domain string) (string, error) {
	host, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoHost, err)
	}
	host = strings.TrimSuffix(host, ".")
	if again, err := idna.Lookup.ToASCII(host); err != nil || again != host { // what was no text to begin with
		return "", ErrNoHost
	}
	labels := strings.Split(host, ".")
	if len(labels) < 2 || len(host) > 253 {
		return "", ErrNoHost
	}
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.Trim(label, "-") != label {
			return "", ErrNoHost
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "", ErrNoHost // an address
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return "", ErrNoHost
	}
	return host, nil
}
