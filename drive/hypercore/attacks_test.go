package hypercore

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// data is a Data message of hypercore-protocol: index 1, value 2, nodes 3 {index, hash, size}, signature 4.
type data struct {
	index uint64
	value []byte
	proof Proof
}

func parseData(t testing.TB, body []byte) (d data) {
	t.Helper()
	each(t, body, func(n protowire.Number, v uint64, b []byte) {
		switch n {
		case 1:
			d.index = v
		case 2:
			d.value = append([]byte{}, b...)
		case 3:
			var node Node
			each(t, b, func(n protowire.Number, v uint64, b []byte) {
				switch n {
				case 1:
					node.Index = v
				case 2:
					node.Hash = [32]byte(b)
				case 3:
					node.Size = v
				}
			})
			d.proof.Nodes = append(d.proof.Nodes, node)
		case 4:
			d.proof.Signature = append([]byte{}, b...)
		}
	})
	return d
}

func each(t testing.TB, body []byte, field func(protowire.Number, uint64, []byte)) {
	t.Helper()
	for len(body) > 0 {
		n, kind, k := protowire.ConsumeTag(body)
		if k < 0 {
			t.Fatal(protowire.ParseError(k))
		}
		body = body[k:]
		var v uint64
		var b []byte
		if kind == protowire.VarintType {
			v, k = protowire.ConsumeVarint(body)
		} else {
			b, k = protowire.ConsumeBytes(body)
		}
		if k < 0 {
			t.Fatal(protowire.ParseError(k))
		}
		body = body[k:]
		field(n, v, b)
	}
}

type attacks struct {
	PublicKey hexBytes `json:"publicKey"`
	Mutations struct {
		Blocks []hexBytes `json:"blocks"`
		Cases  []struct {
			Name       string   `json:"name"`
			MustRefuse *bool    `json:"mustRefuse"`
			Body       hexBytes `json:"body"`
		} `json:"cases"`
	} `json:"mutations"`
	LyingSizes struct {
		First  hexBytes   `json:"first"`
		Second hexBytes   `json:"second"`
		Full   hexBytes   `json:"secondWithFullProof"`
		Blocks []hexBytes `json:"blocks"`
	} `json:"lyingSizes"`
	Fork struct {
		First  hexBytes `json:"first"`
		Second hexBytes `json:"second"`
		Other  hexBytes `json:"otherBlockAtTheSameIndex"`
	} `json:"fork"`
}

func put(t testing.TB, f *Feed, body []byte) error {
	t.Helper()
	d := parseData(t, body)
	return f.Put(t.Context(), d.index, d.value, d.proof)
}

func TestAttacksMutations(t *testing.T) {
	var a attacks
	load(t, "attacks.json", &a)
	for _, c := range a.Mutations.Cases {
		f := open(t, NewMemory(), Key(a.PublicKey), nil)
		err := put(t, f, c.Body)
		if c.MustRefuse != nil && (err != nil) != *c.MustRefuse {
			t.Errorf("%s: %v", c.Name, err)
		}
		if err != nil && (!errors.Is(err, ErrBadProof) || f.Len() != 0 || f.Have() != 0 || f.tree.count() != 0) {
			t.Errorf("%s: refused with %v, but length %d, %d blocks, %d nodes", c.Name, err, f.Len(), f.Have(), f.tree.count())
		}
	}
}

// TestAttacksLyingSizes: whatever becomes of the lie, the honest block is taken after it.
func TestAttacksLyingSizes(t *testing.T) {
	var a attacks
	load(t, "attacks.json", &a)
	f := open(t, NewMemory(), Key(a.PublicKey), nil)
	if err := put(t, f, a.LyingSizes.First); err != nil {
		t.Logf("the lie was refused: %v", err)
	}
	if err := put(t, f, a.LyingSizes.Second); err != nil {
		if err := put(t, f, a.LyingSizes.Full); err != nil {
			t.Fatalf("the honest block was refused: %v", err)
		}
	}
	if b, err := f.Block(1); err != nil || !bytes.Equal(b, a.LyingSizes.Blocks[1]) {
		t.Fatalf("%x %v", b, err)
	}
	if err := f.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAttacksFork(t *testing.T) {
	var a attacks
	load(t, "attacks.json", &a)
	for _, second := range [][]byte{a.Fork.Second, a.Fork.Other} {
		st := NewMemory()
		f := open(t, st, Key(a.PublicKey), nil)
		if err := put(t, f, a.Fork.First); err != nil {
			t.Fatal(err)
		}
		before := f.Root()
		var fork *ForkError
		if err := put(t, f, second); !errors.As(err, &fork) || !errors.Is(err, ErrFork) {
			t.Fatalf("the second history was taken: %v", err)
		}
		if f.Root() != before || f.Forked() != fork || fork.Ours != before || fork.Theirs.Length == 0 {
			t.Errorf("head %+v, evidence %+v", f.Root(), fork)
		}
		if again := open(t, st, f.Key(), nil).Forked(); again == nil || *again != *fork {
			t.Errorf("after opening again: %+v", again)
		}
	}
}

// TestForkShowsLate lets a reader take blocks of a writer's second history before the one whose proof holds what the first contradicts, and then that one. A
// node that is broken on the disk, or one whose size a hash answer twisted, is no fork.
func TestForkShowsLate(t *testing.T) {
	secret := ed25519.NewKeyFromSeed(make([]byte, 32))
	history := func(length int, other byte) *Feed {
		f := open(t, NewMemory(), Key(secret.Public().(ed25519.PublicKey)), secret)
		for i := range length {
			block := []byte{byte(i), other}
			if i < 4 {
				block = block[:1]
			}
			if _, err := f.Append(t.Context(), [][]byte{block}); err != nil {
				t.Fatal(err)
			}
		}
		return f
	}
	first := history(5, 1)
	for _, length := range []uint64{8, 9, 40} {
		second := history(int(length), 2)
		st := NewMemory()
		reader := open(t, st, first.Key(), nil)
		for seq := range first.Len() {
			copyBlock(t, first, reader, seq)
		}
		before := reader.Root()
		for seq := length - 1; seq > 5; seq-- {
			copyBlock(t, second, reader, seq)
		}
		p, err := second.Proof(5, 0, &Marks{}, false)
		if err != nil {
			t.Fatal(err)
		}
		block, err := second.Block(5)
		if err != nil {
			t.Fatal(err)
		}
		twisted := slices.Clone(p.Nodes)
		twisted[0].Size++ // of which the leaf then has one less
		leaf := leafNode(5, block)
		leaf.Size--
		err = reader.Put(t.Context(), 5, nil, Proof{Nodes: append([]Node{leaf}, twisted...), Signature: p.Signature})
		if !errors.Is(err, ErrBadProof) {
			t.Errorf("length %d: a hash answer that shows a fork, with sizes that nothing binds: %v", length, err)
		}
		var fork *ForkError
		if err := reader.Put(t.Context(), 5, block, p); !errors.As(err, &fork) {
			t.Fatalf("length %d: the second history was taken: %v", length, err)
		}
		if fork.Ours != before || fork.Theirs != second.Root() || reader.Forked() != fork {
			t.Errorf("evidence %+v", fork)
		}

		broken := open(t, NewMemory(), first.Key(), nil)
		short := history(5, 2)
		for seq := range short.Len() {
			copyBlock(t, short, broken, seq)
		}
		copyBlock(t, second, broken, length-1)
		lie := leafNode(4, []byte("the disk lies"))
		if _, err := broken.files.tree.WriteAt(encodeNode(lie), int64(sizeHeader+sizeNode*lie.Index)); err != nil {
			t.Fatal(err)
		}
		broken.nodes.Purge()
		if err := broken.Put(t.Context(), 5, block, p); !errors.Is(err, ErrBadProof) || broken.Forked() != nil {
			t.Errorf("a broken node: %v", err)
		}
	}
}

func FuzzPut(f *testing.F) {
	var a attacks
	load(f, "attacks.json", &a)
	for _, c := range a.Mutations.Cases {
		d := parseData(f, c.Body)
		raw := d.value
		for _, n := range d.proof.Nodes {
			raw = append(append(raw, byte(n.Index), byte(n.Size)), n.Hash[:]...)
		}
		f.Add(d.index, len(d.value), raw, d.proof.Signature)
	}
	f.Fuzz(func(t *testing.T, seq uint64, size int, raw, signature []byte) {
		feed, err := Open(NewMemory(), Key(a.PublicKey), Options{})
		if err != nil {
			t.Fatal(err)
		}
		size = min(max(size, 0), len(raw))
		value, raw := raw[:size], raw[size:]
		p := Proof{Signature: signature}
		for ; len(raw) >= 34; raw = raw[34:] {
			p.Nodes = append(p.Nodes, Node{Index: uint64(raw[0]), Size: uint64(raw[1]), Hash: [32]byte(raw[2:34])})
		}
		if err := feed.Put(t.Context(), seq, value, p); err == nil && feed.Len() == 0 {
			t.Fatal("taken without a signature")
		}
		if err := feed.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzHead(f *testing.F) {
	f.Add(encodeSlot(3, Head{Length: 5, Bytes: 50}), []byte{})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		st := NewMemory()
		file, err := st.Open("head")
		if err != nil {
			t.Fatal(err)
		}
		for i, slot := range [][]byte{one, two} {
			if _, err := file.WriteAt(slot[:min(len(slot), slotSize)], int64(i*slotStride)); err != nil {
				t.Fatal(err)
			}
		}
		feed, err := Open(st, Key{1}, Options{})
		if err == nil && feed.Len() != 0 {
			t.Fatal("a head without a signature was believed")
		}
	})
}
