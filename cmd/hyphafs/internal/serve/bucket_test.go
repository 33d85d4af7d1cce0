package serve

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/replicationtest"
	"hyphafs.org/hyphafs/replication/ws"
	"hyphafs.org/hyphafs/s3"
	"hyphafs.org/hyphafs/s3/s3test"
)

// wait waits until done.
func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}

func overS3(t *testing.T) *s3.Bucket {
	t.Helper()
	b, err := s3.Open("s3://bucket/hyphas")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// TestOnDemand: of a thousand Hyphas in a bucket those are open that a peer came for, and nothing is asked of the bucket for the others. One that was closed is opened again, by
// another instance, too.
func TestOnDemand(t *testing.T) {
	server := s3test.Start(t, "bucket")
	const hyphas, used = 1000, 6
	var keys []hypercore.Key
	for n := range uint64(hyphas) {
		keys = append(keys, replicationtest.Key(n))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	settings := Settings{Hyphas: keys, Bucket: overS3(t), Cache: 1 << 30, idle: 200 * time.Millisecond}
	r := start(t, settings)
	if n := len(r.hyphas()); n != 0 {
		t.Errorf("%d are open at the start", n)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("%d Hyphas that nobody asks for take %d bytes", hyphas, grown)
	}
	if objects := server.Objects(t, "bucket"); len(objects) > 0 {
		t.Errorf("the bucket has %v", objects)
	}
	var origins []*origin
	for n := range uint64(used) {
		o := newOrigin(t, n*40)
		for k := range 10 {
			o.put(t, fmt.Sprint(k), "value")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = ws.Dial(ctx, o.node, "ws://"+r.http, o.feed.Key(), nil) // it ends with its context
		}()
		if err := o.node.Synced(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		<-ended
		origins = append(origins, o)
	}
	wait(t, "all to be closed again", func() bool { return len(r.hyphas()) == 0 })
	manifests := 0
	for name := range server.Objects(t, "bucket") {
		if strings.HasSuffix(name, "/manifest") {
			manifests++
		}
	}
	if manifests < used {
		t.Errorf("%d manifests of %d Hyphas", manifests, used)
	}
	settings.State = state.Dir(t.TempDir())
	settings.Bucket = overS3(t)
	again := start(t, settings)
	reader := replicationtest.Reader(t, 40)
	node, _ := replicationtest.Node(t, replication.Config{}, reader)
	dial(t, func(ctx context.Context) error { return ws.Dial(ctx, node, "ws://"+again.http, reader.Key(), nil) })
	replicationtest.Wait(t, reader, origins[1].feed.Len())
	if n := len(again.hyphas()); n != 1 {
		t.Errorf("%d are open", n)
	}
}
