package tcp_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/replicationtest"
	"hyphafs.org/hyphafs/replication/tcp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loopback connects two sockets.
func loopback(t testing.TB) (dialler, accepter replication.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if dialler, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if accepter, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return dialler, accepter
}

func TestSuite(t *testing.T) { replicationtest.Suite(t, loopback) }

// listen runs a Listener for n until the test ends.
func listen(t testing.TB, n tcp.Node, address string) (l *tcp.Listener, stop func()) {
	t.Helper()
	l, err := tcp.Listen(t.Context(), address, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := l.Run(ctx, n); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	stop = func() { cancel(); done.Wait() }
	t.Cleanup(stop)
	return l, stop
}

// dial runs Dial until the test ends.
func dial(t testing.TB, n tcp.Node, address string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := tcp.Dial(ctx, n, address, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
}

func TestListenAndDial(t *testing.T) {
	w, r := replicationtest.Writer(t, 0, replicationtest.Blocks(10, 100)...), replicationtest.Reader(t, 0)
	a, _ := replicationtest.Node(t, replication.Config{}, w)
	b, _ := replicationtest.Node(t, replication.Config{}, r)
	l, _ := listen(t, a, "127.0.0.1:0")
	dial(t, b, l.Addr())
	replicationtest.Wait(t, r, 10)
	if p := b.Peers(); len(p) != 1 || p[0].URL != l.URL() || p[0].Kind != "tcp" || !p[0].Dialled || p[0].Down == 0 || p[0].Up == 0 {
		t.Errorf("%+v", p)
	}
}

func TestDialComesBack(t *testing.T) {
	w, r := replicationtest.Writer(t, 0, replicationtest.Blocks(10, 100)...), replicationtest.Reader(t, 0)
	a, _ := replicationtest.Node(t, replication.Config{}, w)
	b, _ := replicationtest.Node(t, replication.Config{}, r)
	l, stop := listen(t, a, "127.0.0.1:0")
	address := l.Addr()
	dial(t, b, address)
	replicationtest.Wait(t, r, 10)
	stop()
	replicationtest.Append(t, w, replicationtest.Blocks(5, 50)...)
	listen(t, a, address)
	replicationtest.Wait(t, r, 15)
}

func TestDialSelf(t *testing.T) {
	a, _ := replicationtest.Node(t, replication.Config{}, replicationtest.Writer(t, 0))
	l, _ := listen(t, a, "127.0.0.1:0")
	if err := tcp.Dial(t.Context(), a, l.Addr(), nil); !errors.Is(err, replication.ErrSelf) {
		t.Error(err)
	}
}

// disk opens a feed on disk.
func disk(t testing.TB, n uint64, write bool) *hypercore.Feed {
	t.Helper()
	if write {
		return replicationtest.Open(t, hypercore.Dir(t.TempDir()), replicationtest.Key(n), replicationtest.Secret(n))
	}
	return replicationtest.Open(t, hypercore.Dir(t.TempDir()), replicationtest.Key(n), nil)
}

// BenchmarkBytes moves 64-KiB blocks over loopback TCP, encrypted, from disk to disk.
func BenchmarkBytes(b *testing.B) { move(b, 16384, 64<<10) }

// BenchmarkBlocks moves small blocks.
func BenchmarkBlocks(b *testing.B) { move(b, 100_000, 300) }

func move(b *testing.B, count, size int) {
	w := disk(b, 0, true)
	for done := 0; done < count; {
		batch := replicationtest.Blocks(min(256, count-done), size)
		for _, block := range batch {
			if _, err := rand.Read(block[8:min(size, 64)]); err != nil {
				b.Fatal(err)
			}
		}
		replicationtest.Append(b, w, batch...)
		done += len(batch)
	}
	debug.FreeOSMemory()
	for b.Loop() {
		r := disk(b, 0, false)
		na, _ := replicationtest.Node(b, replication.Config{}, w)
		nb, _ := replicationtest.Node(b, replication.Config{}, r)
		l := replicationtest.Connect(b, loopback, nb, na)
		begun := time.Now()
		peak := peakHeap(func() { replicationtest.Wait(b, r, uint64(count)) })
		took := time.Since(begun).Seconds()
		l.Cut()
		b.ReportMetric(float64(count)/took, "blocks/s")
		b.ReportMetric(float64(count)*float64(size)/took/1e6, "MB/s")
		b.ReportMetric(float64(peak)/(1<<20), "MiB-peak-heap")
	}
}

// peakHeap runs f and returns the most bytes of heap that were in use meanwhile, both nodes together.
func peakHeap(f func()) (peak uint64) {
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapInuse)
			}
		}
	})
	f()
	close(stop)
	done.Wait()
	return peak
}
