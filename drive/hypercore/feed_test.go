package hypercore

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
)

// pairOf returns a writer with n blocks and an empty reader.
func pairOf(t testing.TB, n int) (writer, reader *Feed) {
	t.Helper()
	secret := ed25519.NewKeyFromSeed(make([]byte, 32))
	writer = open(t, NewMemory(), Key(secret.Public().(ed25519.PublicKey)), secret)
	for i := range n {
		appendAll(t, writer, fmt.Append(nil, "block ", i))
	}
	return writer, open(t, NewMemory(), writer.Key(), nil)
}

func TestGetWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pairOf(t, 3)
		changed, stop := r.Watch()
		defer stop()
		got := make(chan []byte)
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				b, err := r.Get(t.Context(), 1)
				if err != nil {
					t.Error(err)
				}
				got <- b
			})
		}
		synctest.Wait()
		if wanted := r.Wanted(); len(wanted) != 1 || wanted[0] != 1 {
			t.Errorf("wanted %v", wanted)
		}
		<-changed
		copyBlock(t, w, r, 0)
		copyBlock(t, w, r, 1)
		for range 2 {
			if b := <-got; string(b) != "block 1" {
				t.Errorf("%q", b)
			}
		}
		readers.Wait()
		<-changed
		if wanted := r.Wanted(); len(wanted) != 0 {
			t.Errorf("still wanted: %v", wanted)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.Get(ctx, 2); !errors.Is(err, context.Canceled) || len(r.Wanted()) != 0 {
			t.Errorf("%v, wanted %v", err, r.Wanted())
		}
		r.Wish(0, 3)
		if wanted := r.Wanted(); len(wanted) != 1 || wanted[0] != 2 {
			t.Errorf("wished %v", wanted)
		}
	})
}

// TestClear: cleared blocks are gone from the disk, the rest and the tree stay, and a peer can bring them back.
func TestClear(t *testing.T) {
	w, r := pairOf(t, 20)
	for seq := range w.Len() {
		copyBlock(t, w, r, seq)
	}
	if err := r.Clear(t.Context(), 5, 12); err != nil {
		t.Fatal(err)
	}
	if r.Have() != 13 || r.Has(5) || !r.Has(12) {
		t.Errorf("%d blocks", r.Have())
	}
	if _, err := r.Block(7); !errors.Is(err, ErrNotStored) {
		t.Error(err)
	}
	if seq, ok := r.NextMissing(0); seq != 5 || !ok {
		t.Errorf("missing %d %v", seq, ok)
	}
	raw := make([]byte, 7)
	if _, err := r.files.data.ReadAt(raw, 5*7); err != nil || !bytes.Equal(raw, make([]byte, 7)) {
		t.Errorf("the disk still holds %q (%v)", raw, err)
	}
	if err := r.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if r.Digest(7) != 1 {
		t.Errorf("digest %d: the tree forgot", r.Digest(7))
	}
	copyBlock(t, w, r, 7)
	if b, err := r.Block(7); err != nil || string(b) != "block 7" {
		t.Errorf("%q %v", b, err)
	}
	if want := []byte{0b11111001, 0b00001111, 0b11110000}; !bytes.Equal(r.Bitfield(0, 100), want) {
		t.Errorf("bitfield %08b", r.Bitfield(0, 100))
	}
	var size uint64
	for seq := range w.Len() {
		if b, err := r.Block(seq); err == nil {
			size += uint64(len(b))
		}
	}
	if got, err := r.StoredBytes(); err != nil || got != size {
		t.Errorf("%d bytes stored, want %d: %v", got, size, err)
	}
	if got, err := w.StoredBytes(); err != nil || got != w.Bytes() {
		t.Errorf("%d bytes stored of %d: %v", got, w.Bytes(), err)
	}
	if got := r.Bitfield(3, 5); !bytes.Equal(got, []byte{0b11001000}) {
		t.Errorf("bitfield from 3: %08b", got)
	}
}

func TestNotWritable(t *testing.T) {
	w, r := pairOf(t, 1)
	if _, err := r.Append(t.Context(), [][]byte{{1}}); !errors.Is(err, ErrNotWritable) {
		t.Error(err)
	}
	if _, err := w.Append(t.Context(), [][]byte{make([]byte, MaxBlock+1)}); !errors.Is(err, ErrTooLong) || w.Len() != 1 {
		t.Errorf("%v, length %d", err, w.Len())
	}
	if _, err := Open(NewMemory(), Key{1}, Options{Secret: w.secret}); err == nil {
		t.Error("a feed was opened with another's secret")
	}
}

// TestDamageIsFound: Check names every kind of damage, Open refuses a head that does not hold.
func TestDamageIsFound(t *testing.T) {
	secret := ed25519.NewKeyFromSeed(make([]byte, 32))
	key := Key(secret.Public().(ed25519.PublicKey))
	for _, name := range []string{"data", "tree", "signatures"} {
		st := NewMemory()
		f := open(t, st, key, secret)
		for i := range 10 {
			appendAll(t, f, fmt.Append(nil, "block ", i))
		}
		file, err := st.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		if _, err := file.ReadAt(b, 40); err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt([]byte{b[0] ^ 1}, 40); err != nil {
			t.Fatal(err)
		}
		if err := f.Check(t.Context()); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	st := NewMemory()
	f := open(t, st, key, secret)
	appendAll(t, f, []byte("x"))
	appendAll(t, f, []byte("y"))
	head, err := st.Open("head")
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(2) {
		if _, err := head.WriteAt([]byte{0xff}, i*slotStride+30); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(st, key, Options{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged head: %v", err)
	}
}

// TestConcurrentUse runs everything at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	w, r := pairOf(t, 1)
	var all sync.WaitGroup
	all.Go(func() {
		for i := range 100 {
			appendAll(t, w, fmt.Append(nil, "more ", i), fmt.Append(nil, "and ", i))
		}
	})
	all.Go(func() {
		for r.Have() < 201 {
			if seq, ok := r.NextMissing(0); ok {
				copyBlock(t, w, r, seq)
			} else if w.Len() > r.Len() {
				copyBlock(t, w, r, w.Len()-1)
			}
		}
	})
	all.Go(func() {
		for range 50 {
			if err := r.Sync(t.Context()); err != nil {
				t.Error(err)
			}
			if err := w.Sync(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	if err := errors.Join(r.Check(t.Context()), w.Check(t.Context())); err != nil {
		t.Error(err)
	}
	if r.Root() != w.Root() {
		t.Errorf("%+v\n%+v", r.Root(), w.Root())
	}
}

// TestPutHead: a signed length is taken without a block, believed only with its signature, and compared with what is known.
func TestPutHead(t *testing.T) {
	secret := ed25519.NewKeyFromSeed(make([]byte, 32))
	key := Key(secret.Public().(ed25519.PublicKey))
	source := open(t, NewMemory(), key, secret)
	other := open(t, NewMemory(), key, secret)
	for i := range 20 {
		appendAll(t, source, fmt.Append(nil, i))
		appendAll(t, other, fmt.Append(nil, max(i, 12), "x"[:b2u(i >= 12)]))
	}
	roots, signature := source.Roots()
	st := NewMemory()
	reader := open(t, st, key, nil)
	for name, lie := range map[string]func([]Node, []byte) ([]Node, []byte){
		"no roots":          func(_ []Node, s []byte) ([]Node, []byte) { return nil, s },
		"a root too few":    func(n []Node, s []byte) ([]Node, []byte) { return n[1:], s },
		"another size":      func(n []Node, s []byte) ([]Node, []byte) { n[0].Size++; return n, s },
		"another order":     func(n []Node, s []byte) ([]Node, []byte) { n[0], n[1] = n[1], n[0]; return n, s },
		"another signature": func(n []Node, s []byte) ([]Node, []byte) { s[7] ^= 1; return n, s },
		"no signature":      func(n []Node, _ []byte) ([]Node, []byte) { return n, nil },
	} {
		n, s := lie(source.Roots())
		if err := reader.PutHead(t.Context(), n, s); !errors.Is(err, ErrBadProof) || reader.Len() != 0 {
			t.Errorf("%s: length %d, %v", name, reader.Len(), err)
		}
	}
	if err := reader.PutHead(t.Context(), roots, signature); err != nil || reader.Root() != source.Root() || reader.Have() != 0 {
		t.Fatalf("length %d, %v", reader.Len(), err)
	}
	if err := reader.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := open(t, st, key, nil); again.Root() != source.Root() {
		t.Error("the length is gone when the feed is opened again")
	}
	for _, seq := range []uint64{0, 19, 7} {
		copyBlock(t, source, reader, seq)
	}
	if err := reader.Check(t.Context()); err != nil {
		t.Error(err)
	}
	roots, signature = other.Roots()
	if err := reader.PutHead(t.Context(), roots, signature); !errors.Is(err, ErrFork) || reader.Forked() == nil {
		t.Errorf("another history: %v", err)
	}
}

// TestNextMissing: whatever is stored, appended, dropped and opened again in whatever order, what is missing is found as by asking for each block.
func TestNextMissing(t *testing.T) {
	w, _ := pairOf(t, 300)
	key := w.Key()
	st := NewMemory()
	r := open(t, st, key, nil)
	random := rand.New(rand.NewPCG(7, 7))
	for range 2000 {
		switch random.IntN(40) {
		case 0:
			from := random.Uint64N(300)
			if err := r.Clear(t.Context(), from, from+random.Uint64N(20)); err != nil {
				t.Fatal(err)
			}
		case 1:
			if err := r.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			r = open(t, st, key, nil)
		default:
			seq, ok := r.NextMissing(0)
			if !ok || random.IntN(4) == 0 {
				seq = random.Uint64N(300)
			}
			copyBlock(t, w, r, seq)
		}
		from := random.Uint64N(300)
		want := from
		for want < r.Len() && r.Has(want) {
			want++
		}
		if got, ok := r.NextMissing(from); ok != (want < r.Len()) || ok && got != want {
			t.Fatalf("missing from %d on: %d %v, want %d of %d", from, got, ok, want, r.Len())
		}
		if want, _ := w.NextMissing(0); want != 0 {
			t.Fatalf("the writer lacks %d", want)
		}
	}
}
