package hypercore

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// contents reads all of f.
func contents(f File) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	return b, readFull(f, b, 0)
}

// fileOf returns a file in memory that holds b.
func fileOf(b []byte) *memoryFile {
	f := &memoryFile{}
	if _, err := f.WriteAt(b, 0); err != nil {
		panic(err) // only a negative offset is one
	}
	return f
}

// TestMemory: a file in memory holds what a plain slice of bytes does.
func TestMemory(t *testing.T) {
	const most = 3*chunk + 100
	rapid.Check(t, func(t *rapid.T) {
		f, err := NewMemory().Open("data")
		if err != nil {
			t.Fatal(err)
		}
		var model []byte
		grow := func(size int) { model = append(model, make([]byte, max(0, size-len(model)))...) }
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			at := rapid.OneOf(rapid.IntRange(0, most), rapid.SampledFrom([]int{0, chunk, 2 * chunk})).Draw(t, "at")
			n := rapid.OneOf(rapid.IntRange(0, most), rapid.SampledFrom([]int{1, chunk, 2 * chunk})).Draw(t, "n")
			switch rapid.IntRange(0, 2).Draw(t, "op") {
			case 0:
				p := bytes.Repeat([]byte{byte(n) | 1}, n)
				if k, err := f.WriteAt(p, int64(at)); k != n || err != nil {
					t.Fatal(k, err)
				}
				grow(at + n)
				copy(model[at:], p)
			case 1:
				if err := f.Punch(int64(at), int64(n)); err != nil {
					t.Fatal(err)
				}
				if at < len(model) {
					clear(model[at:min(at+n, len(model))])
				}
			case 2:
				if err := f.Truncate(int64(at)); err != nil {
					t.Fatal(err)
				}
				grow(at)
				model = slices.Clone(model[:at])
			}
			if size, err := f.Size(); err != nil || size != int64(len(model)) {
				t.Fatalf("%d bytes, want %d (%v)", size, len(model), err)
			}
			got := bytes.Repeat([]byte{0xee}, most)
			k, err := f.ReadAt(got[:n], int64(at))
			want := model[min(at, len(model)):min(at+n, len(model))]
			if !bytes.Equal(got[:k], want) || (k < n) != errors.Is(err, io.EOF) || k == n && err != nil {
				t.Fatalf("read %d of %d at %d: %v", k, n, at, err)
			}
		}
	})
}
