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
	"slices"
	"strconv"
	"strings"
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

// Real makes path absolute and resolves its links. A mount of ours it does not touch, if path is where that is: its node may be dead, and it then fails or hangs.
func Real(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	parent, parentErr := filepath.EvalSymlinks(filepath.Dir(abs))
	at := filepath.Join(parent, filepath.Base(abs))
	all, err := List()
	if err == nil && parentErr == nil && slices.ContainsFunc(all, func(m Mount) bool { return m.Dir == at }) {
		return at, nil
	}
	if resolved, err := filepath.EvalSymlinks(abs); err == nil {
		return resolved, nil
	}
	if parentErr != nil {
		return abs, nil
	}
	return at, nil
}
