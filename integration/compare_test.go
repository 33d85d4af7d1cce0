package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCompare runs the comparison with amounts too small to say anything, so that it works when somebody needs it: for root as an ordinary
// user, the longer way.
func TestCompare(t *testing.T) {
	needMount(t)
	needCommand(t, "setpriv")
	needCommand(t, "fusermount3")
	dir, err := os.MkdirTemp(scratch, "compare-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", dir+"/", "./cmd/hyphafs", "./integration/compare", "github.com/hanwen/go-fuse/v2/example/loopback")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	args := []string{"-bin", dir, "-dir", dir, "-rounds", "1", "-size", "1", "-files", "100", "-systems", "hyphafs,ext4,loopback",
		"-run", "^(create|stat, warm|append|log growth)"}
	if os.Getuid() == 0 {
		args = append(args, "-user", nobody)
	}
	out, err := exec.Command(filepath.Join(dir, "compare"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("compare %v: %v\n%s", args, err, out)
	}
	for _, want := range []string{"\ncreate files of 4 KiB", "\nstat, warm", "\nappend 4 KiB + fsync", "0.7 ext4: ", "\nlog growth of new files: "} {
		if !strings.Contains(string(out), want) {
			t.Errorf("compare tells nothing of %q:\n%s", want, out)
		}
	}
}
