package s3_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/archive"
	"hyphafs.org/hyphafs/drive/archive/s3"
	"hyphafs.org/hyphafs/drive/archive/s3/s3test"
	"hyphafs.org/hyphafs/drive/hypercore"
)

const bucketURL = "s3://bucket/hyphas"

// writer is a feed with its secret key, in memory, and n blocks of size bytes.
func writer(t testing.TB, seed uint64, n, size int) *hypercore.Feed {
	t.Helper()
	secret := ed25519.NewKeyFromSeed(binary.BigEndian.AppendUint64(make([]byte, 24), seed))
	f, err := hypercore.Open(hypercore.NewMemory(), hypercore.Key(secret.Public().(ed25519.PublicKey)), hypercore.Options{Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	for done := 0; done < n; {
		var blocks [][]byte
		for range min(7, n-done) {
			b := bytes.Repeat([]byte{byte(done)}, size)
			binary.BigEndian.PutUint64(b, uint64(done))
			blocks = append(blocks, b)
			done++
		}
		if _, err := f.Append(t.Context(), blocks); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// give moves one block as two peers would.
func give(t testing.TB, from *hypercore.Feed, to *archive.Feed, seq uint64) {
	t.Helper()
	p, err := from.Proof(seq, to.Digest(seq), &hypercore.Marks{}, false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := from.Block(seq)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Put(t.Context(), seq, b, p); err != nil {
		t.Fatalf("block %d: %v", seq, err)
	}
}

// instance is a running store.
type instance struct {
	*archive.Store
	stop func()

	mu   sync.Mutex // guards what follows
	kept map[uint64]int
}

// start runs a store over dir until the test ends or stop is called.
func start(t testing.TB, dir string, change ...func(*archive.Config)) *instance {
	t.Helper()
	bucket, err := s3.Open(bucketURL)
	if err != nil {
		t.Fatal(err)
	}
	in := &instance{kept: map[uint64]int{}}
	cfg := archive.Config{Bucket: bucket, Dir: dir, Log: slog.New(slog.DiscardHandler), Delay: 20 * time.Millisecond, PollMin: 50 * time.Millisecond, PollMax: 200 * time.Millisecond,
		OnKept: func(_ *archive.Feed, from, to uint64) {
			in.mu.Lock()
			defer in.mu.Unlock()
			for seq := from; seq < to; seq++ {
				in.kept[seq]++
			}
		}}
	for _, c := range change {
		c(&cfg)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	if in.Store, err = archive.Open(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = in.Run(ctx) // it ends with the context's error
	}()
	in.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		if err := in.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
		bucket.Close()
	})
	t.Cleanup(in.stop)
	return in
}

func (in *instance) said(seq uint64) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.kept[seq] > 0
}

func (in *instance) feed(t testing.TB, key hypercore.Key) *archive.Feed {
	t.Helper()
	f, err := in.Feed(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// compare reads with an empty cache what an instance is asked for, and fails if a block that need says must be there is not, or any differs.
func compare(t testing.TB, source *hypercore.Feed, need func(seq uint64) bool) {
	t.Helper()
	in := start(t, t.TempDir())
	defer in.stop()
	f := in.feed(t, source.Key())
	defer f.Close()
	for seq := range source.Len() {
		if !need(seq) {
			continue
		}
		got, err := f.Block(seq)
		if err != nil {
			t.Fatalf("block %d of %d: %v", seq, source.Len(), err)
		}
		if want, err := source.Block(seq); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("block %d is not what was written (%v)", seq, err)
		}
	}
}

func all(uint64) bool { return true }

// eventually waits until done.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}

// TestServerKilled kills the server again and again while blocks come: what was said to be kept is there, always; what was not gets there in the end.
func TestServerKilled(t *testing.T) {
	server := s3test.Start(t, "bucket")
	source := writer(t, 1, 600, 5000)
	in := start(t, t.TempDir())
	f := in.feed(t, source.Key())
	defer f.Close()
	next := uint64(0)
	for range 5 {
		for range 60 {
			give(t, source, f, next)
			next++
			time.Sleep(time.Millisecond) // so that the kill falls between requests, and into them
		}
		server.Kill()
		in.mu.Lock()
		said := map[uint64]bool{}
		for seq := range in.kept {
			said[seq] = true
		}
		in.mu.Unlock()
		for range 60 { // it goes on without
			give(t, source, f, next)
			if got, err := f.Block(next); err != nil || len(got) != 5000 {
				t.Fatalf("block %d, which is cached: %v", next, err)
			}
			next++
		}
		server.Restart(t)
		compare(t, source, func(seq uint64) bool { return said[seq] })
	}
	eventually(t, "everything is kept", func() bool { return in.Status().Unkept == 0 })
	if err := in.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for seq := range source.Len() {
		if !in.said(seq) || !f.Kept(seq) {
			t.Fatalf("block %d: nobody said that it is kept", seq)
		}
	}
	compare(t, source, all)
}

// TestTwoInstances lets two instances store the same and different parts of one feed at once, while the server is killed; both know and serve all of it in the end, and so does
// a third one without a cache.
func TestTwoInstances(t *testing.T) {
	server := s3test.Start(t, "bucket")
	source := writer(t, 2, 500, 3000)
	two := []*instance{start(t, t.TempDir()), start(t, t.TempDir())}
	var feeds []*archive.Feed
	for _, in := range two {
		f := in.feed(t, source.Key())
		defer f.Close()
		feeds = append(feeds, f)
	}
	var tasks sync.WaitGroup
	for i, f := range feeds {
		tasks.Go(func() {
			for seq := range source.Len() {
				if seq%10 < 4 || seq%2 == uint64(i) { // four of ten at both, the others at one
					give(t, source, f, seq)
					time.Sleep(500 * time.Microsecond) // so that both are at work when the server dies
				}
			}
		})
	}
	time.Sleep(100 * time.Millisecond) // in the middle of that
	server.Kill()
	time.Sleep(100 * time.Millisecond) // in which they find nobody
	server.Restart(t)
	tasks.Wait()
	for i, in := range two {
		eventually(t, fmt.Sprintf("instance %d knows of everything", i), func() bool { return feeds[i].Have() == source.Len() && in.Status().Unkept == 0 })
	}
	for seq := range source.Len() {
		for i, f := range feeds {
			got, err := f.Block(seq)
			if want, werr := source.Block(seq); err != nil || werr != nil || !bytes.Equal(got, want) {
				t.Fatalf("block %d from instance %d: %v", seq, i, err)
			}
		}
	}
	compare(t, source, all)
}

// TestAway: what is cached is served while the server is silent, what is not is missing at once, and is told of when the server is back. A store opens without it.
func TestAway(t *testing.T) {
	server := s3test.Start(t, "bucket")
	source := writer(t, 3, 40, 200_000)
	first := start(t, t.TempDir())
	f := first.feed(t, source.Key())
	for seq := range source.Len() {
		give(t, source, f, seq)
	}
	if err := first.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	second := start(t, dir, func(c *archive.Config) { c.Timeout = 4 * time.Second })
	g := second.feed(t, source.Key())
	if _, err := g.Block(0); err != nil {
		t.Fatal(err)
	}
	thaw := server.Freeze(t)
	if _, err := g.Block(1); err != nil { // of the same pack
		t.Errorf("a cached block: %v", err)
	}
	missing := source.Len() - 1
	if _, err := g.Block(missing); !errors.Is(err, hypercore.ErrNotStored) {
		t.Errorf("a block of a silent server: %v", err)
	}
	if g.Has(missing) || !g.Has(1) || g.Bitfield(0, 40)[0] == 0 {
		t.Error("what cannot be read is said to be here, or what can is not")
	}
	if second.Status().Away == 0 {
		t.Error("nobody noticed")
	}
	third := start(t, t.TempDir(), func(c *archive.Config) { c.Timeout = 4 * time.Second })
	h := third.feed(t, source.Key())
	if h.Len() != 0 {
		t.Errorf("length %d without a server", h.Len())
	}
	give(t, source, h, 5) // it knows nothing and takes what it gets
	second.mu.Lock()
	clear(second.kept)
	second.mu.Unlock()
	thaw()
	eventually(t, "it is told that the blocks are here again", func() bool { return second.said(missing) })
	if got, err := g.Block(missing); err != nil || len(got) != 200_000 || !g.Has(missing) {
		t.Errorf("afterwards: %v", err)
	}
	eventually(t, "the third learns of everything", func() bool { return h.Have() == source.Len() })
	for _, f := range []*archive.Feed{f, g, h} {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestCache: the cache stays small, is filled again when it was lost or damaged, and what an earlier run left in it gets into the bucket.
func TestCache(t *testing.T) {
	server := s3test.Start(t, "bucket")
	const limit = 8 << 20
	source := writer(t, 4, 400, 100_000) // 40 MB
	dir := t.TempDir()
	in := start(t, dir, func(c *archive.Config) { c.CacheBytes = limit })
	f := in.feed(t, source.Key())
	for seq := range source.Len() {
		give(t, source, f, seq)
	}
	if err := in.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	small := func() bool { return in.Status().Cache <= limit }
	eventually(t, "the cache is small after writing", small)
	for _, seq := range []uint64{0, 399, 200, 0, 100, 300} {
		if got, err := f.Block(seq); err != nil || len(got) != 100_000 {
			t.Fatalf("block %d: %v", seq, err)
		}
	}
	eventually(t, "the cache is small after reading", small)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	in.stop()
	for _, file := range []string{"head", "tree"} { // damaged in two ways
		path := filepath.Join(dir, source.DiscoveryKey().String(), file)
		if err := os.WriteFile(path, bytes.Repeat([]byte{7}, 8192), 0o600); err != nil {
			t.Fatal(err)
		}
		in = start(t, dir)
		f = in.feed(t, source.Key())
		if got, err := f.Block(399); err != nil || len(got) != 100_000 {
			t.Fatalf("after %s was damaged: %v", file, err)
		}
		in.stop()
	}
	server.Kill()
	in = start(t, dir)
	f = in.feed(t, writer(t, 5, 0, 0).Key())
	give(t, writer(t, 5, 3, 100), f, 1)
	in.stop()
	server.Restart(t)
	in = start(t, dir) // nobody asks for the feed
	eventually(t, "what was left is in the bucket", func() bool {
		_, there := server.Objects(t, "bucket")["hyphas/"+writer(t, 5, 0, 0).DiscoveryKey().String()+"/manifest"]
		return there
	})
	compare(t, writer(t, 5, 3, 100), func(seq uint64) bool { return seq == 1 })
}

// TestVectors: the feeds that the npm package made go through the bucket and come back to the byte.
func TestVectors(t *testing.T) {
	raw, err := os.ReadFile("../../hypercore/testdata/hypercore.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Feeds []struct {
			Name    string   `json:"name"`
			KeySeed string   `json:"keySeed"`
			Batch   bool     `json:"appendedAsOneBatch"`
			Blocks  []string `json:"blocks"`
		} `json:"feeds"`
	}
	if err := json.Unmarshal(raw, &vectors); err != nil || len(vectors.Feeds) == 0 {
		t.Fatalf("%d vectors, %v", len(vectors.Feeds), err)
	}
	for _, v := range vectors.Feeds {
		t.Run(v.Name, func(t *testing.T) {
			s3test.Start(t, "bucket") // they are all of one key
			secret := ed25519.NewKeyFromSeed(unhex(t, v.KeySeed))
			source, err := hypercore.Open(hypercore.NewMemory(), hypercore.Key(secret.Public().(ed25519.PublicKey)), hypercore.Options{Secret: secret})
			if err != nil {
				t.Fatal(err)
			}
			var blocks [][]byte
			for _, b := range v.Blocks {
				blocks = append(blocks, unhex(t, b))
			}
			for len(blocks) > 0 {
				n := 1
				if v.Batch {
					n = len(blocks)
				}
				if _, err := source.Append(t.Context(), blocks[:n]); err != nil {
					t.Fatal(err)
				}
				blocks = blocks[n:]
			}
			in := start(t, t.TempDir())
			f := in.feed(t, source.Key())
			defer f.Close()
			for seq := range source.Len() {
				give(t, source, f, seq)
			}
			if err := f.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			compare(t, source, all)
			again := start(t, t.TempDir()).feed(t, source.Key())
			if again.Root() != source.Root() || again.Bytes() != source.Bytes() {
				t.Error("the bucket has another head")
			}
		})
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	var b []byte
	if _, err := fmt.Sscanf(s, "%x", &b); err != nil && s != "" {
		t.Fatal(err)
	}
	return b
}

// The environment of a process that is an instance and is killed.
const (
	envDir  = "HYPHAFS_TEST_S3_DIR"
	envFrom = "HYPHAFS_TEST_S3_FROM"
)

// TestInstance is the process that TestInstanceKilled kills: it stores blocks and prints which it says are kept.
func TestInstance(t *testing.T) {
	dir := os.Getenv(envDir)
	if dir == "" {
		t.Skip("this is a process of TestInstanceKilled")
	}
	source := writer(t, 6, 2000, 2000)
	in := start(t, dir, func(c *archive.Config) {
		c.OnKept = func(_ *archive.Feed, from, to uint64) { fmt.Printf("kept %d %d\n", from, to) }
	})
	f := in.feed(t, source.Key())
	var from uint64
	if _, err := fmt.Sscan(os.Getenv(envFrom), &from); err != nil {
		t.Fatal(err)
	}
	for seq := from; seq < from+400; seq++ {
		give(t, source, f, seq)
		time.Sleep(time.Millisecond) // so that it is killed while there is something left to give
	}
	if err := in.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	fmt.Println("done")
	time.Sleep(time.Hour) // it is killed
}

// TestInstanceKilled kills an instance with SIGKILL again and again, with its disk lost or not: what it said is kept is in the bucket.
func TestInstanceKilled(t *testing.T) {
	s3test.Start(t, "bucket")
	source := writer(t, 6, 2000, 2000)
	kept := map[uint64]bool{}
	dir := t.TempDir()
	for life := range 5 {
		if life == 3 {
			dir = t.TempDir() // the disk is lost
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestInstance$", "-test.v")
		cmd.Env = append(os.Environ(), envDir+"="+dir, envFrom+"="+fmt.Sprint(life*400))
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, heard, said := bufio.NewScanner(out), 0, ""
		for lines.Scan() {
			said += lines.Text() + "\n"
			var from, to uint64
			if _, err := fmt.Sscanf(lines.Text(), "kept %d %d", &from, &to); err == nil {
				for seq := from; seq < to; seq++ {
					kept[seq] = true
				}
				heard++
			}
			if heard == 2+life || strings.HasPrefix(lines.Text(), "done") {
				break
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		if heard == 0 {
			t.Fatalf("life %d said: %s", life, said)
		}
		compare(t, source, func(seq uint64) bool { return kept[seq] })
	}
	in := start(t, dir) // on the last one's disk, which may have more
	f := in.feed(t, source.Key())
	defer f.Close()
	eventually(t, "what was left is in the bucket", func() bool { return in.Status().Unkept == 0 })
	compare(t, source, f.Kept)
}
