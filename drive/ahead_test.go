package drive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"hyphafs.org/hyphafs/drive/record"
)

// readSize is that of a READ of Linux where only root may lengthen it.
const readSize = 2 * blockSize

// published makes a file of blocks blocks of chance and 777 bytes more, which only a feed has.
func (w *world) published(blocks int) (id record.ID, content []byte) {
	w.t.Helper()
	content = make([]byte, blocks*blockSize+777)
	rand.NewChaCha8([32]byte{byte(blocks)}).Read(content)
	id = w.put(record.Root, "f", string(content))
	w.publishNow()
	return id, content
}

// reader opens a file for a test that ends by closing it.
func (w *world) reader(id record.ID) *File {
	w.t.Helper()
	f, err := w.Open(w.t.Context(), id, false)
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

// expect reads want at off, in reads of size bytes.
func expect(t *testing.T, f *File, off int, want []byte, size int) {
	t.Helper()
	for len(want) > 0 {
		n := min(size, len(want))
		got, done, err := f.Read(t.Context(), make([]byte, n), int64(off))
		if err != nil || !bytes.Equal(got, want[:n]) {
			t.Fatalf("%d bytes at %d: %d, %v, not what was written", n, off, len(got), err)
		}
		if done != nil {
			done()
		}
		off, want = off+n, want[n:]
	}
}

func shut(t *testing.T, f *File) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// ahead returns how many chunks there are, and were ever begun.
func (w *world) aheadNow() (held int, begun uint64) {
	a := &w.Drive.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held, a.begun
}

// TestReadAhead: of a file that is read in sequence every block but the first is opened ahead, once, whatever the size of the reads and wherever they begin.
func TestReadAhead(t *testing.T) {
	const blocks = 80
	w := newWorld(t, 1)
	id, content := w.published(blocks)
	for _, c := range []struct {
		from, size int
		begun      uint64
	}{
		{0, readSize, (blocks - 4) / chunkBlocks},
		{16 << 10, readSize, (blocks - 4) / chunkBlocks},
		{0, pageSize, (blocks - 4) / chunkBlocks},
		{10 * blockSize, chunkBlocks * blockSize, (blocks - 18) / chunkBlocks},
		{0, 8 * blockSize, 0}, // spread over the processors as it is
	} {
		_, before := w.aheadNow()
		f := w.reader(id)
		expect(t, f, c.from, content[c.from:], c.size)
		if _, begun := w.aheadNow(); begun-before < c.begun || begun-before > c.begun+1 {
			t.Errorf("from %d in reads of %d: %d chunks, not %d", c.from, c.size, begun-before, c.begun)
		}
		shut(t, f)
		if held, _ := w.aheadNow(); held != 0 {
			t.Errorf("from %d in reads of %d: %d chunks after the close", c.from, c.size, held)
		}
	}
}

// TestReadAheadOfRandomReads: reads that do not follow one another open nothing ahead, and the first one ends what those that did have opened.
func TestReadAheadOfRandomReads(t *testing.T) {
	w := newWorld(t, 1)
	id, content := w.published(64)
	f := w.reader(id)
	rng := rand.New(rand.NewPCG(1, 2))
	last := 0
	for range 3000 {
		size := []int{pageSize, readSize}[rng.IntN(2)]
		off := rng.IntN((len(content)-size)/pageSize) * pageSize
		if off == last {
			continue
		}
		expect(t, f, off, content[off:off+size], size)
		last = off + size
	}
	if _, begun := w.aheadNow(); begun != 0 {
		t.Errorf("%d chunks were begun", begun)
	}
	expect(t, f, 0, content[:8*blockSize], readSize)
	if _, begun := w.aheadNow(); begun == 0 || len(f.ahead.chunks) == 0 {
		t.Fatal("nothing is opened ahead of a sequential read")
	}
	expect(t, f, 60*blockSize, content[60*blockSize:60*blockSize+pageSize], pageSize)
	f.ahead.workers.Wait()
	if held, _ := w.aheadNow(); held != 0 {
		t.Errorf("%d chunks after a read elsewhere", held)
	}
	shut(t, f)
}

// TestReadAheadIsBounded: many handles together open no more ahead than there is room for; who does not read on loses it, and who is closed.
func TestReadAheadIsBounded(t *testing.T) {
	w := newWorld(t, 1)
	id, content := w.published(80)
	var files []*File
	for range 20 {
		files = append(files, w.reader(id))
	}
	const half = 40 * blockSize
	most := 0
	for off := 0; off < half; off += readSize {
		for _, f := range files {
			expect(t, f, off, content[off:off+readSize], readSize)
			held, _ := w.aheadNow()
			most = max(most, held)
			if n := len(f.ahead.chunks); n > aheadBlocks/chunkBlocks+1 {
				t.Fatalf("%d chunks of one handle", n)
			}
		}
	}
	if most != aheadChunks {
		t.Errorf("%d chunks at most, there is room for %d", most, aheadChunks)
	}
	w.Drive.ahead.sweep()
	if held, _ := w.aheadNow(); held < aheadChunks-len(files) {
		t.Errorf("%d chunks left of what was just read", held)
	}
	w.Drive.ahead.sweep()
	for _, f := range files {
		f.ahead.workers.Wait()
	}
	if held, _ := w.aheadNow(); held != 0 {
		t.Errorf("%d chunks that nobody reads", held)
	}
	for _, f := range files {
		expect(t, f, half, content[half:half+10*blockSize], readSize)
	}
	for _, f := range files[1:] {
		shut(t, f)
	}
	held, _ := w.aheadNow()
	if n := len(files[0].ahead.chunks); held != n || n == 0 {
		t.Errorf("%d chunks, %d of the only handle", held, n)
	}
	if err := w.Drive.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if held, _ := w.aheadNow(); held != 0 {
		t.Errorf("%d chunks in a closed drive", held)
	}
	w.start()
}

// TestReadAheadOfChangedFile: what is changed while blocks of it are open ahead is read as it is now, and a change ends the reading ahead.
func TestReadAheadOfChangedFile(t *testing.T) {
	const at = 14 // a block that is open ahead
	for what, change := range map[string]func(t *testing.T, w *world, f *File, content []byte) []byte{
		"block": func(t *testing.T, w *world, f *File, content []byte) []byte {
			mustWrite(t, f, string(make([]byte, blockSize)), at*blockSize)
			clear(content[at*blockSize : (at+1)*blockSize])
			return content
		},
		"page": func(t *testing.T, w *world, f *File, content []byte) []byte {
			mustWrite(t, f, string(make([]byte, pageSize)), at*blockSize+pageSize)
			clear(content[at*blockSize+pageSize : at*blockSize+2*pageSize])
			return content
		},
		"block, published": func(t *testing.T, w *world, f *File, content []byte) []byte {
			mustWrite(t, f, string(make([]byte, blockSize)), at*blockSize)
			clear(content[at*blockSize : (at+1)*blockSize])
			w.publishNow()
			if c := f.ahead.chunk(*f.in.extent(at), at); c != nil {
				t.Error("a block is looked for where it stood before")
			}
			return content
		},
		"hole": func(t *testing.T, w *world, f *File, content []byte) []byte {
			if err := f.Allocate(w.t.Context(), punchHole|keepSize, at*blockSize, 3*blockSize); err != nil {
				w.t.Fatal(err)
			}
			clear(content[at*blockSize : (at+3)*blockSize])
			return content
		},
		"cut and longer": func(t *testing.T, w *world, f *File, content []byte) []byte {
			for _, size := range []uint64{at*blockSize + 100, uint64(len(content))} {
				if _, err := f.SetAttr(w.t.Context(), AttrChange{Size: &size}); err != nil {
					w.t.Fatal(err)
				}
			}
			clear(content[at*blockSize+100:])
			return content
		},
		"cut": func(t *testing.T, w *world, f *File, content []byte) []byte {
			size := uint64(at*blockSize + 100)
			if _, err := f.SetAttr(w.t.Context(), AttrChange{Size: &size}); err != nil {
				w.t.Fatal(err)
			}
			return content[:size]
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, 1)
			id, content := w.published(40)
			f, err := w.Open(t.Context(), id, true)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, f, 0, content[:12*blockSize], readSize)
			f.ahead.workers.Wait()
			if c := f.ahead.chunk(*f.in.extent(at), at); c == nil || len(c.plain) != chunkBlocks*blockSize {
				t.Fatalf("block %d is not open ahead", at)
			}
			content = change(t, w, f, content)
			expect(t, f, 12*blockSize, content[12*blockSize:12*blockSize+blockSize], blockSize)
			if len(f.ahead.chunks) != 0 {
				t.Errorf("%d chunks after a change", len(f.ahead.chunks))
			}
			expect(t, f, 13*blockSize, content[13*blockSize:], readSize)
			if b, err := f.ReadAt(t.Context(), make([]byte, 1), int64(len(content))); b != 0 || err != nil {
				t.Errorf("behind the end: %d, %v", b, err)
			}
			shut(t, f)
		})
	}
}

// TestReadAheadOfRemoteChange: a peer's change that arrives during a sequential read shows in none of it, and in all of the next.
func TestReadAheadOfRemoteChange(t *testing.T) {
	a, b := twoNodes(t)
	id, content := a.published(40)
	exchange(t, a, b)
	f := a.reader(id)
	expect(t, f, 0, content[:12*blockSize], readSize)
	theirs, err := b.Open(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(content)
	clear(changed[10*blockSize : 30*blockSize])
	mustWrite(t, theirs, string(changed[10*blockSize:30*blockSize]), 10*blockSize)
	shut(t, theirs)
	b.publishNow()
	exchange(t, a, b)
	expect(t, f, 12*blockSize, content[12*blockSize:], readSize)
	shut(t, f)
	f = a.reader(id)
	expect(t, f, 0, changed, readSize)
	shut(t, f)
}

// TestReadAheadOfBusyFile: a block read in sequence, while others write, cut, publish and read, is as whole as it was written, and never older than the last write before the read.
func TestReadAheadOfBusyFile(t *testing.T) {
	const blocks, rounds = 48, 60
	w := newWorld(t, 1)
	id := w.put(record.Root, "f", string(make([]byte, blocks*blockSize)))
	w.publishNow()
	var done [blocks]atomic.Uint64 // by block: the version that was written last
	stamped := func(version uint64) string {
		return string(bytes.Repeat(binary.LittleEndian.AppendUint64(nil, version), blockSize/8))
	}
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		f, err := w.Open(t.Context(), id, true)
		if err != nil {
			t.Error(err)
			return
		}
		defer shut(t, f)
		rng := rand.New(rand.NewPCG(3, 4))
		for version := uint64(1); ; version++ {
			select {
			case <-stop:
				return
			default:
			}
			n := rng.Uint64N(blocks)
			if _, err := f.WriteAt(t.Context(), []byte(stamped(version)), int64(n*blockSize), false); err != nil {
				t.Error(err)
				return
			}
			done[n].Store(version)
			switch version % 64 {
			case 20: // the last block, so that what is cut is written at once
				size := uint64((blocks - 1) * blockSize)
				if _, err := f.SetAttr(t.Context(), AttrChange{Size: &size}); err != nil {
					t.Error(err)
				}
				if _, err := f.WriteAt(t.Context(), []byte(stamped(version)), int64(size), false); err != nil {
					t.Error(err)
				}
				done[blocks-1].Store(version)
			case 40:
				if err := w.Publish(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
	})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			f, err := w.Open(t.Context(), id, false)
			if err != nil {
				t.Error(err)
				return
			}
			defer shut(t, f)
			p := make([]byte, readSize)
			for range rounds {
				for off := 0; off < blocks*blockSize; off += readSize {
					var before [2]uint64
					for i := range before {
						before[i] = done[off/blockSize+i].Load()
					}
					p, done, err := f.Read(t.Context(), p, int64(off))
					k := len(p)
					if err != nil || k != readSize && off+k != (blocks-1)*blockSize {
						t.Errorf("%d bytes at %d, %v", k, off, err)
						return
					}
					for i := range k / blockSize {
						b := p[i*blockSize : (i+1)*blockSize]
						if version := binary.LittleEndian.Uint64(b); version < before[i] || string(b) != stamped(version) {
							t.Errorf("block %d has version %d, written before was %d", off/blockSize+i, version, before[i])
							return
						}
					}
					if done != nil {
						done()
					}
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	others.Wait()
	if held, begun := w.aheadNow(); held != 0 || begun == 0 {
		t.Errorf("%d chunks, %d begun", held, begun)
	}
}

// TestReadAheadOfBadBlock: a block that does not open fails the read of it and none before it.
func TestReadAheadOfBadBlock(t *testing.T) {
	const bad = 21
	w := newWorld(t, 1)
	id, content := w.published(32)
	data, err := w.feeds[w.bytes.DiscoveryKey().String()].Open("data")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	at := int64(bad*blockSize + blockSize/2)
	if _, err := data.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	if _, err := data.WriteAt([]byte{b[0] ^ 1}, at); err != nil {
		t.Fatal(err)
	}
	f := w.reader(id)
	expect(t, f, 0, content[:20*blockSize], readSize)
	if n, err := f.ReadAt(t.Context(), make([]byte, readSize), 20*blockSize); !errors.Is(err, record.ErrSealed) {
		t.Errorf("%d bytes, %v", n, err)
	}
	expect(t, f, 22*blockSize, content[22*blockSize:], readSize)
	shut(t, f)
	if _, err := data.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestReadAheadOfAbsentBlocks: peers are asked for what a read is about, at once, for as much behind it as is opened ahead if it is a sequential one, and for nothing else.
func TestReadAheadOfAbsentBlocks(t *testing.T) {
	w := newWorld(t, 1)
	id, content := w.published(100)
	w.bytes.Clear(t.Context(), 50, w.bytes.Len())
	w.cache.Purge()
	f := w.reader(id)
	expect(t, f, 0, content[:14*blockSize], readSize)
	if wanted := w.bytes.Wanted(); len(wanted) != 0 {
		t.Errorf("wanted of what is here: %d", wanted)
	}
	expect(t, f, 14*blockSize, content[14*blockSize:24*blockSize], readSize)
	if wanted := w.bytes.Wanted(); len(wanted) != 24+aheadBlocks-50 || wanted[0] != 50 {
		t.Errorf("wanted ahead: %d", wanted)
	}
	for _, at := range []struct{ off, size, wanted int }{{90 * blockSize, pageSize, 0}, {80 * blockSize, 4 * blockSize, 4}} {
		before := len(w.bytes.Wanted())
		if _, err := f.ReadAt(t.Context(), make([]byte, at.size), int64(at.off)); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%d bytes at %d: %v", at.size, at.off, err)
		}
		if n := len(w.bytes.Wanted()) - before; n > at.wanted || n < at.wanted-1 { // that which was waited for in vain is wanted no longer
			t.Errorf("%d bytes at %d: %d blocks are wanted beside", at.size, at.off, n)
		}
	}
	shut(t, f)
}
