package integration

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// The amounts of the issue: a file of 1 GiB and a tree of 10,000 files.
const (
	bulkBytes   = 1 << 30
	bulkFiles   = 10_000
	memoryLimit = 300 << 20 // resident bytes of one node at its peak
)

// TestBulk takes a file of 1 GiB and a tree of 10,000 files across, compares them, and measures each node's peak memory.
func TestBulk(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector multiplies memory, which this test measures; test.sh runs it without")
	}
	desktop, laptop := pair(t)
	makeTree(t, filepath.Join(desktop.dir, "tree"), bulkFiles)
	want := makeBig(t, filepath.Join(desktop.dir, "big"), bulkBytes)
	if out, err := desktop.run("sync", desktop.dir); err != nil {
		t.Fatalf("sync: %v\n%s", err, out)
	}
	eventually(t, "the laptop to see the big file whole", func() bool {
		info, err := os.Stat(filepath.Join(laptop.dir, "big"))
		return err == nil && info.Size() == bulkBytes
	})
	if got := hash(t, filepath.Join(laptop.dir, "big")); got != want {
		t.Errorf("the big file differs: %s, want %s", got, want)
	}
	same(t, desktop, laptop)
	for _, n := range []*node{desktop, laptop} {
		peak := n.peakMemory()
		t.Logf("%s: peak resident memory %d MiB", n.dir, peak>>20)
		if peak > memoryLimit {
			t.Errorf("peak resident memory %d MiB, limit %d MiB", peak>>20, memoryLimit>>20)
		}
	}
}

// peakMemory is the greatest resident set of the node's process so far, in bytes.
func (n *node) peakMemory() uint64 {
	n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+([0-9]+) kB`).FindSubmatch(text)
	if m == nil {
		n.t.Fatal("no VmHWM")
	}
	kib, err := strconv.ParseUint(string(m[1]), 10, 64)
	if err != nil {
		n.t.Fatal(err)
	}
	return kib << 10
}

// makeTree writes files of 0 to 8 KiB in folders of 100.
func makeTree(t *testing.T, dir string, files int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, uint64(files)))
	buf := make([]byte, 8<<10)
	for i := range files {
		folder := filepath.Join(dir, fmt.Sprintf("folder %03d", i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(folder, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		b := buf[:rng.IntN(len(buf))]
		for k := range b {
			b[k] = byte(rng.Uint32())
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("file %05d", i)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// makeBig writes size pseudorandom bytes and returns their hash.
func makeBig(t *testing.T, path string, size int64) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	source := rand.NewChaCha8([32]byte{byte(size)})
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, sum)}, io.LimitReader(source, size), make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

func hash(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}
