package archive

import "testing"

// BenchmarkKeep brings 64 blocks of 64 KiB, one pack, from the cache into a bucket in memory.
func BenchmarkKeep(b *testing.B) {
	source := writer(b, 9, numbered(0, 64, 64<<10)...)
	b.SetBytes(64 * 64 << 10)
	for b.Loop() {
		b.StopTimer()
		s := open(b, newMemory(), b.TempDir())
		f := feed(b, s, source.Key())
		for seq := range source.Len() {
			give(b, source, f, seq)
		}
		b.StartTimer()
		if err := f.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead reads such a pack from the bucket into an empty cache, and every block of it.
func BenchmarkRead(b *testing.B) {
	source, bucket := writer(b, 9, numbered(0, 64, 64<<10)...), newMemory()
	f := feed(b, open(b, bucket, b.TempDir()), source.Key())
	for seq := range source.Len() {
		give(b, source, f, seq)
	}
	if err := f.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(64 * 64 << 10)
	for b.Loop() {
		b.StopTimer()
		cold := feed(b, open(b, bucket, b.TempDir()), source.Key())
		b.StartTimer()
		for seq := range source.Len() {
			if _, err := cold.Block(seq); err != nil {
				b.Fatal(err)
			}
		}
	}
}
