package replication_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/replicationtest"
)

// keeper is a feed whose blocks are kept when the test says so.
type keeper struct {
	*hypercore.Feed

	mu   sync.Mutex // guards what follows
	kept uint64     // blocks below this
}

func (k *keeper) Unkept(start, length uint64) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	bits := k.Bitfield(start, length)
	for i := range bits {
		for bit := range uint64(8) {
			if start+8*uint64(i)+bit < k.kept {
				bits[i] &^= 0x80 >> bit
			}
		}
	}
	return bits
}

func (k *keeper) keep(n *replication.Node, to uint64) {
	k.mu.Lock()
	from := k.kept
	k.kept = to
	k.mu.Unlock()
	n.Announce(k.Key(), from, to)
}

// TestKeeper: who gave a block hears of it when it is kept and not before, also over a new connection; who lacks it gets it at once.
func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const blocks = 300
		written := replicationtest.Writer(t, 0, replicationtest.Blocks(blocks, 100)...)
		middle := &keeper{Feed: replicationtest.Reader(t, 0)}
		read := replicationtest.Reader(t, 0)
		writer, _ := replicationtest.Node(t, replication.Config{}, written)
		relay, _ := replicationtest.Node(t, replication.Config{}, middle)
		reader, _ := replicationtest.Node(t, replication.Config{}, read)
		up := replicationtest.Connect(t, replicationtest.Pipe, writer, relay)
		down := replicationtest.Connect(t, replicationtest.Pipe, reader, relay)
		replicationtest.Wait(t, read, blocks) // it got everything through the relay, where nothing is kept
		behind := func(want uint64) {
			t.Helper()
			synctest.Wait()
			for range 3 { // it asks again each time
				n, peers, err := writer.Behind(t.Context())
				if err != nil || n != want || peers != 1 {
					t.Fatalf("the best of %d peers lacks %d blocks, want %d (%v)", peers, n, want, err)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
			}
		}
		behind(blocks)
		middle.keep(relay, 100)
		behind(blocks - 100)
		up.Cut()
		up = replicationtest.Connect(t, replicationtest.Pipe, writer, relay)
		synctest.Wait()
		behind(blocks - 100)
		late := replicationtest.Reader(t, 0) // who comes later gets everything, too
		another, _ := replicationtest.Node(t, replication.Config{}, late)
		last := replicationtest.Connect(t, replicationtest.Pipe, another, relay)
		replicationtest.Wait(t, late, blocks)
		middle.keep(relay, blocks)
		behind(0)
		if err := writer.Synced(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, l := range []*replicationtest.Link{up, down, last} {
			l.Cut()
		}
	})
}

// TestAnnounce: blocks that came otherwise than from a peer are announced.
func TestAnnounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written := replicationtest.Writer(t, 0, replicationtest.Blocks(20, 100)...)
		here, there := replicationtest.Reader(t, 0), replicationtest.Reader(t, 0)
		a, _ := replicationtest.Node(t, replication.Config{}, here)
		b, _ := replicationtest.Node(t, replication.Config{}, there)
		link := replicationtest.Connect(t, replicationtest.Pipe, a, b)
		synctest.Wait()
		for seq := range written.Len() {
			proof, err := written.Proof(seq, here.Digest(seq), &hypercore.Marks{}, false)
			if err != nil {
				t.Fatal(err)
			}
			block, err := written.Block(seq)
			if err != nil {
				t.Fatal(err)
			}
			if err := here.Put(t.Context(), seq, block, proof); err != nil {
				t.Fatal(err)
			}
		}
		a.Announce(here.Key(), 0, written.Len())
		replicationtest.Wait(t, there, written.Len())
		link.Cut()
	})
}
