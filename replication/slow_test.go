package replication_test

import (
	"testing"
	"testing/synctest"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/replicationtest"
)

// slow is a connection that carries so many bytes a second.
type slow struct {
	replication.Conn
	rate int
}

func (s slow) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := min(len(p), 1400)
		time.Sleep(time.Duration(k) * time.Second / time.Duration(s.rate)) // of fake time
		m, err := s.Conn.Write(p[:k])
		if n += m; err != nil {
			return n, err
		}
		p = p[k:]
	}
	return n, nil
}

// TestSlowLink moves blocks over 100 kB a second: nothing times out, nothing is asked for twice, and a block that somebody waits for comes soon.
func TestSlowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := replicationtest.Writer(t, 0, replicationtest.Blocks(200, 64<<10)...), replicationtest.Reader(t, 0)
		a, _ := replicationtest.Node(t, replication.Config{}, w)
		b, _ := replicationtest.Node(t, replication.Config{}, r)
		l := replicationtest.Connect(t, func(t testing.TB) (replication.Conn, replication.Conn) {
			x, y := replicationtest.Pipe(t)
			return slow{x, 100_000}, slow{y, 100_000}
		}, a, b)
		time.Sleep(20 * time.Second)
		begun := time.Now()
		if _, err := r.Get(t.Context(), 150); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 12*time.Second {
			t.Errorf("a wish took %v", took)
		}
		for r.Have() < 200 && time.Since(begun) < 5*time.Minute {
			time.Sleep(time.Second)
		}
		if c := b.Counters(); r.Have() < 200 || c != (replication.Counters{}) {
			t.Errorf("%d blocks, %+v", r.Have(), c)
		}
		if p := b.Peers(); len(p) != 1 || p[0].Down > 201*(66<<10) {
			t.Errorf("%+v", p)
		}
		l.Cut()
	})
}

// TestLiarAboutOurOwnFeed says it has more of what we write, and sends nonsense for it.
func TestLiarAboutOurOwnFeed(t *testing.T) {
	claims := make(chan uint64, 10)
	feed := replicationtest.Writer(t, 0, []byte("one"), []byte("two"))
	n, _ := replicationtest.Node(t, replication.Config{OnAhead: func(_ hypercore.Key, length uint64, proved bool) {
		if proved {
			t.Error("taken for proved")
		}
		claims <- length
	}}, feed)
	s := play(t, n, feed.Key(), &[24]byte{3})
	s.greet(true)
	s.write(have(5))
	s.asked(0, 5)
	s.write(nonsense(5))
	if err := s.ended(); err == nil || n.Counters().BadProofs != 1 {
		t.Errorf("ended with %v, %+v", err, n.Counters())
	}
	if got := <-claims; got != 6 || feed.Len() != 2 {
		t.Errorf("claimed %d, length %d", got, feed.Len())
	}
	replicationtest.Append(t, feed, []byte("three"))
}
