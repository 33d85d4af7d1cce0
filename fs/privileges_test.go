package fs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// nobody is another user than the one who mounts.
const nobody = 65534

// asNobody runs a shell script as another user, in dir.
func asNobody(t *testing.T, dir, script string) (string, error) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestPrivilegesEndWithAChange(t *testing.T) {
	m := everyone(t)
	path := filepath.Join(m.dir, "f")
	for _, c := range []struct {
		name, script string
		mode, want   uint32
	}{
		{"write", "printf x >> f", 06777, 0777},
		{"write keeps sgid without group execute", "printf x >> f", 06767, 02767},
		{"truncate on open", ": > f", 06777, 0777},
		{"truncate", "truncate -s 3 f", 06777, 0777},
		{"fallocate", "fallocate -l 4096 f", 06777, 0777},
		{"read", "cat f > /dev/null", 06777, 06777},
	} {
		os.Remove(path)
		write(t, path, "text")
		want(t, "chown", unix.Chown(path, nobody, nobody), 0)
		want(t, "chmod", unix.Chmod(path, c.mode), 0)
		if out, err := asNobody(t, m.dir, c.script); err != nil {
			t.Fatalf("%s: %v: %s", c.name, err, out)
		}
		var sx unix.Statx_t // only the mode: the kernel may know it and ask nobody
		if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MODE, &sx); err != nil || uint32(sx.Mode&07777) != c.want {
			t.Errorf("%s: mode %o, want %o (%v)", c.name, sx.Mode&07777, c.want, err)
		}
	}
	want(t, "chmod", unix.Chmod(path, 06777), 0)
	write(t, path, "by root")
	if got := stat(t, path).Mode & 07777; got != 06777 {
		t.Errorf("a write by root: mode %o", got)
	}
	want(t, "chown", unix.Chown(path, nobody, 1), 0)
	if got := stat(t, path).Mode & 07777; got != 0777 {
		t.Errorf("chown: mode %o", got)
	}
}

func TestTheKernelChecksPermissions(t *testing.T) {
	m := everyone(t)
	want(t, "chmod", os.Chmod(m.dir, 0755), 0)
	write(t, filepath.Join(m.dir, "mine"), "x")
	want(t, "mkdir", unix.Mkdir(filepath.Join(m.dir, "tmp"), 0), 0)
	want(t, "chmod", unix.Chmod(filepath.Join(m.dir, "tmp"), 01777), 0)
	write(t, filepath.Join(m.dir, "tmp", "mine"), "x")
	for script, reason := range map[string]string{
		"echo x > new":     "Permission denied",
		"echo x > mine":    "Permission denied",
		"rm -f tmp/mine":   "Operation not permitted",
		"chmod 0777 mine":  "Operation not permitted",
		"chown 65534 mine": "Operation not permitted",
		"touch mine":       "Permission denied",
	} {
		out, err := asNobody(t, m.dir, script)
		if err == nil || !strings.Contains(strings.ToLower(out), strings.ToLower(reason)) {
			t.Errorf("%s: %v: %s", script, err, out)
		}
	}
	if out, err := asNobody(t, m.dir, "echo x > tmp/theirs && ln tmp/theirs tmp/more && rm tmp/theirs"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if st := stat(t, filepath.Join(m.dir, "tmp", "more")); st.Uid != nobody || st.Gid != nobody {
		t.Errorf("owner %d:%d", st.Uid, st.Gid)
	}
}

func TestReadOnlyUntilAuthorised(t *testing.T) {
	m := mount(t, setup{ReadOnly: true})
	m.ask(order{Op: "write", Path: "theirs", Data: []byte("theirs")})
	path := filepath.Join(m.dir, "theirs")
	new := filepath.Join(m.dir, "new")
	refused := map[string]func() error{
		"create":      func() error { return mustNot(os.Create(new)) },
		"write":       func() error { return mustNot(os.OpenFile(path, os.O_WRONLY, 0)) },
		"append":      func() error { return mustNot(os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)) },
		"truncating":  func() error { return mustNot(os.OpenFile(path, os.O_TRUNC, 0)) },
		"truncate":    func() error { return unix.Truncate(path, 0) },
		"mkdir":       func() error { return unix.Mkdir(new, 0755) },
		"mknod":       func() error { return unix.Mkfifo(new, 0644) },
		"symlink":     func() error { return unix.Symlink("x", new) },
		"link":        func() error { return unix.Link(path, new) },
		"rename":      func() error { return unix.Rename(path, new) },
		"unlink":      func() error { return unix.Unlink(path) },
		"chmod":       func() error { return unix.Chmod(path, 0600) },
		"chown":       func() error { return unix.Chown(path, 1, 1) },
		"utimens":     func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, path, make([]unix.Timespec, 2), 0) },
		"setxattr":    func() error { return unix.Setxattr(path, "user.a", nil, 0) },
		"removexattr": func() error { return unix.Removexattr(path, "user.a") },
	}
	for name, do := range refused {
		want(t, name, do(), unix.EROFS)
	}
	if got := read(t, path); got != "theirs" {
		t.Errorf("file reads %q", got)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want(t, "flock", unix.Flock(int(f.Fd()), unix.LOCK_EX), 0)
	if st := stat(t, path); st.Uid != uint32(os.Geteuid()) {
		t.Errorf("a peer's file belongs to %d", st.Uid)
	}
	m.ask(order{Op: "writable", On: true})
	write(t, path, "ours")
	write(t, new, "new")
	if got := read(t, path); got != "ours" {
		t.Errorf("after authorisation the file reads %q", got)
	}
}

func TestLocks(t *testing.T) {
	m := everyone(t)
	path := filepath.Join(m.dir, "f")
	write(t, path, "x")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want(t, "flock", unix.Flock(int(f.Fd()), unix.LOCK_EX), 0)
	g, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	want(t, "second flock", unix.Flock(int(g.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
	lock := unix.Flock_t{Type: unix.F_WRLCK, Len: 1}
	want(t, "open file description lock", unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock), 0)
	want(t, "second one", unix.FcntlFlock(g.Fd(), unix.F_OFD_SETLK, &lock), unix.EAGAIN)
}

// TestManyNames reads a directory with names added and removed in between: what stays is told exactly once.
func TestManyNames(t *testing.T) {
	m := everyone(t)
	const n = 3000
	for i := range n {
		write(t, filepath.Join(m.dir, fmt.Sprintf("stays-%05d", i)), "")
	}
	d, err := os.Open(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	seen := map[string]int{}
	for i := 0; ; i++ {
		names, err := d.Readdirnames(100)
		for _, name := range names {
			seen[name]++
		}
		if err != nil {
			break
		}
		write(t, filepath.Join(m.dir, fmt.Sprintf("a-new-%05d", i)), "")
		os.Rename(filepath.Join(m.dir, fmt.Sprintf("a-new-%05d", i)), filepath.Join(m.dir, fmt.Sprintf("b-new-%05d", i)))
	}
	for i := range n {
		if c := seen[fmt.Sprintf("stays-%05d", i)]; c != 1 {
			t.Fatalf("stays-%05d was told %d times", i, c)
		}
	}
}
