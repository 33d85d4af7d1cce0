package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// asWorker, when set, makes the test binary one process of TestLoad: its value is a workerJob.
const asWorker = "HYPHAFS_TEST_LOAD_WORKER"

const (
	loadProcesses = 64
	loadCounters  = 8
	loadSaves     = 4
	loadFiles     = 24      // names of one process
	loadBytes     = 300_000 // of one file
)

// workerJob is what one process is told.
type workerJob struct {
	Index int
	Dir   string    // shared by all; the process has a folder of its own in it
	Until time.Time // when it ends
	Seed  uint64
}

// workerDone is what it tells at its end.
type workerDone struct {
	Ops      map[string]int
	Counters [loadCounters]int // how often it added one
	Lines    int               // of the log
	Slot     uint64            // what it left in its slot of the map
	Files    map[string]string // path -> SHA-256, hex, of all it has
}

// worker is one process: it does what programs do in its own folder, knows what must be there, and shares a few files with the others.
type worker struct {
	workerJob
	rng   *rand.Rand
	files map[string]*[]byte // by path below Dir; hard links share the bytes
	dirs  []string
	done  workerDone
}

// runWorker is the main function of the process.
func runWorker(text string) int {
	w := &worker{files: map[string]*[]byte{}, done: workerDone{Ops: map[string]int{}, Files: map[string]string{}}}
	err := json.Unmarshal([]byte(text), &w.workerJob)
	if err == nil {
		err = w.run()
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(w.done)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "process %d: %v\n", w.Index, err)
		return 1
	}
	return 0
}

func (w *worker) run() error {
	w.rng = rand.New(rand.NewPCG(w.Seed, uint64(w.Index)))
	own := fmt.Sprintf("p%02d", w.Index)
	w.dirs = []string{own, own + "/a", own + "/b"}
	for _, d := range w.dirs {
		if err := os.Mkdir(w.path(d), 0o755); err != nil {
			return err
		}
	}
	ops := map[string]func() error{
		"create": w.create, "write": w.write, "append": w.append, "truncate": w.truncate, "rename": w.rename, "link": w.link, "unlink": w.unlink,
		"readdir": w.readdir, "mmap": w.mmap, "fsync": w.fsync, "read": w.read, "rename directory": w.renameDir,
		"count": w.count, "log": w.log, "save": w.save, "see": w.see, "slot": w.slot,
	}
	names := slices.Sorted(maps.Keys(ops))
	for time.Now().Before(w.Until) {
		name := names[w.rng.IntN(len(names))]
		if err := ops[name](); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		w.done.Ops[name]++
	}
	if err := w.readdir(); err != nil {
		return err
	}
	for name, data := range w.files {
		if err := w.verify(name); err != nil {
			return err
		}
		w.done.Files[name] = hash256(*data)
	}
	return nil
}

func hash256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (w *worker) path(name string) string { return filepath.Join(w.Dir, name) }

// some returns random bytes.
func (w *worker) some(most int) []byte {
	b := make([]byte, w.rng.IntN(most)+1)
	word := w.rng.Uint64()
	for i := range b {
		b[i] = byte(word>>(8*(i%8))) + byte(i>>8)
	}
	return b
}

// pick returns a file that there is, or "".
func (w *worker) pick() string {
	if len(w.files) == 0 {
		return ""
	}
	return slices.Sorted(maps.Keys(w.files))[w.rng.IntN(len(w.files))]
}

// free returns a name, perhaps taken.
func (w *worker) free() string {
	return fmt.Sprintf("%s/f%02d", w.dirs[w.rng.IntN(len(w.dirs))], w.rng.IntN(loadFiles))
}

// verify compares a file with what it must be.
func (w *worker) verify(name string) error {
	got, err := os.ReadFile(w.path(name))
	if err != nil {
		return err
	}
	return differ(name, got, *w.files[name])
}

func differ(name string, got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	return fmt.Errorf("%s has %d bytes, wanted %d; they differ from byte %d on", name, len(got), len(want), at)
}

// open opens a picked file and hands it to fn.
func (w *worker) open(flags int, fn func(f *os.File, data *[]byte) error) error {
	name := w.pick()
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(w.path(name), flags, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(fn(f, w.files[name]), f.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (w *worker) create() error {
	name := w.free()
	f, err := os.OpenFile(w.path(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if _, taken := w.files[name]; taken {
		if !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("%s is there, and creating it gave %v", name, err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	data := w.some(loadBytes)
	_, err = f.Write(data)
	w.files[name] = &data
	return errors.Join(err, f.Close())
}

func (w *worker) write() error {
	return w.open(os.O_RDWR, func(f *os.File, data *[]byte) error {
		off, p := w.rng.IntN(len(*data)+1), w.some(loadBytes/4)
		if _, err := f.WriteAt(p, int64(off)); err != nil {
			return err
		}
		if need := off + len(p); need > len(*data) {
			*data = append(*data, make([]byte, need-len(*data))...)
		}
		copy((*data)[off:], p)
		if len(*data) > loadBytes {
			*data = (*data)[:loadBytes]
			return f.Truncate(loadBytes)
		}
		return nil
	})
}

func (w *worker) append() error {
	return w.open(os.O_WRONLY|os.O_APPEND, func(f *os.File, data *[]byte) error {
		p := w.some(5000)
		_, err := f.Write(p)
		*data = append(*data, p...)
		return err
	})
}

func (w *worker) truncate() error {
	return w.open(os.O_RDWR, func(f *os.File, data *[]byte) error {
		size := w.rng.IntN(loadBytes)
		if size > len(*data) {
			*data = append(*data, make([]byte, size-len(*data))...)
		}
		*data = (*data)[:size]
		return f.Truncate(int64(size))
	})
}

func (w *worker) rename() error {
	from, to := w.pick(), w.free()
	if from == "" {
		return nil
	}
	if err := os.Rename(w.path(from), w.path(to)); err != nil {
		return err
	}
	if w.files[from] != w.files[to] { // else both names of one file stay
		w.files[to] = w.files[from]
		delete(w.files, from)
	}
	return nil
}

func (w *worker) link() error {
	from, to := w.pick(), w.free()
	if from == "" {
		return nil
	}
	err := os.Link(w.path(from), w.path(to))
	if _, taken := w.files[to]; taken {
		if !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("%s is there, and linking it gave %v", to, err)
		}
		return nil
	}
	w.files[to] = w.files[from]
	return err
}

func (w *worker) unlink() error {
	name := w.pick()
	if name == "" {
		return nil
	}
	delete(w.files, name)
	return os.Remove(w.path(name))
}

// readdir compares the names in all folders with those that must be there.
func (w *worker) readdir() error {
	var got []string
	for _, d := range w.dirs {
		entries, err := os.ReadDir(w.path(d))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.IsDir() {
				got = append(got, d+"/"+e.Name())
			}
		}
	}
	slices.Sort(got)
	if want := slices.Sorted(maps.Keys(w.files)); !slices.Equal(got, want) {
		return fmt.Errorf("the names are %q, wanted %q", got, want)
	}
	return nil
}

func (w *worker) renameDir() error {
	from := w.dirs[1+w.rng.IntN(2)]
	to := fmt.Sprintf("%s/d%d", w.dirs[0], w.rng.IntN(1_000_000))
	if err := os.Rename(w.path(from), w.path(to)); err != nil {
		return err
	}
	w.dirs[slices.Index(w.dirs, from)] = to
	for _, name := range slices.Sorted(maps.Keys(w.files)) {
		if filepath.Dir(name) == from {
			w.files[to+"/"+filepath.Base(name)] = w.files[name]
			delete(w.files, name)
		}
	}
	return nil
}

// mmap changes mapped bytes and reads them back through the descriptor.
func (w *worker) mmap() error {
	return w.open(os.O_RDWR, func(f *os.File, data *[]byte) error {
		if len(*data) == 0 {
			return nil
		}
		m, err := syscall.Mmap(int(f.Fd()), 0, len(*data), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		if err != nil {
			return err
		}
		if err := differ("the map", m, *data); err != nil {
			return errors.Join(err, syscall.Munmap(m))
		}
		for range 5 {
			at := w.rng.IntN(len(m))
			m[at]++
			(*data)[at]++
		}
		got := make([]byte, len(*data))
		_, err = f.ReadAt(got, 0)
		return errors.Join(err, differ("read beside the map", got, *data), syscall.Munmap(m))
	})
}

func (w *worker) fsync() error {
	return w.open(os.O_RDWR, func(f *os.File, _ *[]byte) error { return f.Sync() })
}

func (w *worker) read() error {
	return w.open(os.O_RDONLY, func(f *os.File, data *[]byte) error {
		got, err := io.ReadAll(f)
		return errors.Join(err, differ("read", got, *data))
	})
}

// count adds one to a counter of all processes, under a lock: flock(2) for the even ones, fcntl(2) for the odd ones.
func (w *worker) count() error {
	k := w.rng.IntN(loadCounters)
	f, err := os.OpenFile(w.path(fmt.Sprintf("counter%d", k)), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	lock := func() error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }
	if k%2 == 1 {
		lock = func() error {
			return syscall.FcntlFlock(f.Fd(), syscall.F_SETLKW, &syscall.Flock_t{Type: syscall.F_WRLCK})
		}
	}
	for err = lock(); errors.Is(err, syscall.EINTR); {
		err = lock()
	}
	text := make([]byte, 20)
	if err == nil {
		_, err = f.ReadAt(text, 0)
	}
	var n int
	if err == nil {
		_, err = fmt.Sscanf(string(text), "%d", &n)
	}
	if err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "%019d\n", n+1), 0)
	}
	w.done.Counters[k]++
	return errors.Join(err, f.Close())
}

// log appends one line to the log of all processes.
func (w *worker) log() error {
	f, err := os.OpenFile(w.path("log"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%02d %d\n", w.Index, w.done.Lines)
	w.done.Lines++
	return errors.Join(err, f.Close())
}

// save replaces a file of all processes by renaming another over it, as editors do. All its bytes are the same, and tell its length.
func (w *worker) save() error {
	b := byte(w.rng.IntN(200))
	temp := w.path(fmt.Sprintf("save-%02d.tmp", w.Index))
	if err := os.WriteFile(temp, bytes.Repeat([]byte{b}, savedLength(b)), 0o644); err != nil {
		return err
	}
	return os.Rename(temp, w.path(fmt.Sprintf("saved%d", w.rng.IntN(loadSaves))))
}

func savedLength(b byte) int { return 1000 + 777*int(b) }

// see checks that a saved file is one whole save.
func (w *worker) see() error {
	got, err := os.ReadFile(w.path(fmt.Sprintf("saved%d", w.rng.IntN(loadSaves))))
	if err != nil {
		return err
	}
	return wholeSave(got)
}

func wholeSave(got []byte) error {
	if len(got) == 0 || len(got) != savedLength(got[0]) || bytes.Count(got, got[:1]) != len(got) {
		return fmt.Errorf("a save of %d bytes is not whole", len(got))
	}
	return nil
}

// slot adds one to this process's number in a file that all have mapped.
func (w *worker) slot() error {
	f, err := os.OpenFile(w.path("slots"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, 8*loadProcesses, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	n := atomic.AddUint64((*uint64)(unsafe.Pointer(&m[8*w.Index])), 1)
	if w.done.Slot++; n != w.done.Slot {
		err = fmt.Errorf("the slot says %d, wanted %d", n, w.done.Slot)
	}
	return errors.Join(err, syscall.Munmap(m), f.Close())
}
