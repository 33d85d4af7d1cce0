// Package mounts finds the mounts of hyphafs in the kernel's table. A node's mount names its state directory as its source
// and fuse.hyphafs as its type, so that the way from a folder to its node needs nobody's answer, not even that of a node that
// died: asking a dead or busy mount itself could fail or hang. It reads /proc/self/mountinfo (proc(5)) and
// touches no mount.
package mounts

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Type is the file system type of our mounts.
const Type = "fuse.hyphafs"

// Mount is one mount of hyphafs.
type Mount struct {
	Dir   string // where it is mounted, absolute
	State string // its source: the state directory of its node
}

// List returns the mounts of hyphafs that this process sees, in the order they were made.
func List() ([]Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	found, err := parse(f)
	return found, errors.Join(err, f.Close())
}

// parse reads a mountinfo table: id parent major:minor root DIR options [tags...] - type SOURCE options.
func parse(r io.Reader) ([]Mount, error) {
	var found []Mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		a, b := strings.Fields(left), strings.Fields(right)
		if !ok || len(a) < 5 || len(b) < 2 || b[0] != Type {
			continue
		}
		found = append(found, Mount{Dir: unescape(a[4]), State: unescape(b[1])})
	}
	return found, lines.Err()
}

// unescape undoes the \ooo of the kernel's table.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// Find returns the mount of list that path lies in; the innermost and latest wins.
func Find(list []Mount, path string) (Mount, bool) {
	var best Mount
	found := false
	for _, m := range list {
		if (path == m.Dir || strings.HasPrefix(path, strings.TrimSuffix(m.Dir, "/")+"/")) && len(m.Dir) >= len(best.Dir) {
			best, found = m, true
		}
	}
	return best, found
}

// Real makes path absolute and resolves its links as far as that is possible without an answer of the last element, which may be
// a mount whose node died.
func Real(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if resolved, err := filepath.EvalSymlinks(abs); err == nil {
		return resolved, nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return abs, nil
	}
	return filepath.Join(parent, filepath.Base(abs)), nil
}

// Dead reports whether dir is a mount whose node died without unmounting it. It asks for the size of the file system: attributes of
// the folder itself the kernel may still know.
func Dead(dir string) bool {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED)
}
