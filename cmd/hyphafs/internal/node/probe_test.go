package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/transport"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
)

func someKey(t *testing.T) hypercore.Key {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return hypercore.Key(public)
}

// servePeer runs a node of the Hypha source at url until the test ends and returns its URL.
func servePeer(t *testing.T, source hypercore.Key, url string) string {
	t.Helper()
	feed, err := hypercore.Open(hypercore.NewMemory(), source, hypercore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n, err := replication.New(replication.Config{Feeds: oneFeed{feed}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := transport.Listen(t.Context(), n, url, source, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = l.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := feed.Close(); err != nil {
			t.Error(err)
		}
	})
	return l.URL
}

func TestProbe(t *testing.T) {
	source, other := someKey(t), someKey(t)
	knows, knowsToo := servePeer(t, source, "tcp://127.0.0.1:0"), servePeer(t, source, "ws://127.0.0.1:0")
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone, goneToo := "tcp://"+nobody.Addr().String(), "ws://"+nobody.Addr().String()
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		source hypercore.Key
		peers  []string
		want   fault.Code
		notice string // in what the person is told
	}{
		"known":                  {source, []string{knows}, fault.Done, ""},
		"another passphrase":     {other, []string{knows}, fault.WrongPassphrase, ""},
		"known, ws":              {source, []string{knowsToo}, fault.Done, ""},
		"other passphrase, ws":   {other, []string{knowsToo}, fault.WrongPassphrase, ""},
		"nobody to ask":          {other, nil, fault.Done, ""},
		"nobody answers":         {other, []string{gone, goneToo, "nonsense"}, fault.Done, "could not be checked: " + gone},
		"one answers, knows":     {source, []string{gone, knows}, fault.Done, ""},
		"one answers, knows not": {other, []string{gone, knows}, fault.WrongPassphrase, ""},
	} {
		notice, err := probe(t.Context(), c.source, c.peers)
		if fault.CodeOf(err) != c.want || !strings.Contains(notice, c.notice) || (notice == "") != (c.notice == "") || strings.Contains(notice, "\n") {
			t.Errorf("%s: %q, %v", name, notice, err)
		}
	}
}

func TestProbeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := probe(ctx, someKey(t), []string{"tcp://127.0.0.1:1"}); err == nil {
		t.Error("went on")
	}
}
