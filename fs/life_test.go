package fs_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hyphafs.org/hyphafs/fs"
)

func TestDeadMountIsCleaned(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) }) // a dead one, if the test failed
	dead, err := tryMount(t, setup{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(dir) // makes the dead mount busy, so that it has to be detached
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	dead.cmd.Process.Kill()
	dead.cmd.Wait()
	dead.in.Close()
	want(t, "statfs of a dead mount", unix.Statfs(dir, new(unix.Statfs_t)), unix.ENOTCONN)
	m := mount(t, setup{Dir: dir})
	write(t, filepath.Join(m.dir, "f"), "alive")
	if got := read(t, filepath.Join(m.dir, "f")); got != "alive" {
		t.Errorf("file reads %q", got)
	}
	if _, err := tryMount(t, setup{Dir: dir}); err == nil {
		t.Error("mounted twice")
	}
	if got := read(t, filepath.Join(m.dir, "f")); got != "alive" {
		t.Errorf("after the refused mount the file reads %q", got)
	}
}

// TestKillWhileAReadWaits kills a server while a program waits for bytes of a file that changed meanwhile. No thread of it may be in the kernel then, waiting for the same page:
// the process could not end, nor the program.
func TestKillWhileAReadWaits(t *testing.T) {
	dir := t.TempDir()
	m, err := tryMount(t, setup{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) }) // a dead one, if the test failed
	s := stall(t, m)
	told := make(chan struct{})
	go func() { // ends with the child
		defer close(told)
		m.in.Write([]byte(`{"Op": "write", "Path": "f", "Data": "Yg=="}` + "\n"))
		m.out.Decode(new(answer))
	}()
	select {
	case <-told:
	case <-time.After(5 * time.Second): // the server goes on to wait
		t.Error("the change cannot be told")
	}
	m.cmd.Process.Kill()
	ended := make(chan error, 1)
	go func() { ended <- m.cmd.Wait() }() // at the latest when the mount is taken away, below
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the process that was killed stays")
		unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH) // frees it
		<-ended
	}
	<-told
	if got := <-s.read; !strings.Contains(got, " ") || strings.HasSuffix(got, "<nil>") {
		t.Errorf("who waited reads %s", got)
	}
	m.in.Close()
	mount(t, setup{Dir: dir})
}

func TestForeignMountIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("test", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("tmpfs cannot be mounted here: %v", err)
	}
	defer unix.Unmount(dir, 0)
	write(t, filepath.Join(dir, "f"), "theirs")
	if m, err := tryMount(t, setup{Dir: dir}); err == nil {
		m.end()
		t.Error("mounted over another file system")
	}
	if got := read(t, filepath.Join(dir, "f")); got != "theirs" {
		t.Errorf("file reads %q", got)
	}
}

func TestMountNeedsADirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, "")
	for _, at := range []string{file, filepath.Join(dir, "none")} {
		if _, err := tryMount(t, setup{Dir: at}); err == nil {
			t.Errorf("mounted on %s", at)
		}
	}
}

func TestUnmount(t *testing.T) {
	m := mount(t, setup{})
	path := filepath.Join(m.dir, "f")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if a := m.try(order{Op: "unmount"}); !strings.Contains(a.Err, fs.ErrBusy.Error()) {
		t.Errorf("unmount of a busy mount: %q", a.Err)
	}
	if _, err := f.WriteString("goes on"); err != nil {
		t.Error(err)
	}
	f.Close()
	m.ask(order{Op: "unmount"})
	m.ask(order{Op: "unmount"})
	names, err := os.ReadDir(m.dir)
	if len(names) != 0 || err != nil {
		t.Errorf("after unmount there is %v, %v", names, err)
	}
}

// TestCloseOfABusyMount ends a mount although a file stays open: the server must not wait for ever.
func TestCloseOfABusyMount(t *testing.T) {
	m := mount(t, setup{})
	f, err := os.Create(filepath.Join(m.dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m.end()
	_, err = f.WriteString("too late")
	want(t, "write after the end", err, unix.ENOTCONN)
}

func TestUmountByOthersEndsTheServer(t *testing.T) {
	m := mount(t, setup{})
	if out, err := exec.Command("umount", m.dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m.ask(order{Op: "unmount"})
}

func TestReadAheadIsLong(t *testing.T) {
	m := mount(t, setup{})
	device := stat(t, m.dir).Dev
	path := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(device), unix.Minor(device))
	if f, err := os.OpenFile(path, os.O_WRONLY, 0); errors.Is(err, unix.EROFS) {
		t.Skipf("sysfs cannot be written here: %v", err)
	} else if err == nil {
		f.Close()
	}
	if got := read(t, path); got != "2048\n" {
		t.Errorf("the kernel reads %q KiB ahead", got)
	}
}

func TestMountOptions(t *testing.T) {
	m := mount(t, setup{Options: fs.Options{FsName: "hyphafs, anna", MountOptions: []string{"defaults", "ro", "noexec", "nofail", "x-systemd.automount", "show_control"}}})
	want(t, "mkdir on ro", unix.Mkdir(filepath.Join(m.dir, "d"), 0755), unix.EROFS)
	line, err := sh("/", "grep -F ' "+m.dir+" ' /proc/self/mounts")
	if err != nil || !strings.HasPrefix(line, `hyphafs_\040anna `) || !strings.Contains(line, "fuse.hyphafs ro,nosuid,nodev,noexec,") || !strings.Contains(line, "default_permissions") {
		t.Errorf("%v: %s", err, line)
	}
	if out, _ := sh(m.dir, "ls -A"); out != ".hypha\n" {
		t.Errorf("root shows %q", out)
	}
	if _, err := tryMount(t, setup{Dir: t.TempDir(), Options: fs.Options{MountOptions: []string{"nonsense"}}}); err == nil {
		t.Error("an unknown option was taken")
	}
}

// TestAReadThatWaitsCanBeInterrupted kills a program that reads what no peer has, and unmounts under another one.
func TestAReadThatWaitsCanBeInterrupted(t *testing.T) {
	m := mount(t, setup{})
	m.ask(order{Op: "write", Path: "f", Data: []byte("far away")})
	m.ask(order{Op: "stall", Path: "f"})
	started, err := sh(m.dir, "timeout -s INT 0.2 cat f; echo $?")
	if err != nil || started != "124\n" {
		t.Errorf("%v: %s", err, started)
	}
	cmd := exec.Command("cat", filepath.Join(m.dir, "f"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if got := stat(t, filepath.Join(m.dir, "f")).Size; got != 8 {
		t.Errorf("size %d", got)
	}
	write(t, filepath.Join(m.dir, "g"), "others go on")
	cmd.Process.Kill()
	cmd.Wait()
	m.ask(order{Op: "unmount"})
}
