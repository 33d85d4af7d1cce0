package drive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/record"
)

// TestNamesWhilePublishing makes, moves, links and removes files without a pause while another goroutine publishes without a pause: whatever is under way,
// a name means what the last call made of it.
func TestNamesWhilePublishing(t *testing.T) {
	w := newWorld(t, 1)
	w.cfg.Quiet, w.cfg.Overdue = 40*time.Millisecond, 300*time.Millisecond // of a clock that counts
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			if err := w.publish(context.WithoutCancel(ctx), i%2 == 0); err != nil { // everything, or what was quiet
				t.Error(err)
			}
		}
	}()
	defer func() { cancel(); <-done }()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	n := &names{world: w, rng: rand.New(rand.NewPCG(seed, 1)), files: map[string]record.ID{}}
	for range 3000 {
		did, err := n.step()
		if err == nil {
			err = n.check()
		}
		if err != nil {
			t.Fatalf("%s: %v", did, err)
		}
		for range n.rng.IntN(3) {
			runtime.Gosched()
		}
	}
}

// names is some names in the root and what they must mean.
type names struct {
	*world
	rng   *rand.Rand
	files map[string]record.ID
}

func (n *names) pick() string { return fmt.Sprint("f", n.rng.IntN(6)) }

// forget does what the kernel does when the last name of id is gone.
func (n *names) forget(id record.ID) {
	for _, other := range n.files {
		if other == id {
			return
		}
	}
	n.Forget(id)
}

// step makes one change, or none, and tells which.
func (n *names) step() (string, error) {
	ctx := n.t.Context()
	from, to := n.pick(), n.pick()
	was, there := n.files[from]
	over, taken := n.files[to]
	switch n.rng.IntN(5) {
	case 0:
		if there {
			return "nothing", nil
		}
		a, err := n.Make(ctx, record.Root, from, NewInode{Kind: record.File, Mode: 0o644})
		if err == nil {
			n.files[from] = a.ID
			err = n.fill(a.ID)
		}
		return "make " + from, err
	case 1:
		if !there {
			return "nothing", nil
		}
		err := n.Remove(ctx, record.Root, from, false)
		delete(n.files, from)
		n.forget(was)
		return "remove " + from, err
	case 2:
		if !there || taken {
			return "nothing", nil
		}
		n.files[to] = was
		_, err := n.Link(ctx, was, record.Root, to)
		return "link " + from + " " + to, err
	default:
		if !there || was == over {
			return "nothing", nil
		}
		err := n.Rename(ctx, record.Root, from, record.Root, to, 0)
		n.files[to] = was
		delete(n.files, from)
		if taken {
			n.forget(over)
		}
		return "rename " + from + " " + to, err
	}
}

func (n *names) fill(id record.ID) error {
	f, err := n.Drive.Open(n.t.Context(), id, true)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(n.t.Context(), []byte("x"), 0, false)
	return errors.Join(err, f.Close())
}

func (n *names) check() error {
	shown, err := n.Drive.ReadDir(n.t.Context(), record.Root)
	if err != nil {
		return err
	}
	if len(shown) != len(n.files) {
		return fmt.Errorf("shown are %v, wanted %v", shown, n.files)
	}
	for _, e := range shown {
		a, err := n.Lookup(n.t.Context(), record.Root, e.Name)
		if err != nil || a.ID != n.files[e.Name] || e.ID != a.ID {
			return fmt.Errorf("%s is %v, %v, wanted %v", e.Name, a.ID, err, n.files[e.Name])
		}
	}
	return nil
}
