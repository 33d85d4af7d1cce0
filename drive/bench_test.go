//go:build !js

package drive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/boltview"
	"hyphafs.org/hyphafs/drive/record"
)

// diskWorld is a node with its view in a bbolt file.
func diskWorld(b *testing.B) *Drive {
	w := newWorld(b, 1)
	w.stop()
	kv, err := boltview.Open(filepath.Join(b.TempDir(), "view"))
	if err != nil {
		b.Fatal(err)
	}
	w.disk = kv
	w.clock = time.Now
	w.start()
	return w.Drive
}

// benchWorld is a diskWorld with Run at work.
func benchWorld(b *testing.B) *Drive {
	w := diskWorld(b)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return w
}

// makeFiles makes 10,000 files of 4 KiB, as a program does: look up, make, open, write, close.
func makeFiles(b *testing.B, d *Drive) {
	data := bytes.Repeat([]byte{1}, 4096)
	ctx := b.Context()
	for i := range 10_000 {
		name := fmt.Sprintf("file %d", i)
		if _, err := d.Lookup(ctx, record.Root, name); err == nil {
			b.Fatal("it is there")
		}
		a, err := d.Make(ctx, record.Root, name, NewInode{Kind: record.File, Mode: 0o644})
		if err != nil {
			b.Fatal(err)
		}
		f, err := d.Open(ctx, a.ID, true)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.WriteAt(ctx, data, 0, true); err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCreate makes 10,000 files while Run publishes.
func BenchmarkCreate(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		d := benchWorld(b)
		b.StartTimer()
		makeFiles(b, d)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/10_000, "µs/file")
}

// BenchmarkPublish publishes 10,000 files of 4 KiB, and then their removal.
func BenchmarkPublish(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		d := diskWorld(b)
		makeFiles(b, d)
		b.StartTimer()
		if err := d.Publish(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		for i := range 10_000 {
			if err := d.Remove(b.Context(), record.Root, fmt.Sprintf("file %d", i), false); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		if err := d.Publish(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/10_000, "µs/file")
}

// publishedFiles is a diskWorld whose root shows 10,000 files, all published and flushed.
func publishedFiles(b *testing.B) *Drive {
	d := diskWorld(b)
	makeFiles(b, d)
	if err := errors.Join(d.Publish(b.Context()), d.kv.Flush()); err != nil {
		b.Fatal(err)
	}
	return d
}

// BenchmarkLookup looks up published files, one at a time.
func BenchmarkLookup(b *testing.B) {
	d := publishedFiles(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := d.Lookup(b.Context(), record.Root, fmt.Sprintf("file %d", i%10_000)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSequentialWrite writes 128 KiB at a time, as FUSE does.
func BenchmarkSequentialWrite(b *testing.B) {
	d := benchWorld(b)
	ctx := b.Context()
	a, err := d.Make(ctx, record.Root, "f", NewInode{Kind: record.File, Mode: 0o644})
	if err != nil {
		b.Fatal(err)
	}
	f, err := d.Open(ctx, a.ID, true)
	if err != nil {
		b.Fatal(err)
	}
	data := bytes.Repeat([]byte{1}, 128<<10)
	b.SetBytes(int64(len(data)))
	for i := int64(0); b.Loop(); i++ {
		if _, err := f.WriteAt(ctx, data, i%1024*int64(len(data)), true); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}
