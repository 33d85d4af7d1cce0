package integration

import (
	"bytes"
	byteorder "encoding/binary" // binary is the built program
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// loadTime is how long TestLoad runs, unless HYPHAFS_TEST_LOAD says otherwise.
const loadTime = 20 * time.Second

// TestLoad lets 64 processes do mixed work on one mount at once. No call may fail, nothing may hang, each process's own files and what all
// share must be as they left it, also after a remount, the node's memory must not grow, and the store must check clean.
func TestLoad(t *testing.T) {
	length := loadTime
	if text := os.Getenv("HYPHAFS_TEST_LOAD"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d, %v", seed, length)
	n := newNode(t, "Hypha")
	n.signUp("Desktop")
	dir := filepath.Join(n.dir, "load")
	shareFiles(t, dir)

	l := &load{t: t, node: n, dir: dir}
	l.start(time.Now().Add(length), seed)
	memory := l.watch(length)
	l.end()
	checkMemory(t, memory, length)
	l.checkAll()
	if out, err := n.run("sync", n.dir); err != nil {
		t.Fatalf("sync: %v\n%s", err, out)
	}
	if s := n.status(); s.Conflicts != 0 || len(s.Alarms) != 0 || s.Unpublished.Files != 0 {
		t.Errorf("after all was published: %+v", s)
	}
	n.stop()
	n.check()
	n.mount()
	l.checkAll()
}

// shareFiles makes what all processes share.
func shareFiles(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"log": nil, "slots": make([]byte, 8*loadProcesses)}
	for k := range loadCounters {
		files[fmt.Sprintf("counter%d", k)] = fmt.Appendf(nil, "%019d\n", 0)
	}
	for k := range loadSaves {
		files[fmt.Sprintf("saved%d", k)] = bytes.Repeat([]byte{1}, savedLength(1))
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// load is the processes and what they told.
type load struct {
	t      *testing.T
	node   *node
	dir    string
	cmds   []*exec.Cmd
	output []*bytes.Buffer
	errors *lockedBuffer
	ended  chan error
	done   []workerDone
}

func (l *load) start(until time.Time, seed uint64) {
	l.t.Helper()
	l.errors, l.ended = &lockedBuffer{}, make(chan error, loadProcesses)
	for i := range loadProcesses {
		job, err := json.Marshal(workerJob{Index: i, Dir: l.dir, Until: until, Seed: seed})
		if err != nil {
			l.t.Fatal(err)
		}
		out := &bytes.Buffer{}
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), asWorker+"="+string(job))
		cmd.Stdout, cmd.Stderr = out, l.errors
		if err := cmd.Start(); err != nil {
			l.t.Fatal(err)
		}
		l.cmds, l.output = append(l.cmds, cmd), append(l.output, out)
		go func() { l.ended <- cmd.Wait() }() // end receives from it
	}
}

// watch samples the node's resident memory until the processes are about to end, or one failed.
func (l *load) watch(length time.Duration) (samples []memory) {
	tick := time.NewTicker(length / 100)
	defer tick.Stop()
	for limit := time.After(length); ; {
		select {
		case <-tick.C:
			samples = append(samples, l.node.memory())
		case err := <-l.ended:
			l.ended <- err
			return samples
		case <-limit:
			return samples
		}
	}
}

// end waits for all processes; when one failed, the others are not waited for. If one hangs, the node tells what its goroutines do.
func (l *load) end() {
	l.t.Helper()
	limit := time.After(patience)
	failed := false
	for range l.cmds {
		select {
		case err := <-l.ended:
			if err != nil && !failed {
				failed = true
				for _, cmd := range l.cmds {
					_ = cmd.Process.Kill() // some have ended
				}
			}
		case <-limit:
			_ = l.node.cmd.Process.Signal(syscall.SIGQUIT)
			<-l.node.ended
			l.node.cmd = nil
			for _, cmd := range l.cmds {
				_ = cmd.Process.Kill()
			}
			l.t.Fatalf("processes hang\n%s\n%s", l.errors, tail(l.node.stderr.String(), 200_000))
		}
	}
	if failed {
		l.t.Fatalf("a process failed:\n%s", tail(l.errors.String(), 10_000))
	}
	ops := map[string]int{}
	for _, out := range l.output {
		var d workerDone
		if err := json.Unmarshal(out.Bytes(), &d); err != nil {
			l.t.Fatal(err)
		}
		l.done = append(l.done, d)
		for name, n := range d.Ops {
			ops[name] += n
		}
	}
	total := 0
	for _, n := range ops {
		total += n
	}
	l.t.Logf("%d operations: %v", total, ops)
}

// checkAll compares everything with what the processes told.
func (l *load) checkAll() {
	l.t.Helper()
	want := map[string]string{}
	var counters [loadCounters]int
	for _, d := range l.done {
		maps.Copy(want, d.Files)
		for k, n := range d.Counters {
			counters[k] += n
		}
	}
	for k, n := range counters {
		name := fmt.Sprintf("counter%d", k)
		if got := l.read(name); string(got) != fmt.Sprintf("%019d\n", n) {
			l.t.Errorf("%s is %q after %d increments", name, got, n)
		}
	}
	for k := range loadSaves {
		if err := wholeSave(l.read(fmt.Sprintf("saved%d", k))); err != nil {
			l.t.Error(err)
		}
	}
	slots := l.read("slots")
	for i, d := range l.done {
		if n := byteorder.NativeEndian.Uint64(slots[8*i:]); n != d.Slot {
			l.t.Errorf("slot %d is %d, wanted %d", i, n, d.Slot)
		}
	}
	l.checkLog()
	l.checkFiles(want)
}

func (l *load) read(name string) []byte {
	l.t.Helper()
	b, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

// checkLog wants every line of every process once, each process's own in order.
func (l *load) checkLog() {
	l.t.Helper()
	next := make([]int, loadProcesses)
	for line := range strings.Lines(string(l.read("log"))) {
		var i, k int
		if _, err := fmt.Sscanf(line, "%d %d\n", &i, &k); err != nil || i >= loadProcesses || next[i] != k {
			l.t.Fatalf("the log has the line %q, %v", line, err)
		}
		next[i]++
	}
	for i, d := range l.done {
		if next[i] != d.Lines {
			l.t.Errorf("the log has %d lines of process %d, wanted %d", next[i], i, d.Lines)
		}
	}
}

// checkFiles compares all folders of the processes with their files' hashes.
func (l *load) checkFiles(want map[string]string) {
	l.t.Helper()
	var got []string
	err := filepath.WalkDir(l.dir, func(path string, e os.DirEntry, err error) error {
		name, relErr := filepath.Rel(l.dir, path)
		if err != nil || relErr != nil || e.IsDir() || !strings.Contains(name, "/") {
			return err
		}
		got = append(got, name)
		if sum := hash256(l.read(name)); sum != want[name] {
			l.t.Errorf("%s has other bytes than its process left", name)
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	slices.Sort(got)
	if names := slices.Sorted(maps.Keys(want)); !slices.Equal(got, names) {
		l.t.Errorf("there are %d files, wanted %d", len(got), len(names))
	}
}

// memory is a process's resident memory in bytes; anonymous is without files that are mapped, such as the view's.
type memory struct{ resident, anonymous uint64 }

func (n *node) memory() (m memory) {
	n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	for field, into := range map[string]*uint64{"VmRSS": &m.resident, "RssAnon": &m.anonymous} {
		found := regexp.MustCompile(field + `:\s+([0-9]+) kB`).FindSubmatch(text)
		if found == nil {
			n.t.Fatalf("no %s in %s", field, text)
		}
		kB, err := strconv.ParseUint(string(found[1]), 10, 64)
		if err != nil {
			n.t.Fatal(err)
		}
		*into = kB << 10
	}
	return m
}

// settling is how long a run has to be for its memory to be judged flat: before, caches are still filling.
const settling = 5 * time.Minute

// checkMemory wants the node never to need more than TestBulk allows, and in a long run no more in the last quarter than in the second: by then every
// cache is full and every process has its files. A quarter more and 32 MiB are the garbage collector's, whose heap moves between once and twice what lives.
func checkMemory(t *testing.T, samples []memory, length time.Duration) {
	t.Helper()
	if raceEnabled || len(samples) < 8 {
		t.Logf("memory is not judged: race detector %t, %d samples", raceEnabled, len(samples))
		return
	}
	most := func(part []memory) (m memory) {
		for _, s := range part {
			m = memory{max(m.resident, s.resident), max(m.anonymous, s.anonymous)}
		}
		return m
	}
	var peaks []string
	for part := range slices.Chunk(samples, max(len(samples)/10, 1)) {
		m := most(part)
		peaks = append(peaks, fmt.Sprintf("%d (%d)", m.resident>>20, m.anonymous>>20))
	}
	t.Logf("resident memory (of it anonymous), MiB, peaks of tenths of the time: %s", strings.Join(peaks, ", "))
	if peak := most(samples); peak.resident > memoryLimit {
		t.Errorf("resident memory of %d MiB, limit %d MiB", peak.resident>>20, memoryLimit>>20)
	}
	quarter := len(samples) / 4
	early, late := most(samples[quarter:2*quarter]), most(samples[3*quarter:])
	if limit := early.anonymous*5/4 + 32<<20; length >= settling && late.anonymous > limit {
		t.Errorf("anonymous memory grew from %d MiB to %d MiB", early.anonymous>>20, late.anonymous>>20)
	}
}
