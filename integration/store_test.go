package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/archive/s3/s3test"
)

// TestStoreInBucket: two always-on nodes keep one Hypha in one bucket, with a mount behind each, and do not know of each other. The S3 server is killed and started again in
// the middle, one node is killed and loses its disk. Nothing that sync --peer said was kept is lost, and a node that never saw any of it serves all of it in the end.
func TestStoreInBucket(t *testing.T) {
	needMount(t)
	server := s3test.Start(t, "bucket")
	id := identity(t)
	flags := []string{ours(id), "--store", "s3://bucket/hyphas", "--store-cache", "24M"}
	first, second := startAlways(t, flags...), startAlways(t, flags...)
	desktop, laptop := newNode(t, "Hypha"), newNode(t, "B")
	desktop.mount("--sign-up", "--domain", "anna.example", "--name", "Desktop", "--peer", first.ws())
	mustRun(t, desktop.dir, "mkdir notes && for i in $(seq 150); do echo note $i of the wren > notes/$i.txt; done")
	large := make([]byte, 12<<20)
	_, _ = rand.Read(large) // it never fails
	if err := os.WriteFile(filepath.Join(desktop.dir, "large"), large, 0o644); err != nil {
		t.Fatal(err)
	}
	synced(t, desktop)

	// The laptop's node has all that from the bucket alone.
	laptop.mount("--sign-in", "--domain", "anna.example", "--name", "Laptop", "--peer", second.byTCP())
	sameTree(t, desktop, laptop)
	laptop.stop()
	laptop.mount("--peer", second.byTCP(), "--peer", first.byTCP()) // to be approved by the desktop, who is at the other
	touch(t, filepath.Join(desktop.pending(), "approve"))
	eventually(t, "the laptop to be approved", func() bool { return laptop.status().Writable })
	laptop.stop()
	laptop.mount("--peer", second.ws())

	// Without the S3 server nothing is said to be kept, and both go on.
	server.Kill()
	mustRun(t, desktop.dir, "for i in $(seq 151 200); do echo note $i of the wren > notes/$i.txt; done")
	mustRun(t, laptop.dir, "mkdir laptop && for i in $(seq 50); do echo note $i of the lapwing > laptop/$i.txt; done")
	for _, n := range []*node{desktop, laptop} {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		cmd := exec.CommandContext(ctx, binary, "sync", "--peer", n.dir)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("what cannot be in the bucket is said to be kept: %s", out)
		}
		cancel()
	}
	server.Restart(t)
	synced(t, desktop)
	synced(t, laptop)
	sameTree(t, desktop, laptop)

	// One is killed and loses its disk; what was said is there.
	mustRun(t, desktop.dir, "for i in $(seq 201 300); do echo note $i of the wren > notes/$i.txt; done")
	synced(t, desktop)
	first.kill()
	if err := os.RemoveAll(first.state); err != nil {
		t.Fatal(err)
	}
	contains(t, filepath.Join(laptop.dir, "notes", "300.txt"), "note 300 of the wren\n")
	first.start()
	mustRun(t, laptop.dir, "rm -r laptop/1*; mv notes zettel; echo changed > zettel/7.txt")
	synced(t, laptop)
	contains(t, filepath.Join(desktop.dir, "zettel", "7.txt"), "changed\n")
	sameTree(t, desktop, laptop)
	for _, a := range []*always{first, second} {
		if got := dirSize(t, a.state); got > 40<<20 {
			t.Errorf("an always-on node takes %d bytes of disk", got)
		}
	}

	// Everybody is gone but the bucket.
	want := sums(t, desktop.dir)
	desktop.stop()
	laptop.stop()
	first.stop()
	second.stop()
	third, phone := startAlways(t, flags...), newNode(t, "C")
	phone.mount("--sign-in", "--domain", "anna.example", "--name", "Phone", "--peer", third.ws())
	eventuallyElse(t, "the phone to have everything", func() bool { return sums(t, phone.dir) == want }, func() {
		t.Logf("there are\n%s\nwanted\n%s", sums(t, phone.dir), want)
	})
	if got, err := os.ReadFile(filepath.Join(phone.dir, "large")); err != nil || !bytes.Equal(got, large) {
		t.Errorf("the large file has %d bytes (%v)", len(got), err)
	}
	for name := range server.Objects(t, "bucket") {
		b, err := os.ReadFile(filepath.Join(server.Dir, "bucket", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"wren", "zettel", "Desktop"} {
			if strings.Contains(name, secret) || bytes.Contains(b, []byte(secret)) {
				t.Errorf("object %s has %q in it", name, secret)
			}
		}
	}
}

// TestStoreRefused: a bucket that cannot be used ends the start with the reason, and without a secret in it; one that does not answer does not.
func TestStoreRefused(t *testing.T) {
	server := s3test.Start(t, "bucket")
	id := identity(t)
	for _, c := range []struct {
		store, env string
		code       int
		says       string
	}{
		{"s3://other/p", "A=b", 1, "does not exist"},
		{"s3://bucket/p", "AWS_SECRET_ACCESS_KEY=wrong-secret", 1, "signature"},
		{"s3://bucket/p", "AWS_ACCESS_KEY_ID=", 2, "AWS_ACCESS_KEY_ID"},
		{"s3://key:wrong-secret@bucket/p", "A=b", 2, "environment"},
		{"http://bucket/p", "A=b", 2, "s3://BUCKET/PREFIX"},
	} {
		a := newAlways(t, ours(id), "--store", c.store)
		a.env = []string{c.env, "HOME=/nonexistent"}
		err := a.tryStart()
		said := a.stderr.String()
		if err == nil || exitCode(errors.Unwrap(err)) != c.code || !strings.Contains(strings.ToLower(said), strings.ToLower(c.says)) || strings.Contains(said, "wrong-secret") {
			t.Errorf("%s with %s: %v\n%s", c.store, c.env, err, said)
		}
	}
	server.Kill()
	startAlways(t, ours(id), "--store", "s3://bucket/p")
}

// synced waits until a peer of n says that it keeps everything.
func synced(t *testing.T, n *node) {
	t.Helper()
	if out, err := n.run("sync", "--peer", n.dir); err != nil {
		t.Fatalf("sync --peer: %v\n%s", err, out)
	}
}

// mustRun runs a shell script in dir.
func mustRun(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// sums is every file below dir with a sum of its bytes.
func sums(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", "find . -type f -exec sha256sum {} + | sort -k 2; find . -type d | sort")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return fmt.Sprint(err) // a file that is still on its way
	}
	return string(out)
}

// sameTree waits until both nodes show the same files.
func sameTree(t *testing.T, a, b *node) {
	t.Helper()
	eventuallyElse(t, "both to show the same", func() bool { return sums(t, a.dir) == sums(t, b.dir) }, func() {
		t.Logf("one has\n%s\nthe other\n%s", sums(t, a.dir), sums(t, b.dir))
	})
}
