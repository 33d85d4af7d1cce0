package fs_test

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestLikeAnotherFileSystem does the same random things on the mount and on the file system of the temporary directory: every
// call must end with the same errno, and the two trees must be equal after each.
func TestLikeAnotherFileSystem(t *testing.T) {
	m := mount(t, setup{})
	disk := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		pair := [2]string{filepath.Join(m.dir, fmt.Sprint(run)), filepath.Join(disk, fmt.Sprint(run))}
		for _, dir := range pair {
			if err := os.Mkdir(dir, 0755); err != nil {
				t.Fatal(err)
			}
		}
		steps := rapid.IntRange(1, 40).Draw(t, "steps")
		for range steps {
			name, do := drawOp(t)
			var errs [2]error
			for i, dir := range pair {
				errs[i] = do(dir)
			}
			if errno(errs[0]) != errno(errs[1]) {
				t.Fatalf("%s: %v on the mount, %v on disk", name, errs[0], errs[1])
			}
			if a, b := snapshot(pair[0]), snapshot(pair[1]); a != b {
				t.Fatalf("after %s the mount has\n%s\nand the disk\n%s", name, a, b)
			}
		}
	})
}

func errno(err error) unix.Errno {
	var e unix.Errno
	errors.As(err, &e)
	return e
}

// drawOp draws something to do below a directory.
func drawOp(t *rapid.T) (string, func(dir string) error) {
	path := rapid.SampledFrom([]string{"a", "b", "c", "a/a", "a/b", "b/a", "b/c/a", "c/b"})
	p, q := path.Draw(t, "p"), path.Draw(t, "q")
	at := rapid.Int64Range(0, 20000).Draw(t, "at")
	mode := rapid.SampledFrom([]uint32{0, 0644, 0755, 04711, 02755, 01777}).Draw(t, "mode")
	text := strings.Repeat(rapid.SampledFrom([]string{"x", "yz"}).Draw(t, "text"), rapid.IntRange(0, 5000).Draw(t, "times"))
	flags := rapid.SampledFrom([]uint{0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}).Draw(t, "flags")
	in := func(dir, p string) string { return filepath.Join(dir, p) }
	withFile := func(dir string, flags int, do func(fd int) error) error {
		fd, err := unix.Open(in(dir, p), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0644)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return do(fd)
	}
	ops := map[string]func(dir string) error{
		"create": func(d string) error {
			return withFile(d, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, func(int) error { return nil })
		},
		"mkdir":   func(d string) error { return unix.Mkdir(in(d, p), mode|0700) },
		"fifo":    func(d string) error { return unix.Mkfifo(in(d, p), mode) },
		"symlink": func(d string) error { return unix.Symlink(q, in(d, p)) },
		"link":    func(d string) error { return unix.Link(in(d, p), in(d, q)) },
		"unlink":  func(d string) error { return unix.Unlink(in(d, p)) },
		"rmdir":   func(d string) error { return unix.Rmdir(in(d, p)) },
		"rename": func(d string) error {
			return unix.Renameat2(unix.AT_FDCWD, in(d, p), unix.AT_FDCWD, in(d, q), flags)
		},
		"chmod":    func(d string) error { return unix.Chmod(in(d, p), mode|0700) },
		"truncate": func(d string) error { return unix.Truncate(in(d, p), at) },
		"write": func(d string) error {
			return withFile(d, unix.O_CREAT|unix.O_RDWR, func(fd int) error { _, err := unix.Pwrite(fd, []byte(text), at); return err })
		},
		"append": func(d string) error {
			return withFile(d, unix.O_WRONLY|unix.O_APPEND, func(fd int) error { _, err := unix.Write(fd, []byte(text)); return err })
		},
		"rewrite": func(d string) error {
			return withFile(d, unix.O_WRONLY|unix.O_TRUNC, func(fd int) error { _, err := unix.Write(fd, []byte(text)); return err })
		},
		"punch": func(d string) error {
			return withFile(d, unix.O_RDWR, func(fd int) error {
				return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, int64(len(text))+1)
			})
		},
	}
	names := []string{"create", "mkdir", "mkdir", "fifo", "symlink", "link", "unlink", "rmdir", "rename", "rename", "chmod", "truncate", "write", "write", "append", "rewrite", "punch"}
	name := rapid.SampledFrom(names).Draw(t, "op")
	return fmt.Sprintf("%s %s %s (%d, %o, %d bytes, flags %d)", name, p, q, at, mode, len(text), flags), ops[name]
}

// snapshot describes a tree: type, mode, links, size and content of everything.
func snapshot(dir string) string {
	var b strings.Builder
	filepath.WalkDir(dir, func(path string, e iofs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		size := st.Size
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			size = 0 // of directories each file system says something else
		}
		fmt.Fprintf(&b, "%s %o %d links %d bytes %v", strings.TrimPrefix(path, dir), st.Mode, st.Nlink, size, err)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			text, err := os.ReadFile(path)
			fmt.Fprintf(&b, " %x %v", text, err)
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			fmt.Fprintf(&b, " %s %v", target, err)
		}
		b.WriteByte('\n')
		return nil
	})
	return b.String()
}
