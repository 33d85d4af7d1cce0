package drive

import (
	"errors"
	"maps"
	"testing"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
)

// TestDoubt opens an older copy of a node's store: it writes nothing before a peer has told, and given, all that the node wrote since.
func TestDoubt(t *testing.T) {
	a, b := twoNodes(t)
	b.put(record.Root, "f", "before")
	meet(t, a, b)
	if err := b.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	backup := map[string]*hypercore.Memory{}
	for name, m := range b.feeds {
		backup[name] = copied(t, m)
	}
	big := string(make([]byte, 3*blockSize))
	b.put(record.Root, "g", big)
	b.put(record.Root, "f", "after")
	meet(t, a, b)
	b.stop()

	b.feeds, b.kv, b.doubt = maps.Clone(backup), view.NewMemory(), "restored"
	b.start()
	own, content := b.own.Key(), b.bytes.Key()
	behind, behindBytes := b.own.Len(), b.bytes.Len()
	refused := func(why string) {
		t.Helper()
		if err := b.receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Make(t.Context(), record.Root, "x", NewInode{Kind: record.File}); !errors.Is(err, ErrOldCopy) || b.Writable() || !b.InDoubt() {
			t.Fatalf("%s: %v, writable %v", why, err, b.Writable())
		}
	}
	refused("nobody said anything")
	b.End(own, behind-1)
	b.End(content, behindBytes)
	refused("a peer has less")
	b.End(own, a.feedLen(t, own))
	refused("a peer has more that is not here")
	exchange(t, a, b)
	if b.own.Len() != a.feedLen(t, own) {
		t.Fatal("the end was not taken over")
	}
	b.End(content, a.feedLen(t, content))
	if err := b.receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !b.Writable() || b.InDoubt() || b.doubt != "" {
		t.Fatal("a peer gave everything")
	}
	b.put(record.Root, "f", "again")
	meet(t, a, b)
	if text, err := a.read(a.path("f")); text != "again" || err != nil {
		t.Errorf("reads %q, %v", text, err)
	}
	if text, err := b.read(b.path("g")); text != big || err != nil {
		t.Errorf("reads %d bytes, %v", len(text), err)
	}
}

// TestDoubtOfContent: the records are all here, but not the end of the content feed, on which they stand.
func TestDoubtOfContent(t *testing.T) {
	a, b := twoNodes(t)
	b.put(record.Root, "f", "text")
	meet(t, a, b)
	content := b.bytes.Key()
	b.stop()
	b.feeds[hypercore.DiscoveryKey(content).String()] = nil
	b.doubt = "restored"
	b.start()
	b.End(b.own.Key(), b.own.Len())
	b.End(content, 0)
	if err := b.receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.Writable() {
		t.Fatal("it may append to a content feed of which it lacks the end")
	}
	exchange(t, a, b)
	if !b.Writable() {
		t.Error("all is here")
	}
}

// copied returns a copy of a feed's files.
func copied(t *testing.T, from *hypercore.Memory) *hypercore.Memory {
	t.Helper()
	to := hypercore.NewMemory()
	for _, name := range []string{"data", "tree", "signatures", "bitfield", "head", "fork"} {
		a, err := from.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := to.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		size, err := a.Size()
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, size)
		if n, err := a.ReadAt(data, 0); n < len(data) {
			t.Fatal(err)
		}
		if _, err := b.WriteAt(data, 0); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func (w *world) feedLen(t *testing.T, key hypercore.Key) uint64 {
	t.Helper()
	f, err := w.feedsGet(key)
	if err != nil {
		t.Fatal(err)
	}
	return f.Len()
}
