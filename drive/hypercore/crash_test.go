package hypercore

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// flaky is a Storage whose writes reach the disk only when synced: a crash keeps a random part of the rest, the last write torn.
// It can also fail the n-th call, having done it or not. A sync that fails drops what it was to store, as kernels do: it is still read, and the next sync says nothing of it.
type flaky struct {
	durable *Memory
	rng     *rand.Rand
	files   map[string]*flakyFile
	failAt  int  // calls until one fails; 0: none
	stored  bool // the failing call is carried out all the same
}

var errInjected = errors.New("injected")

func (s *flaky) Open(name string) (File, error) {
	d, err := s.durable.Open(name)
	if err != nil {
		return nil, err
	}
	held, err := contents(d)
	if err != nil {
		return nil, err
	}
	f := &flakyFile{memoryFile: fileOf(held), st: s, durable: d}
	s.files[name] = f
	return f, nil
}

func (s *flaky) Sync() error { return nil }

// crash lets power fail: each write that was not synced is kept, lost or torn.
func (s *flaky) crash() {
	for _, f := range s.files {
		for _, w := range f.pending {
			switch s.rng.IntN(3) {
			case 0:
				w.data = w.data[:s.rng.IntN(len(w.data)+1)]
				fallthrough
			case 1:
				if _, err := f.durable.WriteAt(w.data, w.off); err != nil {
					panic(err)
				}
			}
		}
	}
	s.files = map[string]*flakyFile{}
}

func (s *flaky) fails() (fail, do bool) {
	if s.failAt > 0 {
		s.failAt--
		if s.failAt == 0 {
			return true, s.stored
		}
	}
	return false, true
}

type flakyFile struct {
	*memoryFile
	st      *flaky
	durable File
	pending []pendingWrite
}

type pendingWrite struct {
	off  int64
	data []byte
}

func (f *flakyFile) WriteAt(p []byte, off int64) (int, error) {
	fail, do := f.st.fails()
	if do {
		if _, err := f.memoryFile.WriteAt(p, off); err != nil {
			return 0, err
		}
		f.pending = append(f.pending, pendingWrite{off, bytes.Clone(p)})
	}
	if fail {
		return 0, errInjected
	}
	return len(p), nil
}

// Punch is a write of zeros that does not make the file longer.
func (f *flakyFile) Punch(off, n int64) error {
	size, err := f.Size()
	if err != nil || off >= size {
		return err
	}
	_, err = f.WriteAt(make([]byte, min(n, size-off)), off)
	return err
}

func (f *flakyFile) Sync() error {
	fail, do := f.st.fails()
	if do {
		for _, w := range f.pending {
			if _, err := f.durable.WriteAt(w.data, w.off); err != nil {
				return err
			}
		}
		f.pending = nil
	}
	if fail {
		f.pending = nil
		return errInjected
	}
	return nil
}

// TestCrashWhileAppending: after a crash at any call, what Append acknowledged is there, nothing half is, the store checks clean,
// and no length is ever seen with two different signatures.
func TestCrashWhileAppending(t *testing.T) {
	secret := ed25519.NewKeyFromSeed(make([]byte, 32))
	key := Key(secret.Public().(ed25519.PublicKey))
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		st := &flaky{durable: NewMemory(), rng: rng, files: map[string]*flakyFile{}}
		var acknowledged [][]byte
		signed := map[uint64][64]byte{}
		for life := range 6 {
			f, err := Open(st, key, Options{Secret: secret})
			if err != nil {
				t.Fatalf("seed %d life %d: %v", seed, life, err)
			}
			if f.Len() < uint64(len(acknowledged)) {
				t.Fatalf("seed %d life %d: length %d of %d", seed, life, f.Len(), len(acknowledged))
			}
			for seq := range f.Len() {
				b, err := f.Block(seq)
				if err != nil || seq < uint64(len(acknowledged)) && !bytes.Equal(b, acknowledged[seq]) {
					t.Fatalf("seed %d life %d: block %d: %v", seed, life, seq, err)
				}
				if seq >= uint64(len(acknowledged)) {
					acknowledged = append(acknowledged, b) // stored although reported failed
				}
			}
			see(t, signed, f.Root())
			if err := f.Check(t.Context()); err != nil {
				t.Fatalf("seed %d life %d: %v", seed, life, err)
			}
			st.failAt, st.stored = 1+rng.IntN(60), rng.IntN(2) == 0
			for k := 0; ; k++ {
				var batch [][]byte
				for range 1 + rng.IntN(5) {
					batch = append(batch, bytes.Repeat([]byte{byte(k), byte(life)}, rng.IntN(50)))
				}
				if _, err := f.Append(t.Context(), batch); err != nil {
					if _, again := f.Append(t.Context(), batch); again != nil && !errors.Is(again, ErrBroken) {
						t.Fatalf("after a failure: %v", again)
					} else if again == nil { // it failed before anything was signed: nothing had happened
						see(t, signed, f.Root())
						acknowledged = append(acknowledged, batch...)
					}
					break
				}
				see(t, signed, f.Root())
				acknowledged = append(acknowledged, batch...)
			}
			st.failAt = 0
			st.crash()
		}
	}
}

// see fails if two signatures are seen for one length.
func see(t *testing.T, signed map[uint64][64]byte, h Head) {
	t.Helper()
	if before, ok := signed[h.Length]; ok && before != h.Signature {
		t.Fatalf("length %d was signed twice", h.Length)
	}
	signed[h.Length] = h.Signature
}

// TestCrashWhileDownloading: a reader that loses power keeps what it synced, never takes a torn node for a fork, and gets the rest again.
func TestCrashWhileDownloading(t *testing.T) {
	secret := ed25519.NewKeyFromSeed(make([]byte, 32))
	source := open(t, NewMemory(), Key(secret.Public().(ed25519.PublicKey)), secret)
	for i := range 40 {
		appendAll(t, source, bytes.Repeat([]byte{byte(i)}, i+1), fmt.Append(nil, i))
	}
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		st := &flaky{durable: NewMemory(), rng: rng, files: map[string]*flakyFile{}}
		synced := map[uint64]bool{}
		for range 5 {
			f, err := Open(st, source.Key(), Options{})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			for seq := range synced {
				if !f.Has(seq) {
					t.Fatalf("seed %d: block %d was synced and is gone", seed, seq)
				}
			}
			if err := f.Check(t.Context()); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			for range 1 + rng.IntN(20) {
				seq := rng.Uint64N(source.Len())
				copyBlock(t, source, f, seq)
				if rng.IntN(5) == 0 {
					if rng.IntN(4) == 0 {
						st.failAt, st.stored = 1+rng.IntN(6), rng.IntN(2) == 0
					}
					err := f.Sync(t.Context())
					if st.failAt = 0; err != nil { // the next one may go well, if what failed can be written again
						err = f.Sync(t.Context())
					}
					if errors.Is(err, ErrBroken) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					for s := range f.Len() {
						if f.Has(s) {
							synced[s] = true
						}
					}
				}
			}
			st.crash()
		}
	}
}

// TestClearThatFails: whichever call fails, and whether power fails then or not, no other block is forgotten, none of those to clear is half there, and clearing them again frees
// their bytes.
func TestClearThatFails(t *testing.T) {
	secret := ed25519.NewKeyFromSeed(make([]byte, 32))
	source := open(t, NewMemory(), Key(secret.Public().(ed25519.PublicKey)), secret)
	for i := range 20 {
		appendAll(t, source, fmt.Appendf(nil, "block %d", i))
	}
	failed := 0
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		st := &flaky{durable: NewMemory(), rng: rng, files: map[string]*flakyFile{}}
		f, err := Open(st, source.Key(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		for seq := range uint64(18) {
			copyBlock(t, source, f, seq)
		}
		if err := f.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		copyBlock(t, source, f, 18) // not durable yet; its page of the bitfield goes with that of the others
		st.failAt, st.stored = 1+rng.IntN(6), rng.IntN(2) == 0
		if f.Clear(t.Context(), 5, 12) != nil {
			failed++
		}
		st.failAt = 0
		if err := f.Sync(t.Context()); err == nil && !f.Has(18) {
			t.Fatalf("seed %d: a block that was to stay is gone", seed)
		} else if kept := err == nil; kept || rng.IntN(2) == 0 || errors.Is(err, ErrBroken) {
			st.crash()
			if f, err = Open(st, source.Key(), Options{}); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if kept && !f.Has(18) {
				t.Fatalf("seed %d: a block that was synced is gone", seed)
			}
		}
		for seq := range uint64(18) {
			if b, err := f.Block(seq); (seq < 5 || seq >= 12) && err != nil || err == nil && string(b) != fmt.Sprint("block ", seq) {
				t.Fatalf("seed %d: block %d is %q, %v", seed, seq, b, err)
			}
		}
		if err := errors.Join(f.Check(t.Context()), f.Clear(t.Context(), 5, 12)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		at, err := f.byteOffset(5)
		if err != nil {
			t.Fatal(err)
		}
		raw := make([]byte, 5*7+2*8)
		if _, err := f.files.data.ReadAt(raw, int64(at)); err != nil || !bytes.Equal(raw, make([]byte, len(raw))) {
			t.Fatalf("seed %d: the disk still holds %q (%v)", seed, raw, err)
		}
	}
	if failed < 100 {
		t.Errorf("%d of 200 failed", failed)
	}
}

// copyBlock moves one block as two connected peers would.
func copyBlock(t testing.TB, from, to *Feed, seq uint64) {
	t.Helper()
	p, err := from.Proof(seq, to.Digest(seq), &Marks{}, false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := from.Block(seq)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Put(t.Context(), seq, b, p); err != nil {
		t.Fatalf("block %d of %d: %v", seq, from.Len(), err)
	}
}
