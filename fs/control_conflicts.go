package fs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hyphafs.org/hyphafs/drive"
)

// headTime is how the time of a kept head is written in its name: UTC, to the second, fit for a file name.
const headTime = "20060102T150405Z"

// head is a kept head under the name it has in its directory.
type head struct {
	name     string
	conflict drive.Conflict
}

// conflictItems are the names in conflicts itself.
func (t *tree) conflictItems(ctx context.Context) ([]item, error) { return t.conflictsBelow(ctx, "") }

// heads returns the kept heads of the file at path, ascending by name. Two of one node and second are told apart by a number, in
// the order of their versions, so that the names do not depend on the order of the list.
func heads(all []drive.Conflict, path string) []head {
	var here []drive.Conflict
	for _, c := range all {
		if strings.Trim(c.Path, "/") == path {
			here = append(here, c)
		}
	}
	slices.SortFunc(here, func(a, b drive.Conflict) int {
		if d := a.Time.Compare(b.Time); d != 0 {
			return d
		}
		if d := strings.Compare(string(a.Version.Feed[:]), string(b.Version.Feed[:])); d != 0 {
			return d
		}
		return int(min(max(int64(a.Version.Seq)-int64(b.Version.Seq), -1), 1))
	})
	var list []head
	seen := map[string]int{}
	for _, c := range here {
		name := c.Node + "-" + c.Time.UTC().Format(headTime)
		if seen[name]++; seen[name] > 1 {
			name = fmt.Sprintf("%s-%d", name, seen[name])
		}
		if fileName(name) {
			list = append(list, head{name, c})
		}
	}
	slices.SortFunc(list, func(a, b head) int { return strings.Compare(a.name, b.name) })
	return list
}

// conflictsBelow lists conflicts/<path>: a directory for each name on the way to a file with kept heads, and the heads of the file
// at path itself, each with its keep and drop.
func (t *tree) conflictsBelow(ctx context.Context, path string) ([]item, error) {
	all, err := t.drive.Conflicts(ctx)
	if err != nil {
		return nil, err
	}
	var items []item
	seen := map[string]bool{}
	for _, c := range all {
		rest := strings.Trim(c.Path, "/")
		if path != "" {
			var below bool
			if rest, below = strings.CutPrefix(rest, path+"/"); !below {
				continue
			}
		}
		name, _, _ := strings.Cut(rest, "/")
		if !fileName(name) || seen[name] {
			continue
		}
		seen[name] = true
		full := strings.Trim(path+"/"+name, "/")
		items = append(items, dirItem(name, func(ctx context.Context) ([]item, error) { return t.conflictsBelow(ctx, full) }))
	}
	if path != "" {
		items = append(items, t.headItems(path, heads(all, path))...)
	}
	if len(items) == 0 && path != "" {
		return nil, drive.ErrNotExist
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	return items, nil
}

const (
	keepHelp = "Makes the file the kept version beside it: content, mode and extended attributes. What the file is now is replaced.\n" +
		"To do so touch this file, or write keep into it.\n"
	dropHelp = "Forgets the kept version beside it. The file stays as it is.\n" +
		"To do so touch this file, or write drop into it.\n"
)

// headNow returns the head of the file at path that has that name now; without a name, the only one. The kernel holds on to what it looked up, so the
// node of a name may be older than the head that has the name.
func (t *tree) headNow(ctx context.Context, path, name string) (drive.Conflict, error) {
	all, err := t.drive.Conflicts(ctx)
	if err != nil {
		return drive.Conflict{}, err
	}
	list := heads(all, path)
	for _, h := range list {
		if h.name == name || name == "" && len(list) == 1 {
			return h.conflict, nil
		}
	}
	return drive.Conflict{}, drive.ErrNotExist
}

// headItems are the kept heads of the file at path and what can be done to them: keep and drop when there is one head, and for
// each of several <head>.keep and <head>.drop.
func (t *tree) headItems(path string, list []head) []item {
	var items []item
	for _, h := range list {
		prefix, chosen := h.name+".", h.name
		if len(list) == 1 {
			prefix, chosen = "", ""
		}
		act := func(do func(context.Context, drive.Conflict) error) func(context.Context) error {
			return func(ctx context.Context) error {
				c, err := t.headNow(ctx, path, chosen)
				if err != nil {
					return err
				}
				if err := do(ctx, c); err != nil {
					return err
				}
				t.queue.add([]drive.Change{{ID: c.ID}})
				return t.queue.settled(ctx)
			}
		}
		items = append(items,
			headItem(h.name, func(ctx context.Context) (drive.Conflict, error) { return t.headNow(ctx, path, h.name) }),
			intentItem(prefix+"keep", "keep", keepHelp, act(t.drive.KeepConflict)),
			intentItem(prefix+"drop", "drop", dropHelp, act(t.drive.DropConflict)),
		)
	}
	return items
}

// headItem is a kept head to read. One that is a deletion has a text that says so.
func headItem(name string, find func(context.Context) (drive.Conflict, error)) item {
	return item{name, secretMode, func(at spot) gofs.InodeEmbedder {
		return &headNode{controlBase: controlBase{spot: at}, find: find}
	}}
}

// headNode is a kept head of a file.
type headNode struct {
	controlBase
	find func(context.Context) (drive.Conflict, error)
}

var (
	_ gofs.NodeGetattrer = (*headNode)(nil)
	_ gofs.NodeSetattrer = (*headNode)(nil)
	_ gofs.NodeOpener    = (*headNode)(nil)
	_ gofs.FileReader    = (*headHandle)(nil)
	_ gofs.FileReleaser  = (*headHandle)(nil)
)

func removedText(c drive.Conflict) []byte {
	return fmt.Appendf(nil, "%s removed this file at %s.\n", c.Node, c.Time.UTC().Format(headTime))
}

// Getattr answers stat(2): size and time are those of the kept head.
func (h *headNode) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	c, err := h.find(ctx)
	if err != nil {
		return h.errno(err, "getattr")
	}
	h.fill(0, &out.Attr)
	out.Size = c.Size
	if c.Removed {
		out.Size = uint64(len(removedText(c)))
	}
	out.SetTimes(&c.Time, &c.Time, &c.Time)
	return 0
}

// Setattr refuses.
func (h *headNode) Setattr(context.Context, gofs.FileHandle, *fuse.SetAttrIn, *fuse.AttrOut) syscall.Errno {
	return syscall.EPERM
}

// Open answers open(2).
func (h *headNode) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	if flags&(syscall.O_ACCMODE|syscall.O_TRUNC) != syscall.O_RDONLY {
		return nil, 0, syscall.EACCES
	}
	c, err := h.find(ctx)
	if err != nil {
		return nil, 0, h.errno(err, "open")
	}
	if c.Removed {
		return textHandle(removedText(c)), fuse.FOPEN_DIRECT_IO, 0
	}
	f, err := h.tree.drive.OpenConflict(ctx, c)
	if err != nil {
		return nil, 0, h.errno(err, "open")
	}
	return &headHandle{node: h, file: f}, 0, 0
}

// headHandle reads a kept head.
type headHandle struct {
	node *headNode
	file File
}

// Read answers read(2) and page faults.
func (h *headHandle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	result, err := answer(ctx, h.file, dest, off)
	return result, h.node.errno(err, "read")
}

// Release follows the last close.
func (h *headHandle) Release(context.Context) syscall.Errno {
	return h.node.errno(h.file.Close(), "close")
}
