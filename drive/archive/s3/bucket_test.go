package s3

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"hyphafs.org/hyphafs/drive/archive"
	"hyphafs.org/hyphafs/drive/archive/s3/s3test"
)

func open(t *testing.T, raw string) *Bucket {
	t.Helper()
	b, err := Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// TestObjects: what is put comes back, conditions are kept, names stay below the prefix.
func TestObjects(t *testing.T) {
	s3test.Start(t, "bucket")
	b, ctx := open(t, "s3://bucket/some/prefix"), t.Context()
	if err := b.Check(ctx); err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	tag, err := b.Put(ctx, "a/large", body, "")
	if err != nil {
		t.Fatal(err)
	}
	got, same, err := b.Get(ctx, "a/large", "", int64(len(body)))
	if err != nil || !bytes.Equal(got, body) || same != tag {
		t.Fatalf("%d bytes, tag %q of %q: %v", len(got), same, tag, err)
	}
	for name, do := range map[string]func() error{
		"too large":    func() error { _, _, err := b.Get(ctx, "a/large", "", int64(len(body)-1)); return err },
		"unchanged":    func() error { _, _, err := b.Get(ctx, "a/large", tag, 1<<30); return err },
		"nothing":      func() error { _, _, err := b.Get(ctx, "a/small", "", 1); return err },
		"there is one": func() error { _, err := b.Put(ctx, "a/large", nil, ""); return err },
		"another tag":  func() error { _, err := b.Put(ctx, "a/large", nil, "0123456789abcdef0123456789abcdef"); return err },
		"none to replace": func() error {
			_, err := b.Put(ctx, "a/small", nil, tag)
			return err
		},
	} {
		want := map[string]error{"too large": archive.ErrTooLarge, "unchanged": archive.ErrUnchanged, "nothing": archive.ErrNoObject, "there is one": archive.ErrChanged,
			"another tag": archive.ErrChanged, "none to replace": archive.ErrChanged}[name]
		err := do()
		for range 5 { // a server may hang up on a connection that was idle, or refuse before it has read everything: a try without an answer is made again
			if errors.Is(err, archive.ErrTooLarge) || errors.Is(err, archive.ErrUnchanged) || errors.Is(err, archive.ErrNoObject) || errors.Is(err, archive.ErrChanged) {
				break
			}
			err = do()
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if _, err := b.Put(ctx, "a/empty", nil, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, "s3://bucket/some").Put(ctx, "a/elsewhere", nil, ""); err != nil {
		t.Fatal(err)
	}
	if names, err := b.List(ctx, "a/", 10); err != nil || !slices.Equal(names, []string{"a/empty", "a/large"}) {
		t.Errorf("listed %q, %v", names, err)
	}
	if names, err := b.List(ctx, "a/", 1); err != nil || len(names) != 1 {
		t.Errorf("listed %q, %v", names, err)
	}
	for range 2 { // deleting again is no error
		if err := b.Delete(ctx, "a/large"); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := b.Get(ctx, "a/large", "", 1<<30); !errors.Is(err, archive.ErrNoObject) {
		t.Errorf("after it was deleted: %v", err)
	}
}

// TestOneWins: of many that replace one version at once, one does.
func TestOneWins(t *testing.T) {
	s3test.Start(t, "bucket")
	b, ctx := open(t, "s3://bucket"), t.Context()
	tag := archive.Tag("")
	for round := range 20 {
		var mu sync.Mutex
		var won []archive.Tag
		var tasks sync.WaitGroup
		for i := range 8 {
			tasks.Go(func() {
				next, err := b.Put(ctx, "manifest", fmt.Append(nil, round, i), tag)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, next)
				} else if !errors.Is(err, archive.ErrChanged) {
					t.Error(err)
				}
			})
		}
		tasks.Wait()
		if len(won) != 1 {
			t.Fatalf("round %d: %d of 8 replaced one version", round, len(won))
		}
		tag = won[0]
	}
}

// TestKilled: a server that is killed is an error, and works again when it is back; a bucket that is not there is no missing object.
func TestKilled(t *testing.T) {
	server := s3test.Start(t, "bucket")
	b, ctx := open(t, "s3://bucket/p"), t.Context()
	if _, err := b.Put(ctx, "x", []byte("1"), ""); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if _, _, err := b.Get(ctx, "x", "", 10); err == nil || errors.Is(err, archive.ErrNoObject) {
		t.Errorf("from a server that was killed: %v", err)
	}
	server.Restart(t)
	if body, _, err := b.Get(ctx, "x", "", 10); err != nil || string(body) != "1" {
		t.Errorf("after the restart: %q, %v", body, err)
	}
	if _, _, err := open(t, "s3://other").Get(ctx, "x", "", 10); !errors.Is(err, archive.ErrUnusable) {
		t.Errorf("from a bucket that is not there: %v", err)
	}
}

// TestSecrets: no credential is in an error, and none is taken from the URL.
func TestSecrets(t *testing.T) {
	s3test.Start(t, "bucket")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-of-the-test")
	err := open(t, "s3://bucket").Check(t.Context())
	if !errors.Is(err, archive.ErrUnusable) {
		t.Fatalf("with a wrong secret: %v", err)
	}
	for _, raw := range []string{"s3://key:wrong-secret-of-the-test@bucket/p", "s3://bucket/p?secret=wrong-secret-of-the-test", "s3://bucket/p?endpoint=http://a:wrong-secret-of-the-test@h", "s3://key:wrong-secret-of-the-test@bucket/%zz"} {
		_, bad := Open(raw)
		if bad == nil {
			t.Errorf("%s was taken", raw)
		}
		err = errors.Join(err, bad)
	}
	if strings.Contains(err.Error(), "wrong-secret") {
		t.Errorf("a secret is in the error: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("HOME", t.TempDir())
	if _, err := Open("s3://bucket"); err == nil {
		t.Error("opened without credentials")
	}
}

func TestParse(t *testing.T) {
	for raw, want := range map[string]location{
		"s3://b":                               {endpoint: amazon, secure: true, region: "us-east-1", bucket: "b"},
		"s3://b/p/q/":                          {endpoint: amazon, secure: true, region: "us-east-1", bucket: "b", prefix: "p/q/"},
		"s3://b?region=x":                      {endpoint: amazon, secure: true, region: "x", bucket: "b"},
		"s3://b/p?endpoint=minio.example:9000": {endpoint: "minio.example:9000", secure: true, own: true, region: "us-east-1", bucket: "b", prefix: "p/"},
		"s3://b/p?endpoint=http://127.0.0.1:9000": {endpoint: "127.0.0.1:9000", own: true, region: "us-east-1", bucket: "b", prefix: "p/"},
	} {
		if got, err := parse(raw, func(string) string { return "" }); err != nil || got != want {
			t.Errorf("%s: %+v, %v", raw, got, err)
		}
	}
	for _, raw := range []string{"", "b/p", "http://b", "s3://", "s3:///p", "s3://b//p//q", "s3://b/../x", "s3://b?x=y", "s3://b?endpoint=ftp://h", "s3://b?endpoint=http://h/path", "s3://b#f"} {
		if got, err := parse(raw, func(string) string { return "" }); err == nil {
			t.Errorf("%q was taken for %+v", raw, got)
		}
	}
	got, err := parse("s3://b", func(name string) string {
		return map[string]string{"AWS_ENDPOINT_URL": "https://e", "AWS_ENDPOINT_URL_S3": "https://e3", "AWS_DEFAULT_REGION": "r"}[name]
	})
	if err != nil || got.endpoint != "e3" || got.region != "r" {
		t.Errorf("from the environment: %+v, %v", got, err)
	}
}
