package archive

import (
	"bytes"
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// TestRuns compares with a map.
func TestRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s, others runs
		model, otherModel := map[uint64]bool{}, map[uint64]bool{}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			from := rapid.Uint64Range(0, 40).Draw(t, "from")
			r := run{from, from + rapid.Uint64Range(0, 6).Draw(t, "length")}
			kind := rapid.IntRange(0, 2).Draw(t, "kind")
			switch kind {
			case 0:
				s.add(r)
			case 1:
				s.remove(r)
			case 2:
				others.add(r)
			}
			for seq := r.from; seq < r.to; seq++ {
				if kind == 2 {
					otherModel[seq] = true
				} else if kind == 0 {
					model[seq] = true
				} else {
					delete(model, seq)
				}
			}
		}
		same(t, s, model)
		same(t, others, otherModel)
		for seq := range otherModel {
			delete(model, seq)
		}
		same(t, s.without(others), model)
	})
}

// same fails if s is not what model is, or not in order.
func same(t *rapid.T, s runs, model map[uint64]bool) {
	t.Helper()
	if s.count() != uint64(len(model)) {
		t.Fatalf("%v has %d blocks, want %d", s, s.count(), len(model))
	}
	for i, r := range s {
		if r.from >= r.to || i > 0 && s[i-1].to >= r.from {
			t.Fatalf("%v is not in order", s)
		}
	}
	last := uint64(0)
	lastOK := false
	for seq := range uint64(50) {
		if s.has(seq) != model[seq] {
			t.Fatalf("%v has %d: %v", s, seq, s.has(seq))
		}
		if got, ok := s.last(seq); ok != lastOK || got != last {
			t.Fatalf("%v: last below %d is %d %v, want %d %v", s, seq, got, ok, last, lastOK)
		}
		end := seq
		for model[end] {
			end++
		}
		if s.end(seq) != end {
			t.Fatalf("%v: %d ends at %d, want %d", s, seq, s.end(seq), end)
		}
		if model[seq] {
			last, lastOK = seq, true
		}
	}
}

// sampleManifest has everything that a manifest can have.
func sampleManifest(t testing.TB) (*manifest, hypercore.Key) {
	source := writer(t, 1, numbered(0, 11, 10)...)
	m := &manifest{generation: 300, floor: 5, compacted: 200}
	m.roots, m.signature = source.Roots()
	m.fork = &[2]hypercore.Head{source.Root(), {Length: 3, Bytes: 30}}
	m.packs = []pack{
		{packID{5, 1}, 1000, runs{{0, 4}, {6, 7}}},
		{packID{299, 1 << 63}, maxPack, runs{{4, 6}}},
	}
	return m, source.DiscoveryKey()
}

func TestManifest(t *testing.T) {
	m, discovery := sampleManifest(t)
	for _, m := range []*manifest{m, {}, {generation: 1}} {
		got, err := decodeManifest(m.encode(discovery), discovery)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v came back as %+v, %v", m, got, err)
		}
	}
	if _, err := decodeManifest(m.encode(discovery), hypercore.Key{}); !errors.Is(err, ErrFormat) {
		t.Errorf("manifest of another feed: %v", err)
	}
	for n := range 12 {
		source := writer(t, 2, numbered(0, n, 3)...)
		if roots, _ := source.Roots(); signedLength(roots) != uint64(n) {
			t.Errorf("%d blocks have the roots of %d", n, signedLength(roots))
		}
	}
}

// reseal makes the sum right, so that a fuzzer gets behind it.
func reseal(magic string, body []byte) []byte {
	return seal(append([]byte(magic), body...))
}

func unsealed(b []byte) []byte { return b[8 : len(b)-sumSize] }

func FuzzManifest(f *testing.F) {
	m, discovery := sampleManifest(f)
	f.Add(unsealed(m.encode(discovery)))
	f.Add(unsealed((&manifest{}).encode(discovery)))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := reseal(magicManifest, body)
		m, err := decodeManifest(b, discovery)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("not the package's error: %v", err)
			}
			return
		}
		if !bytes.Equal(m.encode(discovery), b) {
			t.Fatal("what was taken is encoded otherwise")
		}
		if next := m.with(nil, nil, nil, nil); next.generation == m.generation || len(next.packs) != len(m.packs) {
			t.Fatal("the next one is no next one")
		}
	})
}

func FuzzPack(f *testing.F) {
	source := writer(f, 1, numbered(0, 40, 20)...)
	discovery := source.DiscoveryKey()
	for _, todo := range []runs{{{0, 40}}, {{3, 4}, {7, 9}}} {
		p, err := newPacking(source)
		if err != nil {
			f.Fatal(err)
		}
		if err := p.fill(f.Context(), todo); err != nil {
			f.Fatal(err)
		}
		f.Add(unsealed(encodePack(discovery, p.records)))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b := reseal(magicPack, body)
		records, err := decodePack(b, discovery)
		if err != nil && !errors.Is(err, ErrFormat) {
			t.Fatalf("not the package's error: %v", err)
		}
		if err == nil && !bytes.Equal(encodePack(discovery, records), b) {
			t.Fatal("what was taken is encoded otherwise")
		}
		to, err := hypercore.Open(hypercore.NewMemory(), source.Key(), hypercore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unpack(t.Context(), to, b); err != nil && !errors.Is(err, ErrFormat) {
			t.Fatalf("not the package's error: %v", err)
		}
		for seq := range to.Len() { // whatever came in was what the writer signed
			if got, err := to.Block(seq); err == nil {
				if want, err := source.Block(seq); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("block %d is forged", seq)
				}
			}
		}
	})
}

func FuzzNote(f *testing.F) {
	m, _ := sampleManifest(f)
	f.Add(unsealed(note{writer(f, 1).Key(), "tag", m}.encode()))
	f.Add(unsealed(note{writer(f, 1).Key(), "", &manifest{}}.encode()))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := reseal(magicNote, body)
		n, err := decodeNote(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("not the package's error: %v", err)
			}
			return
		}
		if !bytes.Equal(n.encode(), b) {
			t.Fatal("what was taken is encoded otherwise")
		}
	})
}

// TestPack: a pack of any blocks of a feed gives them to a feed that has any others.
func TestPack(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 70).Draw(r, "length")
		source := writer(t, 3)
		signed := map[uint64]bool{}
		for done := 0; done < n; {
			batch := min(rapid.IntRange(1, 9).Draw(r, "batch"), n-done)
			if _, err := source.Append(t.Context(), numbered(done, batch, 1+done%5)); err != nil {
				r.Fatal(err)
			}
			done += batch
			signed[uint64(done)] = true
		}
		blocks := map[uint64]struct{}{}
		for range rapid.IntRange(1, n).Draw(r, "packed") {
			blocks[rapid.Uint64Range(0, uint64(n-1)).Draw(r, "block")] = struct{}{}
		}
		p, err := newPacking(source)
		if err != nil {
			r.Fatal(err)
		}
		var todo runs
		for _, seq := range slices.Sorted(maps.Keys(blocks)) {
			todo.add(run{seq, seq + 1})
		}
		if err := p.fill(t.Context(), todo); err != nil {
			r.Fatal(err)
		}
		body := encodePack(source.DiscoveryKey(), p.records)
		to, err := hypercore.Open(hypercore.NewMemory(), source.Key(), hypercore.Options{})
		if err != nil {
			r.Fatal(err)
		}
		for range rapid.IntRange(0, 9).Draw(r, "had before") {
			give(t, source, to, rapid.Uint64Range(0, uint64(n-1)).Draw(r, "had"))
		}
		taken, err := unpack(t.Context(), to, body)
		if err != nil || !reflect.DeepEqual(taken, todo) {
			r.Fatalf("took %v of %v: %v", taken, todo, err)
		}
		for seq := range blocks {
			got, err := to.Block(seq)
			if want, werr := source.Block(seq); err != nil || werr != nil || !bytes.Equal(got, want) {
				r.Fatalf("block %d: %v", seq, err)
			}
		}
		if err := to.Check(t.Context()); err != nil {
			r.Fatal(err)
		}
		flipped := bytes.Clone(body)
		flipped[rapid.IntRange(0, len(body)-1).Draw(r, "flipped")] ^= 1
		if _, err := unpack(t.Context(), to, flipped); !errors.Is(err, ErrFormat) {
			r.Fatalf("a flipped bit: %v", err)
		}
	})
}
