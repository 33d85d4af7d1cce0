package fs_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestOrdinaryUser mounts as a user without rights, through fusermount3. /dev/fuse may be root's alone on a test machine: the
// test makes one for everybody in a mount namespace of its own, where everything happens and with which everything ends.
func TestOrdinaryUser(t *testing.T) {
	for _, tool := range []string{"fusermount3", "unshare", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil || os.Geteuid() != 0 {
			missing(t, "needs root and "+tool)
		}
	}
	tmp := t.TempDir()
	dir := filepath.Join(tmp, "mnt")
	binary := filepath.Join(tmp, "fs.test")
	for _, p := range []string{filepath.Dir(tmp), tmp} {
		if err := os.Chmod(p, 0755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("cp", os.Args[0], binary).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Mkdir(dir, 0700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(setup{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`set -e
		mount --make-rprivate /
		mknod %[1]s/fuse c 10 229; chmod 666 %[1]s/fuse; mount --bind %[1]s/fuse /dev/fuse
		exec setpriv --reuid %[4]d --regid %[4]d --clear-groups bash -euc '
			exec 3> >(%[5]s=%[6]q exec %[2]s > %[1]s/../answers-%[4]d 2>&1)
			server=$!
			for i in $(seq 100); do grep -q " %[3]s " /proc/self/mounts && break; sleep 0.05; done
			cd %[3]s
			echo hello > f; test "$(cat f)" = hello; test "$(stat -c %%u:%%g f)" = %[4]d:%[4]d
			mkdir -m 2750 d; ln f d/g; mv d/g d/h; chmod 4711 f; echo x >> f; test "$(stat -c %%a f)" = 711
			echo "{\"Op\":\"request\",\"Path\":\"laptop-1f2e3d4c\"}" >&3
			for i in $(seq 100); do test -e .hypha/pending/laptop-1f2e3d4c && break; sleep 0.05; done
			touch .hypha/pending/*/approve
			test ! -e .hypha/pending/laptop-1f2e3d4c
			rm -r d f; test -z "$(ls -A)"
			cd /; fusermount3 -u %[3]s
			exec 3>&-; wait $server
			echo all done
		'`, tmp, binary, dir, nobody, serveEnv, text)
	os.WriteFile(filepath.Join(filepath.Dir(tmp), fmt.Sprintf("answers-%d", nobody)), nil, 0666)
	os.Chmod(filepath.Join(filepath.Dir(tmp), fmt.Sprintf("answers-%d", nobody)), 0666)
	out, err := exec.Command("unshare", "-m", "--kill-child", "--fork", "bash", "-c", script).CombinedOutput()
	if err != nil || string(out) != "all done\n" {
		log, _ := os.ReadFile(filepath.Join(filepath.Dir(tmp), fmt.Sprintf("answers-%d", nobody)))
		t.Errorf("%v: %s\n%s", err, out, log)
	}
}
