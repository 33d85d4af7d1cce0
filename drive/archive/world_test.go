package archive

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// memory is a Bucket in memory. It can fail the next calls, having carried them out or not.
type memory struct {
	mu      sync.Mutex // guards what follows
	objects map[string][]byte
	tags    map[string]Tag
	version int
	fails   []failure // of the next calls; taken from the front
	calls   map[string]int
}

type failure int

const (
	works failure = iota
	failsUndone
	failsDone
)

var errInjected = errors.New("injected")

func newMemory() *memory {
	return &memory{objects: map[string][]byte{}, tags: map[string]Tag{}, calls: map[string]int{}}
}

// call runs one call under the lock.
func (m *memory) call(ctx context.Context, kind string, do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[kind]++
	if err := ctx.Err(); err != nil {
		return err
	}
	now := works
	if len(m.fails) > 0 {
		now, m.fails = m.fails[0], m.fails[1:]
	}
	if now == failsUndone {
		return errInjected
	}
	if err := do(); err != nil || now == works {
		return err
	}
	return errInjected
}

func (m *memory) Get(ctx context.Context, name string, known Tag, limit int64) (body []byte, tag Tag, err error) {
	err = m.call(ctx, "get", func() error {
		b, ok := m.objects[name]
		switch {
		case !ok:
			return ErrNoObject
		case known != "" && m.tags[name] == known:
			return ErrUnchanged
		case int64(len(b)) > limit:
			return ErrTooLarge
		}
		body, tag = bytes.Clone(b), m.tags[name]
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return body, tag, nil
}

func (m *memory) Put(ctx context.Context, name string, body []byte, old Tag) (tag Tag, err error) {
	err = m.call(ctx, "put", func() error {
		if m.tags[name] != old {
			return ErrChanged
		}
		m.version++
		tag = Tag(fmt.Sprint(m.version))
		m.objects[name], m.tags[name] = bytes.Clone(body), tag
		return nil
	})
	return tag, err
}

func (m *memory) Delete(ctx context.Context, name string) error {
	return m.call(ctx, "delete", func() error {
		delete(m.objects, name)
		delete(m.tags, name)
		return nil
	})
}

func (m *memory) List(ctx context.Context, prefix string, limit int) (names []string, err error) {
	err = m.call(ctx, "list", func() error {
		for _, name := range slices.Sorted(maps.Keys(m.objects)) {
			if strings.HasPrefix(name, prefix) && len(names) < limit {
				names = append(names, name)
			}
		}
		return nil
	})
	return names, err
}

func (m *memory) Check(context.Context) error { return nil }

// quiet is a logger for tests whose errors are meant.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// writer is a feed with its secret key, in memory.
func writer(t testing.TB, seed byte, blocks ...[]byte) *hypercore.Feed {
	t.Helper()
	secret := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))
	f, err := hypercore.Open(hypercore.NewMemory(), hypercore.Key(secret.Public().(ed25519.PublicKey)), hypercore.Options{Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	extend(t, f, blocks...)
	return f
}

// extend appends blocks one by one, so that every length is signed.
func extend(t testing.TB, f *hypercore.Feed, blocks ...[]byte) {
	t.Helper()
	for _, b := range blocks {
		if _, err := f.Append(t.Context(), [][]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
}

// numbered returns n different blocks of size bytes.
func numbered(from, n, size int) (blocks [][]byte) {
	for i := range n {
		b := bytes.Repeat([]byte{byte(from + i)}, size)
		copy(b, fmt.Sprint(from+i))
		blocks = append(blocks, b)
	}
	return blocks
}

// taker is what a peer gives blocks to.
type taker interface {
	Digest(seq uint64) uint64
	Put(ctx context.Context, seq uint64, value []byte, p hypercore.Proof) error
}

// giver is what a peer gets blocks from.
type giver interface {
	Block(seq uint64) ([]byte, error)
	Proof(seq, digest uint64, marked *hypercore.Marks, hash bool) (hypercore.Proof, error)
}

// give moves one block as two peers would.
func give(t testing.TB, from giver, to taker, seq uint64) {
	t.Helper()
	if err := tryGive(t, from, to, seq); err != nil {
		t.Fatalf("block %d: %v", seq, err)
	}
}

func tryGive(t testing.TB, from giver, to taker, seq uint64) error {
	t.Helper()
	p, err := from.Proof(seq, to.Digest(seq), &hypercore.Marks{}, false)
	if err != nil {
		return err
	}
	b, err := from.Block(seq)
	if err != nil {
		return err
	}
	return to.Put(t.Context(), seq, b, p)
}

// open opens a store over bucket with its cache in dir.
func open(t testing.TB, bucket Bucket, dir string, change ...func(*Config)) *Store {
	t.Helper()
	cfg := Config{Bucket: bucket, Dir: dir, Log: quiet(), Delay: time.Millisecond, PollMin: 5 * time.Millisecond}
	for _, c := range change {
		c(&cfg)
	}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return s
}

func feed(t testing.TB, s *Store, key hypercore.Key) *Feed {
	t.Helper()
	f, err := s.Feed(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// audit reads everything that the bucket says it has of source, with an empty cache, as a new peer of a new instance would, and compares. It returns the blocks.
func audit(t testing.TB, bucket Bucket, source *hypercore.Feed) runs {
	t.Helper()
	s := open(t, bucket, t.TempDir())
	f := feed(t, s, source.Key())
	defer f.Close()
	peer, err := hypercore.Open(hypercore.NewMemory(), source.Key(), hypercore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range f.kept {
		for seq := r.from; seq < r.to; seq++ {
			give(t, f, peer, seq)
			got, err := peer.Block(seq)
			if err != nil {
				t.Fatal(err)
			}
			if want, err := source.Block(seq); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("block %d from the bucket is not what was written (%v)", seq, err)
			}
		}
	}
	if err := errors.Join(f.local.Check(t.Context()), peer.Check(t.Context())); err != nil {
		t.Fatal(err)
	}
	if len(f.bad) > 0 {
		t.Fatalf("%d packs are bad", len(f.bad))
	}
	return f.kept
}

// contextOf returns a context that a cleanup of the test can end before the test's other cleanups.
func contextOf(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
}
