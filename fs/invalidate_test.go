package fs_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestPeersChangesAreSeen(t *testing.T) {
	m := mount(t, setup{})
	path := filepath.Join(m.dir, "f")
	_, err := os.Stat(path)
	want(t, "stat", err, unix.ENOENT) // the kernel now knows that there is no such name
	m.ask(order{Op: "write", Path: "f", Data: []byte("first")})
	if got := read(t, path); got != "first" {
		t.Errorf("new file reads %q", got)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page := mapped(t, f)
	if string(page[:5]) != "first" {
		t.Errorf("mapped %q", page[:5])
	}
	m.ask(order{Op: "write", Path: "f", Data: []byte("second, longer")})
	if got := read(t, path); got != "second, longer" {
		t.Errorf("changed file reads %q", got)
	}
	if st := stat(t, path); st.Size != 14 {
		t.Errorf("size %d", st.Size)
	}
	if string(page[:6]) != "second" {
		t.Errorf("mapping reads %q", page[:6])
	}
	m.ask(order{Op: "write", Path: "f", Data: []byte("3")})
	if got := read(t, path); got != "3" {
		t.Errorf("shorter file reads %q", got)
	}
	old := stat(t, path).Ino
	m.ask(order{Op: "replace", Path: "f", Data: []byte("another file")})
	if got := read(t, path); got != "another file" || stat(t, path).Ino == old {
		t.Errorf("replaced file reads %q", got)
	}
	buf := make([]byte, 10)
	if n, err := f.ReadAt(buf, 0); string(buf[:n]) != "3" {
		t.Errorf("open file that was replaced reads %q, %v", buf[:n], err)
	}
	names := func() string {
		out, err := sh(m.dir, "ls")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if names() != "f\n" {
		t.Errorf("names %q", names())
	}
	before := stat(t, m.dir).Mtim
	m.ask(order{Op: "remove", Path: "f"})
	_, err = os.Stat(path)
	want(t, "stat of a removed file", err, unix.ENOENT)
	if names() != "" || !after(stat(t, m.dir).Mtim, before) {
		t.Error("directory did not change")
	}
}

func TestAppendAfterAPeersChange(t *testing.T) {
	m := mount(t, setup{})
	path := filepath.Join(m.dir, "f")
	write(t, path, "one\n")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m.ask(order{Op: "write", Path: "f", Data: []byte("one\ntwo\n")})
	if _, err := f.WriteString("three\n"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); got != "one\ntwo\nthree\n" {
		t.Errorf("file reads %q", got)
	}
}

// TestWatchesSurvive watches a file with inotify while a peer changes it: the watch stays, and ends when the file is removed.
func TestWatchesSurvive(t *testing.T) {
	m := mount(t, setup{})
	path := filepath.Join(m.dir, "f")
	write(t, path, "x")
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_DELETE_SELF|unix.IN_MODIFY); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	m.ask(order{Op: "write", Path: "f", Data: []byte("theirs")})
	if n, err := unix.Read(fd, buf); n > 0 {
		t.Errorf("%d bytes of events after a peer's change, %v", n, err)
	}
	write(t, path, "ours")
	if n, err := unix.Read(fd, buf); n <= 0 {
		t.Errorf("watch is dead: %d, %v", n, err)
	}
	m.ask(order{Op: "remove", Path: "f"})
	if n, err := unix.Read(fd, buf); n <= 0 {
		t.Errorf("removal was not told: %d, %v", n, err)
	}
}

// mapped maps the first page of f, to be read.
func mapped(t *testing.T, f *os.File) []byte {
	t.Helper()
	page, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatalf("map %s: %v", f.Name(), err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(page); err != nil {
			t.Error(err)
		}
	})
	return page
}

// stalled is a file of which all but the beginning is with a peer, and a program that waits for some of that.
type stalled struct {
	m    *mounted
	path string
	read chan string // what it read, or why not
}

const (
	stalledBytes = 8 << 20
	stalledFrom  = 4 << 20 // beyond what the kernel reads ahead
)

func stall(t *testing.T, m *mounted) stalled {
	t.Helper()
	s := stalled{m, filepath.Join(m.dir, "f"), make(chan string, 1)}
	m.ask(order{Op: "write", Path: "f", Data: bytes.Repeat([]byte("a"), stalledBytes)})
	m.ask(order{Op: "stall", Path: "f", Off: stalledFrom})
	f, err := os.Open(s.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	go func() { // ends when the read does, which the test waits for
		b := make([]byte, 1)
		n, err := f.ReadAt(b, stalledFrom+stalledFrom/2)
		s.read <- fmt.Sprint(string(b[:n]), " ", err)
	}()
	eventually(t, "the read to wait", func() bool { return m.ask(order{Op: "waiting", Path: "f"}).Waiting > 0 })
	return s
}

// eventually polls until ok holds, in another process.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("waited in vain for ", what)
		}
	}
}

// TestChangeOfAFileThatIsWaitedFor: while a program waits for bytes of a file, that changes. Nobody else has to wait, who opens it sees the change, and whoever has it open does when
// the wait is over.
func TestChangeOfAFileThatIsWaitedFor(t *testing.T) {
	m := mount(t, setup{})
	m.ask(order{Op: "write", Path: "g", Data: []byte("old")})
	if got := read(t, filepath.Join(m.dir, "g")); got != "old" {
		t.Errorf("other file reads %q", got)
	}
	s := stall(t, m)
	f, err := os.Open(s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page := mapped(t, f)
	if page[0] != 'a' {
		t.Errorf("mapped %q", page[0])
	}
	m.ask(order{Op: "write", Path: "f", Data: bytes.Repeat([]byte("b"), stalledBytes)}) // answers when it is told
	m.ask(order{Op: "write", Path: "g", Data: []byte("new")})
	if got := read(t, filepath.Join(m.dir, "g")); got != "new" {
		t.Errorf("other file reads %q", got)
	}
	late, err := os.Open(s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	b := make([]byte, 4096)
	if n, err := late.ReadAt(b, 0); n != len(b) || b[0] != 'b' {
		t.Errorf("who opens the file reads %q, %v", b[:1], err)
	}
	m.ask(order{Op: "resume", Path: "f"})
	if got := <-s.read; got != "b <nil>" {
		t.Errorf("who waited reads %s", got)
	}
	m.ask(order{Op: "write", Path: "g", Data: []byte("newer")}) // what was to be told before is told then
	if page[0] != 'b' {
		t.Errorf("mapping reads %q", page[0])
	}
	mapped(t, late) // one that was opened past the pages can be, too
}

// TestChangeBeforeAnOpen changes a file that nobody has open, of which the kernel has pages: who opens it sees the change, and what he read stays with the kernel.
func TestChangeBeforeAnOpen(t *testing.T) {
	m := mount(t, setup{})
	path := filepath.Join(m.dir, "f")
	for _, text := range []string{"first", "other"} {
		m.ask(order{Op: "write", Path: "f", Data: []byte(text)})
		if got := read(t, path); got != text {
			t.Errorf("file reads %q, want %q", got, text)
		}
	}
	m.ask(order{Op: "stall", Path: "f"})
	if got := read(t, path); got != "other" {
		t.Errorf("file reads %q", got)
	}
}

// TestManyChangesWhileBusy changes files from both sides at once: nothing may hang, and the end is seen.
func TestManyChangesWhileBusy(t *testing.T) {
	m := mount(t, setup{})
	cmd := exec.Command("bash", "-c", `for i in $(seq 200); do echo $i > a$((i%7)); cat f* > /dev/null 2>&1; mv a$((i%7)) b; ls -l > /dev/null; rm -f b; done`)
	cmd.Dir = m.dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		name := "f" + string(rune('0'+i%5))
		m.ask(order{Op: "write", Path: name, Data: []byte(strings.Repeat("x", i*37))})
		if i%10 == 9 {
			m.ask(order{Op: "remove", Path: name})
		}
	}
	m.ask(order{Op: "write", Path: "f0", Data: []byte("end")})
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got := read(t, filepath.Join(m.dir, "f0")); got != "end" {
		t.Errorf("file reads %d bytes", len(got))
	}
}
