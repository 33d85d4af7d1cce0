package integration

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hyphafs.org/hyphafs/integration/faultfs"
)

// defaultCuts is how many instants TestPowerCut tries; HYPHAFS_TEST_CUTS says how many more.
const defaultCuts = 6

// TestPowerCut lets programs work in the mount of a node whose disk is recorded, kills it, and makes of the record the disks that a loss of power at random instants
// would have left. The node opens on each by itself, in another run of the system; what programs were told is durable is there, in order by their own measure;
// everything is published and checks clean. Package powerloss tries all instants, and a thousand times as many, without the binary and the kernel.
func TestPowerCut(t *testing.T) {
	need(t, os.Getuid() == 0, "root, to use a mount of another process and to show another boot id")
	for _, c := range []string{"git", "vim.tiny", "python3", "unshare"} {
		needCommand(t, c)
	}
	cuts := defaultCuts
	if text := os.Getenv("HYPHAFS_TEST_CUTS"); text != "" {
		var err error
		if cuts, err = strconv.Atoi(text); err != nil {
			t.Fatalf("HYPHAFS_TEST_CUTS: %v", err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := mathrand.New(mathrand.NewPCG(seed, 9))
	c := &cutter{t: t, n: newNode(t, "Hypha")}
	c.start(faultfs.NewDisk())
	c.n.signUp("Desktop")
	first := c.at()
	c.work()
	log, err := c.disk.Log()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d operations of the disk, promises: %v", len(log.Ops), c.count)
	for k := range cuts {
		at := first + rng.IntN(len(log.Ops)-first+1)
		if k == 0 {
			at = len(log.Ops)
		}
		loss := []faultfs.Loss{{}, {Keep: 50, Tear: 30, Ordered: true}, {Keep: 90, Tear: 10, Names: 90}, {Keep: 50, Tear: 50, Names: 50}}[rng.IntN(4)]
		c.cut(log, at, loss, rng)
		if t.Failed() {
			t.Fatalf("power was lost behind %d of %d operations, %+v:\n%s", at, len(log.Ops), loss, log.Describe(at, 60))
		}
	}
}

// inBoot is a command that runs hyphafs, in the run of the system that n.boot says: in a mount namespace in which the kernel names another one. What it mounts is seen
// outside, and what it was mounted on stays.
func (n *node) inBoot(args ...string) *exec.Cmd {
	if n.boot == "" {
		return exec.Command(binary, args...)
	}
	return exec.Command("unshare", append([]string{"--mount", "--propagation", "unchanged", "sh", "-c",
		`mount --make-private /proc && mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"`, n.boot, binary}, args...)...)
}

// cutter is a node on a recorded disk, and what programs were promised.
type cutter struct {
	t    *testing.T
	n    *node
	disk *faultfs.FS

	mu       sync.Mutex // guards what follows
	promises []promise
	count    map[string]int // of promises, by program
}

// promise says that once the log has at operations, what text says is durable; each kind of program knows how to look for it.
type promise struct {
	at            int
	program, text string
}

// start mounts disk on the state directory, which nobody uses. All that is mounted below the node's folder is seen in every namespace made from here.
func (c *cutter) start(disk *faultfs.Disk) {
	c.t.Helper()
	base := filepath.Dir(c.n.dir)
	if c.disk == nil {
		if err := os.Mkdir(c.n.state, 0o700); err != nil {
			c.t.Fatal(err)
		}
		if err := syscall.Mount(base, base, "", syscall.MS_BIND, ""); err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(func() {
			c.n.stop()
			if c.disk != nil {
				if err := c.disk.Stop(); err != nil {
					c.t.Error(err)
				}
			}
			for _, mnt := range append(mountsBelow(base), base) { // a dead mount of the node's
				if err := syscall.Unmount(mnt, syscall.MNT_DETACH); err != nil {
					c.t.Error(err)
				}
			}
		})
		if err := syscall.Mount("", base, "", syscall.MS_SHARED, ""); err != nil {
			c.t.Fatal(err)
		}
	} else if err := c.disk.Stop(); err != nil {
		c.t.Fatal(err)
	}
	var err error
	if c.disk, err = faultfs.Start(c.n.state, disk); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cutter) at() int {
	n, err := c.disk.Len()
	if err != nil {
		c.t.Error(err)
	}
	return n
}

// promised notes what was just said to be durable.
func (c *cutter) promised(program, text string) {
	at := c.at()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.promises = append(c.promises, promise{at, program, text})
	c.count[program]++
}

// cutPrograms returns loops that work in the mount and print what is durable by now. They end some time after they were promised enough, for the disk is in memory. sqlite deletes its journal without an fsync of the folder unless it is told EXTRA, and
// git and vim leave that to the file system: sync(1) does it for them.
func cutPrograms() map[string]cutProgram {
	return map[string]cutProgram{
		"wal":    {8, sqliteLoop("wal", "FULL"), sqliteVerify("wal")},
		"delete": {4, sqliteLoop("delete", "EXTRA"), sqliteVerify("delete")},
		"git": {3, `git init -q repo; cd repo; git config user.email a@b; git config user.name A; git config core.fsync all; n=0
		while test $n -lt 12; do n=$((n+1)); seq $n $((n*500)) > f$((n%7)); git add .; git commit -qm $n; sync .git/refs/heads; git rev-parse HEAD; done`,
			func(c *cutter, text string) {
				c.run("cd repo && git fsck --strict --no-dangling && git merge-base --is-ancestor " + text + " HEAD && git log --stat >/dev/null")
			}},
		"vim": {3, // by default it makes no backup of what is in /tmp
			`n=100; yes 'line 000' | head -3000 > notes
		while test $n -lt 115; do n=$((n+1)); vim.tiny -es -u NONE --cmd 'set backupskip= backupcopy=no' -c "%s/[0-9]*$/$n/" -c wq notes </dev/null; sync notes .; echo $n; done`,
			func(c *cutter, text string) { // half written while vim saves, which removes its backup behind its fsync
				c.run(`whole() { test $(sort -u $1 | wc -l) = 1 && test $(wc -l < $1) = 3000 && test $(head -1 $1 | tr -cd 0-9) -ge ` + text + `; }
				whole notes || whole notes~`)
			}},
	}
}

// cutProgram is such a loop, how often it has to print something before power is cut, and what looks for what it printed last.
type cutProgram struct {
	enough int
	script string
	verify func(c *cutter, text string)
}

func sqliteLoop(mode, synchronous string) string {
	return fmt.Sprintf(`exec python3 - <<'PY'
import sqlite3
db = sqlite3.connect('%[1]s.db', isolation_level=None)
db.execute('PRAGMA journal_mode=%[1]s'); db.execute('PRAGMA synchronous=%[2]s'); db.execute('CREATE TABLE t(n INTEGER PRIMARY KEY, b BLOB)')
for n in range(1, 101):
    db.execute('BEGIN'); db.execute('INSERT INTO t VALUES (?, randomblob(?))', (n, 100 + n * 977 %% 30000)); db.execute('UPDATE t SET b = randomblob(5000) WHERE n = ?', (n // 2,)); db.execute('COMMIT')
    print(n, flush=True)
PY`, mode, synchronous)
}

func sqliteVerify(mode string) func(*cutter, string) {
	return func(c *cutter, text string) {
		c.run(fmt.Sprintf(`python3 - <<'PY'
import sqlite3
db = sqlite3.connect('%s.db')
assert db.execute('PRAGMA integrity_check').fetchall() == [('ok',)]
n, most = db.execute('SELECT count(*), max(n) FROM t').fetchone()
assert n == most >= %s, (n, most)
PY`, mode, text))
	}
}

// run runs a shell script in the mount.
func (c *cutter) run(script string) {
	c.t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = c.n.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Errorf("%s: %v\n%s", script, err, out)
	}
}

// work lets the programs and this process work until each was promised enough, and kills the node under them.
func (c *cutter) work() {
	c.count = map[string]int{}
	var running sync.WaitGroup
	var groups []*exec.Cmd
	stderr := &lockedBuffer{}
	for name, p := range cutPrograms() {
		cmd := exec.Command("sh", "-ec", p.script)
		cmd.Dir, cmd.Stderr, cmd.SysProcAttr = c.n.dir, stderr, &syscall.SysProcAttr{Setpgid: true}
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			c.t.Fatal(err)
		}
		groups = append(groups, cmd)
		running.Go(func() {
			for lines := bufio.NewScanner(out); lines.Scan(); {
				c.promised(name, lines.Text())
			}
		})
	}
	running.Go(func() {
		for i := range 500 {
			name := fmt.Sprintf("file %04d", i)
			if writeDurably(c.n.dir, name, fileOf(name)) != nil {
				return // killed
			}
			c.promised("file", name)
		}
	})
	defer func() {
		for _, cmd := range groups {
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				c.t.Error(err)
			}
		}
		running.Wait()
		for _, cmd := range groups {
			_ = cmd.Wait() // killed
		}
	}()
	enough := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for name, p := range cutPrograms() {
			if c.count[name] < p.enough {
				return false
			}
		}
		return c.count["file"] >= 20
	}
	eventuallyElse(c.t, "every program was promised enough", enough, func() { c.t.Logf("%v\n%s", c.count, stderr.String()) })
	c.n.kill()
}

// fileOf is what the file of that name holds, of one block or some.
func fileOf(name string) []byte {
	i, _ := strconv.Atoi(strings.TrimPrefix(name, "file "))
	return bytes.Repeat([]byte(name), []int{1, 100, 10_000, 40_000}[i%4])
}

// cut makes the disk of a loss of power behind the first at operations, and looks at what the node makes of it.
func (c *cutter) cut(log *faultfs.Log, at int, loss faultfs.Loss, rng *mathrand.Rand) {
	c.t.Helper()
	c.start(log.Crash(at, loss, rng))
	id := rand.Text()
	c.n.boot = filepath.Join(filepath.Dir(c.n.dir), "boot")
	if err := os.WriteFile(c.n.boot, []byte(id+"\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.n.mount()
	if seen, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/proc/sys/kernel/random/boot_id", c.n.cmd.Process.Pid)); err != nil || strings.TrimSpace(string(seen)) != id {
		c.t.Fatalf("the node runs in boot %q, %v", seen, err)
	}
	last := map[string]string{}
	for _, p := range c.promises {
		if p.at > at {
			continue
		}
		if p.program != "file" {
			last[p.program] = p.text
		} else if got, err := os.ReadFile(filepath.Join(c.n.dir, p.text)); err != nil || !bytes.Equal(got, fileOf(p.text)) {
			c.t.Errorf("%s was fsynced and is %d bytes, %v", p.text, len(got), err)
		}
	}
	for name, text := range last {
		cutPrograms()[name].verify(c, text)
	}
	if out, err := c.n.run("sync", c.n.dir); err != nil {
		c.t.Errorf("sync: %v\n%s", err, out)
	}
	if s := c.n.status(); s.Unpublished.Files > 0 || len(s.Alarms) > 0 || s.Conflicts > 0 || !s.Writable {
		c.t.Errorf("%+v", s)
	}
	c.n.stop()
	c.n.check()
}
