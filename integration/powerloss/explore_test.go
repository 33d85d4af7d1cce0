package powerloss

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/integration/faultfs"
)

const (
	defaultPoints = 10_000
	lives         = 3  // of one seed
	steps         = 80 // of one life
)

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestEveryInstant tries crash points until there are enough, see doc.go.
func TestEveryInstant(t *testing.T) {
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err == nil {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	} else if os.Getenv("CI") == "true" {
		t.Fatal("needs /dev/fuse")
	} else {
		t.Skip("needs /dev/fuse")
	}
	points := number(t, "HYPHAFS_CRASH_POINTS", defaultPoints)
	seed := number(t, "HYPHAFS_CRASH_SEED", uint64(time.Now().UnixNano()))
	var tried uint64
	for ; tried < points && !t.Failed(); seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { tried += seedOf(t, seed) })
	}
	t.Logf("%d crash points", tried)
}

// seedOf lets a drive live and die some times, tries every instant, and returns how many there were.
func seedOf(t *testing.T, seed uint64) (points uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	e := &explorer{t: t, m: newModel(), scratch: scratchDir(t), roots: map[signedAt]string{}}
	e.log = &faultfs.Log{Base: faultfs.NewDisk()}
	boot := "first"
	for k := range lives {
		e.born = len(e.log.Ops)
		e.log.Ops = append(e.log.Ops, live(t, e.m, e.log, boot, rng, steps)...)
		if err := e.learn(); err != nil {
			t.Fatal(err)
		}
		e.run(seed, k, boot)
		points += uint64(len(e.log.Ops)-e.born) + 1
		if t.Failed() {
			return points
		}
		if loss := e.loss(rng); loss != faultfs.Kept { // else the system runs on, and what was not fsynced may be lost yet
			e.log = &faultfs.Log{Base: e.log.Crash(len(e.log.Ops), loss, rng)}
			boot = fmt.Sprint("boot ", k)
			e.nextBoot()
		}
	}
	return points
}

// explorer tries the crash points of one life.
type explorer struct {
	t       *testing.T
	m       *model
	log     *faultfs.Log // since the system runs
	born    int          // the length of log when this life began
	scratch string
	heads   []exposure          // what peers may have seen, and when; ascending
	blocks  map[string][][]byte // feed -> its blocks at the end of this life
	roots   map[signedAt]string // what was signed, over all lives, and a peer may have seen
}

// signedAt is a length of a feed.
type signedAt struct {
	feed   string
	length uint64
}

// exposure says that once the log has at operations, a peer may have seen length blocks of feed.
type exposure struct {
	at     int
	feed   string
	length uint64
}

// loss chooses what a power loss takes, or that only the process dies.
func (e *explorer) loss(rng *rand.Rand) faultfs.Loss {
	switch rng.IntN(5) {
	case 0:
		return faultfs.Kept
	case 1:
		return faultfs.Loss{Keep: 0, Names: 0}
	case 2:
		return faultfs.Loss{Keep: 50, Tear: 30, Ordered: true}
	case 3:
		return faultfs.Loss{Keep: 90, Tear: 10, Names: 90}
	}
	return faultfs.Loss{Keep: 50, Tear: 50, Names: 50}
}

// run tries every instant, on all processors.
func (e *explorer) run(seed uint64, life int, boot string) {
	var next atomic.Int64
	next.Store(int64(e.born))
	var group sync.WaitGroup
	for w := range runtime.NumCPU() {
		group.Go(func() {
			dir := filepath.Join(e.scratch, strconv.Itoa(w))
			for n := int(next.Add(1)) - 1; n <= len(e.log.Ops) && !e.t.Failed(); n = int(next.Add(1)) - 1 {
				rng := rand.New(rand.NewPCG(seed<<8|uint64(life), uint64(n)))
				loss := e.loss(rng)
				at := "after the loss"
				if loss == faultfs.Kept {
					at = boot
				}
				err := e.try(n, e.log.Crash(n, loss, rng), dir, at, loss == faultfs.Kept)
				if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
					e.t.Errorf("seed %d, life %d, crash behind %d of %d operations, %+v: %v\n%s", seed, life, n, len(e.log.Ops), loss, err, e.log.Describe(n, 60))
				}
			}
		})
	}
	group.Wait()
}

// try opens a drive on disk and looks at it.
func (e *explorer) try(n int, disk *faultfs.Disk, dir, boot string, lossless bool) (err error) {
	if err := errors.Join(os.Mkdir(dir, 0o700), disk.Materialise(dir)); err != nil {
		return err
	}
	ctx := context.WithoutCancel(e.t.Context())
	d, err := openDrive(ctx, dir, boot, nil, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close(ctx)) }()
	before, err := look(ctx, d, e.m)
	if err != nil {
		return err
	}
	if err := errors.Join(e.m.verify(*before, n, lossless), e.signed(d, n)); err != nil {
		return err
	}
	if err := d.Publish(ctx); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if err := d.Check(ctx); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	after, err := look(ctx, d, e.m)
	if err != nil {
		return fmt.Errorf("once published: %w", err)
	}
	if after.names != before.names {
		return fmt.Errorf("before publishing:\n%safter:\n%s", before.names, after.names)
	}
	for id, data := range before.files {
		if !bytes.Equal(data, after.files[id]) {
			return fmt.Errorf("publishing changed inode %s from %d to %d bytes", id, len(data), len(after.files[id]))
		}
	}
	if c, err := d.Conflicts(ctx); err != nil || len(c) > 0 {
		return fmt.Errorf("conflicts of one node: %+v %w", c, err)
	}
	return nil
}

// signed compares the feeds with those at the end of this life.
func (e *explorer) signed(d *drive.Drive, n int) error {
	least := map[string]uint64{}
	for _, h := range e.heads {
		if h.at <= n {
			least[h.feed] = h.length
		}
	}
	for _, f := range d.FeedSet().List() {
		name := f.DiscoveryKey().String()
		if f.Len() < least[name] {
			return fmt.Errorf("feed %s has %d blocks; a peer may have %d", name, f.Len(), least[name])
		}
		for seq := range least[name] { // what lies behind, nobody saw; Open itself may append
			if b, err := f.Block(seq); err != nil || !bytes.Equal(b, e.blocks[name][seq]) {
				return fmt.Errorf("block %d of feed %s was signed with other bytes, or is gone: %v", seq, name, err)
			}
		}
	}
	return nil
}

// learn finds out when which length of a feed was committed, and what the feeds hold at the end.
func (e *explorer) learn() (err error) {
	state := e.log.Base.Clone()
	for i := range e.log.Ops {
		op := &e.log.Ops[i]
		state.Apply(op)
		if op.Kind != faultfs.Sync || i < e.born {
			continue
		}
		feeds := state.Inodes[state.Path("feeds")]
		if feeds == nil {
			continue
		}
		for feed, dir := range feeds.Names {
			if state.Inodes[dir].Names["head"] == op.Ino {
				length, root := newestHead(state.Inodes[op.Ino].Data)
				e.heads = append(e.heads, exposure{i + 1, feed, length})
				if before, ok := e.roots[signedAt{feed, length}]; ok && before != root {
					return fmt.Errorf("operation %d: length %d of feed %s was signed twice, over other bytes", i, length, feed)
				}
				e.roots[signedAt{feed, length}] = root
			}
		}
	}
	dir := filepath.Join(e.scratch, "end")
	if err := errors.Join(os.Mkdir(dir, 0o700), state.Materialise(dir)); err != nil {
		return err
	}
	d, err := openDrive(e.t.Context(), dir, "the end", nil, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close(e.t.Context()), os.RemoveAll(dir)) }()
	e.blocks = map[string][][]byte{}
	for _, f := range d.FeedSet().List() {
		var blocks [][]byte
		for seq := range f.Len() {
			b, err := f.Block(seq)
			if err != nil {
				return err
			}
			blocks = append(blocks, b)
		}
		e.blocks[f.DiscoveryKey().String()] = blocks
	}
	return nil
}

// newestHead reads length and tree hash in the newer of the two slots of a head file (package hypercore).
func newestHead(b []byte) (length uint64, root string) {
	var newest uint64
	for _, at := range []int{0, 4096} {
		if len(b) >= at+56 {
			if g := binary.BigEndian.Uint64(b[at:]); g >= newest {
				newest, length, root = g, binary.BigEndian.Uint64(b[at+8:]), string(b[at+24:at+56])
			}
		}
	}
	return length, root
}

// nextBoot keeps what must hold on: at the end of this life, by a loss of power.
func (e *explorer) nextBoot() {
	last := map[string]uint64{}
	for _, h := range e.heads {
		last[h.feed] = h.length
	}
	e.heads = nil
	for feed, length := range last {
		e.heads = append(e.heads, exposure{0, feed, length})
	}
	e.m.nextBoot()
}
