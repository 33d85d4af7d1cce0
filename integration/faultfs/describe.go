package faultfs

import (
	"fmt"
	"strings"
)

// String says what is done.
func (k Kind) String() string {
	names := []string{Create: "create", Link: "link", Unlink: "unlink", Rename: "rename", Write: "write", Truncate: "truncate", Punch: "punch", Sync: "sync", SyncDir: "sync names of", Drop: "fail to sync", Read: "read"}
	if int(k) < len(names) && names[k] != "" {
		return names[k]
	}
	return fmt.Sprint("kind ", uint8(k))
}

// Describe lists the last operations of the first n, count of them at most, a line each, for who looks for the cause of a failure.
func (l *Log) Describe(n, count int) string {
	paths := map[uint64]string{Root: ""}
	var walk func(dir uint64)
	walk = func(dir uint64) {
		for name, ino := range l.Base.Inodes[dir].Names {
			paths[ino] = paths[dir] + "/" + name
			if in := l.Base.Inodes[ino]; in != nil && in.isDir() {
				walk(ino)
			}
		}
	}
	walk(Root)
	var b strings.Builder
	for i := range l.Ops[:n] {
		op := &l.Ops[i]
		text := ""
		switch op.Kind {
		case Create, Link:
			paths[op.Ino] = paths[op.Dir] + "/" + op.Name
			text = paths[op.Ino]
		case Unlink:
			text = paths[op.Dir] + "/" + op.Name
		case Rename:
			text = paths[op.Dir] + "/" + op.Name + " to " + paths[op.ToDir] + "/" + op.ToName
			paths[op.Ino] = paths[op.ToDir] + "/" + op.ToName
		case Write:
			text = fmt.Sprintf("%s at %d, %d bytes", paths[op.Ino], op.Off, len(op.Data))
		case Truncate:
			text = fmt.Sprintf("%s to %d", paths[op.Ino], op.Off)
		case Punch:
			text = fmt.Sprintf("%s at %d, %d bytes", paths[op.Ino], op.Off, op.Size)
		default:
			text = paths[op.Ino]
		}
		if i >= n-count {
			fmt.Fprintf(&b, "%6d %s %s\n", i, op.Kind, text)
		}
	}
	return b.String()
}
