package integration

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// How far the exerciser goes by default; see doc.go for longer runs.
const (
	exercises    = 1500
	exerciseSize = 600_000 // bytes a file may have: ten blocks, so that most operations touch several and cut some
	exerciseSpan = 150_000 // bytes an operation may touch
)

// TestExerciser does random things to files of a mount, in the manner of fsx, and compares each result with a model in memory: reads and
// writes through calls and mappings, truncation, holes, copies, syncs, closing and opening, dropping the kernel's pages, publishing. Then the node restarts
// and both it and a second node have to hold the same bytes.
func TestExerciser(t *testing.T) {
	steps := fromEnv(t, "HYPHAFS_TEST_EXERCISES", exercises)
	first := fromEnv(t, "HYPHAFS_TEST_SEED", 1)
	desktop, laptop := pair(t)
	var files []*exerciser
	for seed := first; seed < first+3; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			x := newExerciser(t, desktop, seed)
			defer x.close()
			for range steps {
				x.step()
			}
			files = append(files, x)
		})
	}
	desktop.stop()
	desktop.check()
	fixed := laptop.listening()
	desktop.mount("--peer", fixed)
	for _, x := range files {
		x.holds(t, desktop)
	}
	same(t, desktop, laptop)
	for _, x := range files {
		x.holds(t, laptop)
	}
	for _, n := range []*node{desktop, laptop} {
		n.stop()
		n.check()
	}
}

// fromEnv reads a number from the environment.
func fromEnv(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatalf("%s=%s is no number", name, text)
	}
	return n
}

// exerciser is a file and what it has to hold.
type exerciser struct {
	t     *testing.T
	node  *node
	name  string
	seed  int
	rng   *rand.Rand
	f     *os.File
	bytes []byte
	done  []string // the last operations, for who reads the failure
}

func newExerciser(t *testing.T, n *node, seed int) *exerciser {
	x := &exerciser{t: t, node: n, name: fmt.Sprint("exercise ", seed), seed: seed, rng: rand.New(rand.NewPCG(uint64(seed), 1))}
	x.open(os.O_CREATE | os.O_EXCL)
	return x
}

func (x *exerciser) path() string { return filepath.Join(x.node.dir, x.name) }

func (x *exerciser) open(flags int) {
	x.t.Helper()
	f, err := os.OpenFile(x.path(), os.O_RDWR|flags, 0o644)
	x.must(err)
	x.f = f
}

func (x *exerciser) close() { x.must(x.f.Close()) }

func (x *exerciser) must(err error) {
	x.t.Helper()
	if err != nil {
		x.fail("%v", err)
	}
}

func (x *exerciser) fail(format string, args ...any) {
	x.t.Helper()
	x.t.Fatalf("seed %d: %s, after\n%s", x.seed, fmt.Sprintf(format, args...), strings.Join(x.done, "\n"))
}

func (x *exerciser) note(format string, args ...any) {
	if x.done = append(x.done, fmt.Sprintf(format, args...)); len(x.done) > 40 {
		x.done = x.done[1:]
	}
}

// span draws a range that starts within the file and may reach behind its end, up to limit.
func (x *exerciser) span(limit int) (off, end int) {
	off = x.rng.IntN(min(len(x.bytes)+1, limit))
	n := 1 + x.rng.IntN(exerciseSpan)
	switch x.rng.IntN(4) { // small ones and whole blocks are where the corners are
	case 0:
		n = 1 + x.rng.IntN(5000)
	case 1:
		off, n = off&^(64<<10-1), 64<<10*(1+x.rng.IntN(3))
	}
	return off, min(off+n, limit)
}

// within is a span inside the file, which must not be empty.
func (x *exerciser) within() (off, end int) {
	off, end = x.span(len(x.bytes))
	return off, end
}

// fill draws the bytes of a write: those of one write are alike, so that a failure shows which it was.
func (x *exerciser) fill(n int) []byte {
	b := bytes.Repeat([]byte{byte(1 + x.rng.IntN(255))}, n)
	for i := 0; i < n; i += 512 {
		b[i] = byte(i >> 9)
	}
	return b
}

// grow makes the model at least n long.
func (x *exerciser) grow(n int) {
	if n > len(x.bytes) {
		x.bytes = append(x.bytes, make([]byte, n-len(x.bytes))...)
	}
}

// operations are drawn by weight. Those that need bytes are passed over while the file is empty.
var operations = []struct {
	weight int
	empty  bool // also on an empty file
	do     func(*exerciser)
}{
	{20, true, (*exerciser).write},
	{15, false, (*exerciser).read},
	{10, false, (*exerciser).mapped},
	{10, false, (*exerciser).mapWrite},
	{6, true, (*exerciser).truncate},
	{6, false, (*exerciser).punch},
	{6, true, (*exerciser).zero},
	{3, true, (*exerciser).allocate},
	{8, false, (*exerciser).copyRange},
	{4, true, (*exerciser).appended},
	{4, false, (*exerciser).seek},
	{4, true, (*exerciser).sync},
	{6, true, (*exerciser).reopen},
	{3, true, (*exerciser).dropPages},
	{1, true, (*exerciser).publish},
}

func (x *exerciser) step() {
	x.t.Helper()
	total := 0
	for _, o := range operations {
		total += o.weight
	}
	k := x.rng.IntN(total)
	for _, o := range operations {
		if k -= o.weight; k >= 0 {
			continue
		}
		if o.empty || len(x.bytes) > 0 {
			o.do(x)
		}
		break
	}
	info, err := x.f.Stat()
	x.must(err)
	if info.Size() != int64(len(x.bytes)) {
		x.fail("size %d, want %d", info.Size(), len(x.bytes))
	}
}

func (x *exerciser) write() {
	off, end := x.span(exerciseSize)
	if x.rng.IntN(8) == 0 { // behind a hole
		off, end = x.rng.IntN(exerciseSize-1), exerciseSize
		end = min(end, off+1+x.rng.IntN(exerciseSpan))
	}
	x.note("write %d to %d", off, end)
	b := x.fill(end - off)
	_, err := x.f.WriteAt(b, int64(off))
	x.must(err)
	x.grow(end)
	copy(x.bytes[off:], b)
}

func (x *exerciser) read() {
	off, end := x.within()
	x.note("read %d to %d", off, end)
	b := make([]byte, end-off)
	_, err := x.f.ReadAt(b, int64(off))
	x.must(err)
	x.compare("read", off, b)
}

// compare fails if got is not what the model has at off.
func (x *exerciser) compare(how string, off int, got []byte) {
	x.t.Helper()
	want := x.bytes[off : off+len(got)]
	if bytes.Equal(got, want) {
		return
	}
	i := 0
	for got[i] == want[i] {
		i++
	}
	n := 0
	for k := i; k < len(got); k++ {
		n += b2i(got[k] != want[k])
	}
	x.fail("%s: byte %d of %d is %#x, want %#x; %d bytes differ", how, off+i, len(x.bytes), got[i], want[i], n)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// withMap maps the pages that hold the bytes from off up to end and hands those over. A page that cannot be read is a failure and no crash.
func (x *exerciser) withMap(off, end, prot int, fn func(b []byte)) {
	x.t.Helper()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	page := off &^ (os.Getpagesize() - 1)
	m, err := unix.Mmap(int(x.f.Fd()), int64(page), end-page, prot, unix.MAP_SHARED)
	x.must(err)
	defer func() {
		fault := recover()
		x.must(unix.Munmap(m))
		if fault != nil {
			x.fail("mapping: %v", fault)
		}
	}()
	fn(m[off-page : end-page])
	if prot&unix.PROT_WRITE != 0 && x.rng.IntN(2) == 0 {
		x.note("msync")
		x.must(unix.Msync(m, unix.MS_SYNC))
	}
}

func (x *exerciser) mapped() {
	off, end := x.within()
	x.note("read mapping %d to %d", off, end)
	b := make([]byte, end-off)
	x.withMap(off, end, unix.PROT_READ, func(m []byte) { copy(b, m) })
	x.compare("mapping", off, b)
}

func (x *exerciser) mapWrite() {
	off, end := x.within()
	x.note("write mapping %d to %d", off, end)
	b := x.fill(end - off)
	x.withMap(off, end, unix.PROT_READ|unix.PROT_WRITE, func(m []byte) { copy(m, b) })
	copy(x.bytes[off:], b)
}

func (x *exerciser) truncate() {
	size := x.rng.IntN(exerciseSize)
	if x.rng.IntN(3) == 0 {
		size = x.rng.IntN(len(x.bytes) + 1)
	}
	x.note("truncate to %d", size)
	x.must(x.f.Truncate(int64(size)))
	x.grow(size)
	x.bytes = x.bytes[:size:size] // what is cut off must not come back by append
}

func (x *exerciser) fallocate(mode uint32, off, end int) {
	x.t.Helper()
	x.must(unix.Fallocate(int(x.f.Fd()), mode, int64(off), int64(end-off)))
}

func (x *exerciser) punch() {
	off, end := x.span(exerciseSize)
	x.note("punch %d to %d", off, end)
	x.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, end)
	clear(x.bytes[off:min(end, len(x.bytes))])
}

func (x *exerciser) zero() {
	off, end := x.span(exerciseSize)
	mode := uint32(unix.FALLOC_FL_ZERO_RANGE)
	if x.rng.IntN(2) == 0 {
		mode |= unix.FALLOC_FL_KEEP_SIZE
	} else {
		x.grow(end)
	}
	x.note("zero %d to %d, mode %d", off, end, mode)
	x.fallocate(mode, off, end)
	clear(x.bytes[min(off, len(x.bytes)):min(end, len(x.bytes))])
}

func (x *exerciser) allocate() {
	off, end := x.span(exerciseSize)
	x.note("allocate %d to %d", off, end)
	x.fallocate(0, off, end)
	x.grow(end)
}

func (x *exerciser) copyRange() {
	off, end := x.within()
	to := x.rng.IntN(exerciseSize)
	n := min(end-off, exerciseSize-to)
	if to < off+n && off < to+n { // the call refuses ranges that overlap
		return
	}
	x.note("copy %d to %d -> %d", off, off+n, to)
	data := bytes.Clone(x.bytes[off : off+n])
	from, at := int64(off), int64(to)
	for left := n; left > 0; {
		k, err := unix.CopyFileRange(int(x.f.Fd()), &from, int(x.f.Fd()), &at, left, 0)
		x.must(err)
		if k == 0 {
			x.fail("copied %d of %d", n-left, n)
		}
		left -= k
	}
	x.grow(to + n)
	copy(x.bytes[to:], data)
}

func (x *exerciser) appended() {
	n := min(1+x.rng.IntN(exerciseSpan), exerciseSize-len(x.bytes))
	if n == 0 {
		return
	}
	x.note("append %d", n)
	b := x.fill(n)
	f, err := os.OpenFile(x.path(), os.O_WRONLY|os.O_APPEND, 0)
	x.must(err)
	_, err = f.Write(b)
	x.must(errors.Join(err, f.Close()))
	x.bytes = append(x.bytes, b...)
}

// seek walks over the data of the file: what it calls a hole must be zeros.
func (x *exerciser) seek() {
	x.note("seek over data")
	fd, at := int(x.f.Fd()), int64(0)
	for {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			data = int64(len(x.bytes))
		} else {
			x.must(err)
		}
		if i := slices.IndexFunc(x.bytes[at:data], func(b byte) bool { return b != 0 }); i >= 0 {
			x.fail("byte %d is in a hole from %d to %d", at+int64(i), at, data)
		}
		if data == int64(len(x.bytes)) {
			return
		}
		at, err = unix.Seek(fd, data, unix.SEEK_HOLE)
		x.must(err)
		if at <= data || at > int64(len(x.bytes)) {
			x.fail("data from %d up to %d of %d", data, at, len(x.bytes))
		}
	}
}

func (x *exerciser) sync() {
	x.note("fsync")
	if x.rng.IntN(2) == 0 {
		x.must(x.f.Sync())
		return
	}
	x.must(unix.Fdatasync(int(x.f.Fd())))
}

func (x *exerciser) reopen() {
	x.note("close and open")
	x.close()
	x.open(0)
}

// dropPages makes the kernel ask for the bytes again.
func (x *exerciser) dropPages() {
	x.note("drop pages")
	x.must(x.f.Sync())
	x.must(unix.Fadvise(int(x.f.Fd()), 0, 0, unix.FADV_DONTNEED))
	b := make([]byte, len(x.bytes))
	_, err := x.f.ReadAt(b, 0)
	x.must(err)
	x.compare("read of all", 0, b)
}

// publish puts the bytes into the feed: what comes after cuts blocks that are there.
func (x *exerciser) publish() {
	x.note("publish")
	if out, err := x.node.run("sync", x.node.dir); err != nil {
		x.fail("sync: %v\n%s", err, out)
	}
}

// holds fails the test if n has other bytes.
func (x *exerciser) holds(t *testing.T, n *node) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(n.dir, x.name))
	if err != nil || !bytes.Equal(got, x.bytes) {
		t.Errorf("%s on %s: %d bytes, %v, want %d; or they differ", x.name, n.dir, len(got), err, len(x.bytes))
	}
}
