package fs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hyphafs.org/hyphafs/fs"
)

// want fails unless err is errno; 0 is success.
func want(t *testing.T, what string, err error, errno syscall.Errno) {
	t.Helper()
	if errno == 0 && err == nil {
		return
	}
	if !errors.Is(err, errno) || errno == 0 {
		t.Errorf("%s: %v, want %v", what, err, errno)
	}
}

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("stat %s: %v", path, err)
	}
	return st
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func everyone(t *testing.T) *mounted {
	t.Helper()
	return mount(t, setup{Options: fs.Options{AllowOther: true, MountOptions: []string{"suid", "dev"}}})
}

func TestModesAreAsAsked(t *testing.T) {
	m := everyone(t)
	defer syscall.Umask(syscall.Umask(0))
	for _, mode := range []uint32{0, 0777, 01755, 0123} {
		dir := filepath.Join(m.dir, "dir")
		want(t, "mkdir", unix.Mkdir(dir, mode), 0)
		if got := stat(t, dir).Mode & 07777; got != mode {
			t.Errorf("mkdir %o: mode %o", mode, got)
		}
		want(t, "rmdir", unix.Rmdir(dir), 0)
	}
	syscall.Umask(027)
	want(t, "mkdir", unix.Mkdir(filepath.Join(m.dir, "masked"), 0777), 0)
	if got := stat(t, filepath.Join(m.dir, "masked")).Mode & 07777; got != 0750 {
		t.Errorf("umask 027: mode %o", got)
	}
}

func TestSetgidIsInherited(t *testing.T) {
	m := everyone(t)
	parent := filepath.Join(m.dir, "parent")
	want(t, "mkdir", unix.Mkdir(parent, 0777), 0)
	want(t, "chown", unix.Chown(parent, -1, 4711), 0)
	want(t, "chmod", unix.Chmod(parent, 02777), 0)
	want(t, "mkdir", unix.Mkdir(filepath.Join(parent, "dir"), 0755), 0)
	write(t, filepath.Join(parent, "file"), "")
	want(t, "mknod", unix.Mkfifo(filepath.Join(parent, "fifo"), 0644), 0)
	want(t, "symlink", unix.Symlink("x", filepath.Join(parent, "link")), 0)
	for name, mode := range map[string]uint32{"dir": 02755, "file": 0644, "fifo": 0644, "link": 0777} {
		st := stat(t, filepath.Join(parent, name))
		if st.Gid != 4711 || st.Mode&07777 != mode {
			t.Errorf("%s: gid %d mode %o, want 4711 and %o", name, st.Gid, st.Mode&07777, mode)
		}
	}
}

func TestTimes(t *testing.T) {
	m := everyone(t)
	path := filepath.Join(m.dir, "f")
	write(t, path, "x")
	first := []unix.Timespec{{Sec: 1, Nsec: 123456789}, {Sec: 1 << 33, Nsec: 999999999}}
	want(t, "utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, path, first, 0), 0)
	st := stat(t, path)
	if st.Atim != first[0] || st.Mtim != first[1] {
		t.Errorf("times %v %v, want %v", st.Atim, st.Mtim, first)
	}
	before := time.Now().Add(-time.Second).Unix()
	omit := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_NOW}}
	want(t, "utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, path, omit, 0), 0)
	st = stat(t, path)
	if st.Atim != first[0] || st.Mtim.Sec < before {
		t.Errorf("after omit and now: %v %v", st.Atim, st.Mtim)
	}
	negative := []unix.Timespec{{Sec: -2, Nsec: 5}, {Sec: -1}}
	want(t, "utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, path, negative, 0), 0)
	if st = stat(t, path); st.Atim != negative[0] || st.Mtim != negative[1] {
		t.Errorf("times before 1970: %v %v", st.Atim, st.Mtim)
	}
	for _, change := range []struct {
		name string
		do   func() error
	}{
		{"chmod", func() error { return unix.Chmod(path, 0600) }},
		{"setxattr", func() error { return unix.Setxattr(path, "user.a", []byte("b"), 0) }},
		{"link", func() error { return unix.Link(path, path+"2") }},
		{"rename", func() error { return unix.Rename(path+"2", path+"3") }},
		{"unlink", func() error { return unix.Unlink(path + "3") }},
		{"truncate", func() error { return unix.Truncate(path, 5) }},
	} {
		was, dir := stat(t, path), stat(t, m.dir)
		want(t, change.name, change.do(), 0)
		if !after(stat(t, path).Ctim, was.Ctim) {
			t.Errorf("%s did not change ctime", change.name)
		}
		named := strings.Contains("link rename unlink", change.name)
		if is := stat(t, m.dir); after(is.Mtim, dir.Mtim) != named || after(is.Ctim, dir.Ctim) != named {
			t.Errorf("%s: times of the directory were %v and are %v", change.name, dir.Mtim, is.Mtim)
		}
	}
	var sx unix.Statx_t
	want(t, "statx", unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BTIME, &sx), 0)
	if sx.Mask&unix.STATX_BTIME == 0 || sx.Btime.Sec < before {
		t.Errorf("birth %v, mask %x", sx.Btime, sx.Mask)
	}
}

func after(a, b unix.Timespec) bool { return a.Nano() > b.Nano() }

func TestMappedWriteChangesTimeAndSurvives(t *testing.T) {
	m := everyone(t)
	path := filepath.Join(m.dir, "f")
	write(t, path, strings.Repeat("a", 8192))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	page, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	old := []unix.Timespec{{Sec: 5}, {Sec: 5}}
	want(t, "utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, path, old, 0), 0)
	was := stat(t, path)
	page[5000] = 'b'
	want(t, "msync", unix.Msync(page, unix.MS_SYNC), 0)
	if st := stat(t, path); st.Mtim.Sec == 5 || !after(st.Ctim, was.Ctim) {
		t.Errorf("mtime %v, ctime %v then %v", st.Mtim, was.Ctim, st.Ctim)
	}
	page[0] = 'c'
	want(t, "munmap", unix.Munmap(page), 0)
	want(t, "close", f.Close(), 0)
	if text := read(t, path); text[0] != 'c' || text[5000] != 'b' || len(text) != 8192 {
		t.Error("mapped write was lost")
	}
}

func TestNames(t *testing.T) {
	m := everyone(t)
	at := func(name string) string { return filepath.Join(m.dir, name) }
	write(t, at("a"), "a")
	write(t, at("b"), "b")
	rename := func(from, to string, flags uint) error {
		return unix.Renameat2(unix.AT_FDCWD, at(from), unix.AT_FDCWD, at(to), flags)
	}
	want(t, "noreplace over a name", rename("a", "b", unix.RENAME_NOREPLACE), unix.EEXIST)
	want(t, "exchange", rename("a", "b", unix.RENAME_EXCHANGE), 0)
	if read(t, at("a")) != "b" || read(t, at("b")) != "a" {
		t.Error("exchange did not exchange")
	}
	want(t, "exchange with nothing", rename("a", "none", unix.RENAME_EXCHANGE), unix.ENOENT)
	want(t, "whiteout", rename("a", "c", unix.RENAME_WHITEOUT), 0)
	if st := stat(t, at("a")); st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("whiteout left mode %o rdev %d", st.Mode, st.Rdev)
	}
	want(t, "rename over", rename("c", "b", 0), 0)
	if read(t, at("b")) != "b" {
		t.Error("rename over a file did not replace it")
	}
	want(t, "long name", unix.Mkdir(at(strings.Repeat("x", 255)), 0755), 0)
	want(t, "too long a name", unix.Mkdir(at(strings.Repeat("x", 256)), 0755), unix.ENAMETOOLONG)
	target := strings.Repeat("t/", 2047) + "t"
	want(t, "symlink of 4095 bytes", unix.Symlink(target, at("link")), 0)
	if got, err := os.Readlink(at("link")); err != nil || got != target {
		t.Errorf("readlink: %d bytes, %v", len(got), err)
	}
	want(t, "create exclusively", mustNot(os.OpenFile(at("b"), os.O_CREATE|os.O_EXCL, 0600)), unix.EEXIST)
	want(t, "rmdir of a full directory", os.MkdirAll(at("d/e"), 0755), 0)
	want(t, "rmdir of a full directory", unix.Rmdir(at("d")), unix.ENOTEMPTY)
	if n := stat(t, at("d")).Nlink; n != 3 {
		t.Errorf("directory with one directory has %d links", n)
	}
}

func mustNot(f *os.File, err error) error {
	if err == nil {
		f.Close()
	}
	return err
}

func TestNodesOfEveryKind(t *testing.T) {
	m := everyone(t)
	for name, kind := range map[string]uint32{"fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK, "char": unix.S_IFCHR, "block": unix.S_IFBLK, "file": unix.S_IFREG} {
		path := filepath.Join(m.dir, name)
		dev := 0
		if kind == unix.S_IFCHR || kind == unix.S_IFBLK {
			dev = int(unix.Mkdev(0x123, 0x45678))
		}
		want(t, name, unix.Mknod(path, kind|0640, dev), 0)
		st := stat(t, path)
		if st.Mode != kind|0640 || st.Rdev != uint64(dev) {
			t.Errorf("%s: mode %o rdev %x, want %o %x", name, st.Mode, st.Rdev, kind|0640, dev)
		}
		var sx unix.Statx_t
		want(t, "statx", unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_ALL, &sx), 0)
		if unix.Mkdev(sx.Rdev_major, sx.Rdev_minor) != uint64(dev) {
			t.Errorf("%s: statx rdev %d:%d", name, sx.Rdev_major, sx.Rdev_minor)
		}
	}
}

func TestUnlinkedButOpen(t *testing.T) {
	m := everyone(t)
	path := filepath.Join(m.dir, "f")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want(t, "unlink", unix.Unlink(path), 0)
	if _, err := f.WriteString("still here"); err != nil {
		t.Error(err)
	}
	want(t, "fchmod", f.Chmod(0640), 0)
	want(t, "ftruncate", f.Truncate(5), 0)
	var st unix.Stat_t
	want(t, "fstat", unix.Fstat(int(f.Fd()), &st), 0)
	if st.Nlink != 0 || st.Size != 5 || st.Mode&07777 != 0640 {
		t.Errorf("nlink %d size %d mode %o", st.Nlink, st.Size, st.Mode&07777)
	}
	dir, over := filepath.Join(m.dir, "d"), filepath.Join(m.dir, "e")
	want(t, "mkdir", unix.Mkdir(dir, 0755), 0)
	want(t, "mkdir", unix.Mkdir(over, 0755), 0)
	fd, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	want(t, "rename over an open directory", unix.Rename(over, dir), 0)
	want(t, "fstat of a directory renamed over", unix.Fstat(fd, &st), 0)
	if st.Nlink != 0 {
		t.Errorf("directory renamed over has %d links", st.Nlink)
	}
	want(t, "create in a removed directory", mustNot(openat(fd, "x")), unix.ENOENT)
}

func openat(dir int, name string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_RDWR, 0600)
	return os.NewFile(uintptr(max(fd, 0)), name), err
}

func TestSparse(t *testing.T) {
	m := everyone(t)
	f, err := os.Create(filepath.Join(m.dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	want(t, "truncate to a tebibyte", f.Truncate(1<<40), 0)
	if _, err := f.WriteAt([]byte("data"), 1<<30); err != nil {
		t.Fatal(err)
	}
	if at, err := unix.Seek(fd, 0, unix.SEEK_DATA); at != 1<<30 || err != nil {
		t.Errorf("data at %d, %v", at, err)
	}
	if at, err := unix.Seek(fd, 1<<30, unix.SEEK_HOLE); at != 1<<30+4096 || err != nil {
		t.Errorf("hole at %d, %v", at, err)
	}
	_, err = unix.Seek(fd, 1<<30+4096, unix.SEEK_DATA)
	want(t, "no more data", err, unix.ENXIO)
	if st := stat(t, f.Name()); st.Blocks != 8 {
		t.Errorf("%d blocks", st.Blocks)
	}
	want(t, "truncate", f.Truncate(0), 0)
	want(t, "fallocate", unix.Fallocate(fd, 0, 0, 8192), 0)
	f.WriteAt(bytes.Repeat([]byte("x"), 8192), 0)
	want(t, "punch", unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 10, 5000), 0)
	text := read(t, f.Name())
	if text != strings.Repeat("x", 10)+strings.Repeat("\x00", 5000)+strings.Repeat("x", 8192-5010) {
		t.Error("punched file is wrong")
	}
	want(t, "zero", unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 0, 9000), 0)
	if text := read(t, f.Name()); text != strings.Repeat("\x00", 9000) {
		t.Error("zeroed file is wrong")
	}
	to, err := os.Create(filepath.Join(m.dir, "g"))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if n, err := unix.CopyFileRange(fd, new(int64), int(to.Fd()), nil, 9000, 0); n != 9000 || err != nil {
		t.Errorf("copy_file_range: %d, %v", n, err)
	}
	var sf unix.Statfs_t
	want(t, "statfs", unix.Statfs(m.dir, &sf), 0)
	if sf.Blocks*uint64(sf.Bsize) != 1<<40 || sf.Namelen != 255 {
		t.Errorf("statfs %+v", sf)
	}
}

func TestSyncReachesTheDrive(t *testing.T) {
	m := everyone(t)
	f, err := os.Create(filepath.Join(m.dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := os.Open(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, fd := range []int{int(f.Fd()), int(d.Fd())} {
		before := m.ask(order{Op: "state"}).Synced
		want(t, "fsync", unix.Fsync(fd), 0)
		want(t, "fdatasync", unix.Fdatasync(fd), 0)
		if got := m.ask(order{Op: "state"}).Synced - before; got != 2 {
			t.Errorf("%d of 2 syncs arrived", got)
		}
	}
}

func TestXattrs(t *testing.T) {
	m := everyone(t)
	path := filepath.Join(m.dir, "f")
	write(t, path, "")
	want(t, "set", unix.Setxattr(path, "user.a", []byte("1"), unix.XATTR_CREATE), 0)
	want(t, "create twice", unix.Setxattr(path, "user.a", []byte("1"), unix.XATTR_CREATE), unix.EEXIST)
	want(t, "replace nothing", unix.Setxattr(path, "user.b", []byte("1"), unix.XATTR_REPLACE), unix.ENODATA)
	want(t, "empty value", unix.Setxattr(path, "user.empty", nil, 0), 0)
	_, err := unix.Getxattr(path, "user.a", nil)
	want(t, "size", err, 0)
	big := bytes.Repeat([]byte("v"), 65536)
	want(t, "64 KiB", unix.Setxattr(path, "user.big", big, 0), 0)
	buf := make([]byte, 65536)
	if n, err := unix.Getxattr(path, "user.big", buf); n != len(big) || err != nil || !bytes.Equal(buf, big) {
		t.Errorf("big value: %d bytes, %v", n, err)
	}
	_, err = unix.Getxattr(path, "user.big", buf[:5])
	want(t, "small buffer", err, unix.ERANGE)
	acl := []byte("\x02\x00\x00\x00" + // acl(5): version 2, then tag, permissions and id of owner, group and others
		"\x01\x00\x06\x00\xff\xff\xff\xff\x04\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff")
	want(t, "acl", unix.Setxattr(path, "system.posix_acl_access", acl, 0), unix.EOPNOTSUPP)
	want(t, "capability", unix.Setxattr(path, "security.capability", append([]byte{0, 0, 0, 2}, make([]byte, 16)...), 0), unix.EOPNOTSUPP)
	want(t, "remove", unix.Removexattr(path, "user.a"), 0)
	want(t, "remove twice", unix.Removexattr(path, "user.a"), unix.ENODATA)
	n, err := unix.Listxattr(path, buf)
	if got := string(buf[:max(n, 0)]); err != nil || got != "user.big\x00user.empty\x00" {
		t.Errorf("list %q, %v", got, err)
	}
}

func TestInodesEnd(t *testing.T) {
	m := everyone(t)
	for range 100 {
		path := filepath.Join(m.dir, "f")
		write(t, path, "text")
		want(t, "unlink", unix.Unlink(path), 0)
	}
	deadline := time.Now().Add(10 * time.Second)
	for m.ask(order{Op: "state"}).Inodes > 1 {
		if time.Now().After(deadline) {
			t.Fatalf("%d inodes are left", m.ask(order{Op: "state"}).Inodes)
		}
	}
}
