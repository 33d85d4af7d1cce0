package integration

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	kills       = 20
	filesARound = 150 // of one writer: enough to be killed in the middle of, few enough to be looked for in each round
)

// TestKill kills one or the other of two nodes at 20 random moments while files are written, fsynced and replicated. Both
// come back by themselves, nothing that was fsynced is missing, and both stores check clean.
func TestKill(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 7))
	desktop, laptop := pair(t)
	fixed := desktop.listening() // the port the laptop knows: keep it over restarts
	desktop.flags = append(desktop.flags, "--listen", fixed)
	laptop.flags = append(laptop.flags, "--peer", fixed)
	w := &writers{t: t, kept: map[string][]byte{}}
	big := makeBig(t, filepath.Join(desktop.dir, "big"), 256<<20) // on its way across while the first rounds run
	if out, err := exec.Command("sync", filepath.Join(desktop.dir, "big")).CombinedOutput(); err != nil {
		t.Fatalf("sync: %v\n%s", err, out)
	}
	for round := range kills {
		victim := []*node{desktop, laptop}[rng.IntN(2)]
		w.run([]*node{desktop, laptop}, round, rng.Uint64(), func() {
			<-time.After(time.Duration(rng.IntN(1500)) * time.Millisecond) // the random moment itself
			victim.kill()
		})
		victim.mount()
		w.verify(victim, fmt.Sprintf("-r%02d-", round))
	}
	for _, n := range []*node{desktop, laptop} {
		w.verify(n, "-r")
	}
	eventuallyElse(t, "everything on both nodes", func() bool { return w.missing(desktop) == "" && w.missing(laptop) == "" }, func() {
		for _, n := range []*node{desktop, laptop} {
			t.Logf("%s misses %q: %+v", n.dir, w.missing(n), n.status())
		}
	})
	same(t, desktop, laptop)
	for _, n := range []*node{desktop, laptop} {
		if got := hash(t, filepath.Join(n.dir, "big")); got != big {
			t.Errorf("the big file on %s: %s, want %s", n.dir, got, big)
		}
	}
	for _, n := range []*node{desktop, laptop} {
		n.stop()
		n.check()
	}
}

// writers keeps what was fsynced, per node and file, so that it can be looked for later.
type writers struct {
	t    *testing.T
	mu   sync.Mutex        // guards kept
	kept map[string][]byte // path below the mount -> content, all of it fsynced, name included
	on   sync.Map          // path -> *node that wrote it
}

// run lets each node be written to until the interruption is over; errors end a writer, since its node may be the victim.
func (w *writers) run(nodes []*node, round int, seed uint64, interrupt func()) {
	var stop atomic.Bool
	var group sync.WaitGroup
	for i, n := range nodes {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for k := 0; k < filesARound && !stop.Load(); k++ {
				name := fmt.Sprintf("n%d-r%02d-%04d", i, round, k)
				data := bytes.Repeat([]byte(name+"\n"), 1+rng.IntN(10000))
				if err := writeDurably(n.dir, name, data); err != nil {
					return
				}
				w.mu.Lock()
				w.kept[name] = data
				w.mu.Unlock()
				w.on.Store(name, n)
			}
		})
	}
	interrupt()
	stop.Store(true)
	group.Wait()
}

// writeDurably writes a temporary file, fsyncs it, renames it and fsyncs the folder.
func writeDurably(dir, name string, data []byte) error {
	temp := filepath.Join(dir, name+".part")
	f, err := os.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// verify fails the test if n lost anything that was fsynced on n under a name that holds part.
func (w *writers) verify(n *node, part string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, data := range w.kept {
		if on, _ := w.on.Load(name); on != n || !strings.Contains(name, part) {
			continue
		}
		got, err := os.ReadFile(filepath.Join(n.dir, name))
		if err != nil || !bytes.Equal(got, data) {
			w.t.Fatalf("%s was fsynced (%d bytes) and came back as %d bytes, %v", name, len(data), len(got), err)
		}
	}
}

// missing names a file that n does not have whole yet, or nothing.
func (w *writers) missing(n *node) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, data := range w.kept {
		if info, err := os.Stat(filepath.Join(n.dir, name)); err != nil || info.Size() != int64(len(data)) {
			return name
		}
	}
	return ""
}
