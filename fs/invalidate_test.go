package fs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
	page, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
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
