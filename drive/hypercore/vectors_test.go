package hypercore

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"testing"
)

// The vectors are made by the real npm packages; see testdata.

type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		*h = nil
		return err
	}
	out, err := hex.DecodeString(*s)
	*h = out
	return err
}

type vectorNode struct {
	Index uint64   `json:"index"`
	Hash  hexBytes `json:"hash"`
	Size  uint64   `json:"size"`
}

func (n vectorNode) node() Node { return Node{Index: n.Index, Hash: [32]byte(n.Hash), Size: n.Size} }

type vectorProof struct {
	Index        uint64       `json:"index"`
	Hash         bool         `json:"hash"`
	Digest       uint64       `json:"digest"`
	Nodes        []vectorNode `json:"nodes"`
	Signature    hexBytes     `json:"signature"`
	ReaderTree   []uint64     `json:"readerTree"`
	DigestsAfter []uint64     `json:"digestsAfter"`
	ReaderLength uint64       `json:"readerLength"`
}

func (p vectorProof) proof() Proof {
	out := Proof{Signature: p.Signature}
	for _, n := range p.Nodes {
		out.Nodes = append(out.Nodes, n.node())
	}
	return out
}

type vectorFeed struct {
	Name      string       `json:"name"`
	KeySeed   hexBytes     `json:"keySeed"`
	PublicKey hexBytes     `json:"publicKey"`
	Batch     bool         `json:"appendedAsOneBatch"`
	Blocks    []hexBytes   `json:"blocks"`
	Nodes     []vectorNode `json:"nodes"`
	Lengths   []struct {
		Length     uint64   `json:"length"`
		ByteLength uint64   `json:"byteLength"`
		Roots      []uint64 `json:"roots"`
		TreeHash   hexBytes `json:"treeHash"`
		Signature  hexBytes `json:"signature"`
	} `json:"lengths"`
	Files *struct {
		Data       hexBytes `json:"data"`
		Tree       hexBytes `json:"tree"`
		Signatures hexBytes `json:"signatures"`
	} `json:"files"`
	Proofs []vectorProof `json:"proofs"`
	Walks  []struct {
		Steps []vectorProof `json:"steps"`
	} `json:"walks"`
}

func load(t testing.TB, name string, into any) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

// write makes the vector's feed as its writer did.
func (v *vectorFeed) write(t testing.TB, st Storage) *Feed {
	t.Helper()
	secret := ed25519.NewKeyFromSeed(v.KeySeed)
	f := open(t, st, Key(v.PublicKey), secret)
	var blocks [][]byte
	for _, b := range v.Blocks {
		blocks = append(blocks, b)
	}
	if v.Batch {
		appendAll(t, f, blocks...)
		return f
	}
	for _, b := range blocks {
		appendAll(t, f, b)
	}
	return f
}

func open(t testing.TB, st Storage, key Key, secret ed25519.PrivateKey) *Feed {
	t.Helper()
	f, err := Open(st, key, Options{Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func appendAll(t testing.TB, f *Feed, blocks ...[]byte) {
	t.Helper()
	if _, err := f.Append(t.Context(), blocks); err != nil {
		t.Fatal(err)
	}
}

func vectors(t testing.TB) (v struct {
	Feeds     []vectorFeed `json:"feeds"`
	FullRoots []struct {
		Length uint64   `json:"length"`
		Roots  []uint64 `json:"roots"`
	} `json:"fullRoots"`
}) {
	t.Helper()
	load(t, "hypercore.json", &v)
	return v
}

func TestVectorsFullRoots(t *testing.T) {
	for _, c := range vectors(t).FullRoots {
		if got := fullRoots(c.Length); len(got)+len(c.Roots) > 0 && !reflect.DeepEqual(got, c.Roots) {
			t.Errorf("length %d: %v, want %v", c.Length, got, c.Roots)
		}
	}
}

func TestVectorsFeeds(t *testing.T) {
	for _, v := range vectors(t).Feeds {
		t.Run(v.Name, func(t *testing.T) {
			st := NewMemory()
			f := v.write(t, st)
			for _, n := range v.Nodes {
				if got, err := f.node(n.Index); err != nil || got != n.node() {
					t.Errorf("node %d: %v %v", n.Index, got, err)
				}
			}
			last := v.Lengths[len(v.Lengths)-1]
			if h := f.Root(); h.Length != last.Length || h.Bytes != last.ByteLength || !bytes.Equal(h.TreeHash[:], last.TreeHash) || !bytes.Equal(h.Signature[:], last.Signature) {
				t.Errorf("head %+v", h)
			}
			for seq, b := range v.Blocks {
				if got, err := f.Block(uint64(seq)); err != nil || !bytes.Equal(got, b) {
					t.Errorf("block %d: %x %v", seq, got, err)
				}
			}
			if err := f.Check(t.Context()); err != nil {
				t.Error(err)
			}
			if v.Files == nil {
				return
			}
			for name, want := range map[string][]byte{"data": v.Files.Data, "tree": v.Files.Tree, "signatures": v.Files.Signatures} {
				file, err := st.Open(name)
				if err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(want)+1)
				n, _ := file.ReadAt(got, 0)
				if !bytes.Equal(got[:n], want) {
					t.Errorf("file %s\n got %x\nwant %x", name, got[:n], want)
				}
			}
		})
	}
}

func TestVectorsProofs(t *testing.T) {
	for _, v := range vectors(t).Feeds {
		f := v.write(t, NewMemory())
		for _, p := range v.Proofs {
			got, err := f.Proof(p.Index, 0, &Marks{}, p.Hash)
			if err != nil || !sameProof(got, p.proof()) {
				t.Errorf("%s: proof of block %d (hash %v): %v %v", v.Name, p.Index, p.Hash, got, err)
			}
			r := open(t, NewMemory(), f.Key(), nil)
			if err := r.Put(t.Context(), p.Index, p.value(&v), p.proof()); err != nil || r.Len() != f.Len() {
				t.Errorf("%s: put block %d (hash %v): length %d, %v", v.Name, p.Index, p.Hash, r.Len(), err)
			}
		}
	}
}

func (p vectorProof) value(v *vectorFeed) []byte {
	if p.Hash {
		return nil
	}
	return append([]byte{}, v.Blocks[p.Index]...)
}

func sameProof(a, b Proof) bool {
	return reflect.DeepEqual(append([]Node{}, a.Nodes...), append([]Node{}, b.Nodes...)) && bytes.Equal(a.Signature, b.Signature)
}

// TestVectorsWalks plays whole conversations. The seeder must answer every digest with exactly the nodes JS gives. The reader is
// compared up to the first hash answer: from there on JS knows two nodes more, whose sizes nothing binds.
func TestVectorsWalks(t *testing.T) {
	for _, v := range vectors(t).Feeds {
		for _, w := range v.Walks {
			f := v.write(t, NewMemory())
			r := open(t, NewMemory(), f.Key(), nil)
			marks := &Marks{}
			hashes := false
			for i, s := range w.Steps {
				got, err := f.Proof(s.Index, s.Digest, marks, s.Hash)
				if err != nil || !sameProof(got, s.proof()) {
					t.Errorf("%s step %d: proof of %d for digest %d\n got %+v %v\nwant %+v", v.Name, i, s.Index, s.Digest, got, err, s.proof())
				}
				if hashes = hashes || s.Hash; !hashes {
					walkReader(t, r, &v, s)
				}
			}
		}
	}
}

// walkReader takes one answer and compares what the reader knows before and after.
func walkReader(t *testing.T, r *Feed, v *vectorFeed, s vectorProof) {
	t.Helper()
	if d := r.Digest(s.Index); d != s.Digest {
		t.Errorf("%s: digest of %d is %d, want %d", v.Name, s.Index, d, s.Digest)
	}
	if err := r.Put(t.Context(), s.Index, s.value(v), s.proof()); err != nil || r.Len() != s.ReaderLength {
		t.Errorf("%s: put %d: length %d, want %d, %v", v.Name, s.Index, r.Len(), s.ReaderLength, err)
	}
	for _, n := range s.ReaderTree {
		if !r.tree.has(n) {
			t.Errorf("%s: after block %d node %d is not known", v.Name, s.Index, n)
		}
	}
	for b, want := range s.DigestsAfter {
		if d := r.Digest(uint64(b)); d != want {
			t.Errorf("%s: after block %d the digest of %d is %d, want %d", v.Name, s.Index, b, d, want)
		}
	}
}
