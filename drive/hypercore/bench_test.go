package hypercore

import (
	"crypto/ed25519"
	"testing"
)

func benchFeed(b *testing.B, st Storage) *Feed {
	secret := ed25519.NewKeyFromSeed(make([]byte, 32))
	return open(b, st, Key(secret.Public().(ed25519.PublicKey)), secret)
}

func BenchmarkAppend10000(b *testing.B) {
	f := benchFeed(b, Dir(b.TempDir()))
	blocks := make([][]byte, 10_000)
	for i := range blocks {
		blocks[i] = make([]byte, 300)
	}
	for b.Loop() {
		appendAll(b, f, blocks...)
	}
	b.ReportMetric(float64(len(blocks)*b.N)/b.Elapsed().Seconds(), "blocks/s")
}

func BenchmarkBlock(b *testing.B) {
	f := benchFeed(b, Dir(b.TempDir()))
	blocks := make([][]byte, 100_000)
	for i := range blocks {
		blocks[i] = make([]byte, 300)
	}
	appendAll(b, f, blocks...)
	seq := uint64(0)
	for b.Loop() {
		if _, err := f.Block(seq); err != nil {
			b.Fatal(err)
		}
		seq = (seq + 7919) % f.Len()
	}
}

func BenchmarkPut64KiB(b *testing.B) {
	f := benchFeed(b, NewMemory())
	block := make([]byte, 64<<10)
	for range 64 {
		appendAll(b, f, block)
	}
	b.SetBytes(64 * int64(len(block)))
	for b.Loop() {
		r := open(b, Dir(b.TempDir()), f.Key(), nil)
		for seq := range f.Len() {
			copyBlock(b, f, r, seq)
		}
	}
}
