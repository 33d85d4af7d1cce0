package fs

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// FuzzOptions: the words of -o are understood or ErrOption, and none reaches the kernel that could redirect the mount.
func FuzzOptions(f *testing.F) {
	f.Add("rw,suid,allow_other,fsname=x,noatime,users,")
	f.Add("fd=7,context=a:b,x-y")
	f.Fuzz(func(t *testing.T, words string) {
		o := Options{MountOptions: strings.Split(words, ",")}
		extra, _, err := o.parse()
		if err != nil {
			if !errors.Is(err, ErrOption) {
				t.Fatal(err)
			}
			return
		}
		for _, word := range extra {
			name, _, _ := strings.Cut(word, "=")
			if slices.Contains([]string{"fd", "rootmode", "user_id", "group_id", "allow_other", "blkdev"}, name) {
				t.Fatalf("%q became %q", words, extra)
			}
		}
	})
}

// FuzzIntent: whatever is written in whatever pieces to an approve file, it acts once if the whole of what was written is the word, and not at all
// otherwise.
func FuzzIntent(f *testing.F) {
	f.Add("approve", "", "\n", int64(0), int64(0), int64(7))
	f.Add("app", "rove", "", int64(4), int64(7), int64(0))
	f.Add("approve\n", "x", "", int64(0), int64(8), int64(0))
	f.Fuzz(func(t *testing.T, a, b, c string, atA, atB, atC int64) {
		acts := 0
		node := &intentNode{controlBase: controlBase{spot: spot{tree: &tree{log: slog.New(slog.DiscardHandler)}}}, word: "approve", help: "what it will do",
			act: func(context.Context) error { acts++; return nil }}
		h := &intentHandle{node: node}
		content, next, base := "", int64(0), int64(0)
		inOrder := true
		for i, w := range []struct {
			data string
			at   int64
		}{{a, atA}, {b, atB}, {c, atC}} {
			if len(w.data) == 0 && i > 0 {
				continue // the kernel sends no empty writes
			}
			if content == "" && w.at == int64(len(node.help)) {
				base, next = w.at, w.at
			}
			inOrder = inOrder && w.at == next
			content, next = content+w.data, w.at+int64(len(w.data))
			if n, errno := h.Write(t.Context(), []byte(w.data), w.at); int(n) != len(w.data) || errno != 0 {
				t.Fatalf("%d %v", n, errno)
			}
		}
		for range 2 {
			if errno := h.Flush(t.Context()); errno != 0 {
				t.Fatal(errno)
			}
		}
		want := 0
		if inOrder && strings.TrimSuffix(content, "\n") == "approve" {
			want = 1
		}
		if acts != want {
			t.Fatalf("%q from %d on, in order: %v: acted %d times", content, base, inOrder, acts)
		}
	})
}

// conflicted is a drive of which only the conflicts are asked.
type conflicted struct {
	Drive
	all []drive.Conflict
}

func (c conflicted) Conflicts(context.Context) ([]drive.Conflict, error) { return c.all, nil }

// FuzzConflicts: whatever files the kept heads are of and whatever the nodes call themselves, every directory of conflicts holds each name once, fit to be a name, and what is
// listed can be listed itself.
func FuzzConflicts(f *testing.F) {
	f.Add("/notes/a.txt", "laptop-01234567", "/notes/a.txt", "laptop-01234567", uint16(0))
	f.Add("a/keep", "..", "a", "x/y", uint16(1))
	f.Fuzz(func(t *testing.T, path1, node1, path2, node2 string, later uint16) {
		at := time.Unix(1_700_000_000, 0)
		for _, p := range []*string{&path1, &path2} { // as the drive makes them
			*p = strings.Join(slices.DeleteFunc(strings.Split(*p, "/"), func(name string) bool { return !fileName(name) }), "/")
			if *p == "" {
				return
			}
		}
		one, two := record.NodeDir(node1, hypercore.Key{1}), record.NodeDir(node2, hypercore.Key{2})
		all := []drive.Conflict{
			{Path: path1, Node: one, Time: at, Version: record.Version{Feed: hypercore.Key{1}}},
			{Path: path2, Node: two, Time: at.Add(time.Duration(later) * time.Second), Version: record.Version{Feed: hypercore.Key{2}}},
			{Path: path2, Node: two, Time: at.Add(time.Duration(later) * time.Second), Version: record.Version{Feed: hypercore.Key{2}, Seq: 1}},
		}
		tr := &tree{drive: conflicted{all: all}}
		var walk func(path string, depth int)
		walk = func(path string, depth int) {
			items, err := tr.conflictsBelow(t.Context(), path)
			if err != nil {
				t.Fatalf("%q is listed: %v", path, err)
			}
			seen := map[string]bool{}
			for _, it := range items {
				if seen[it.name] || !fileName(it.name) {
					t.Fatalf("%q in %q, again: %v", it.name, path, seen[it.name])
				}
				seen[it.name] = true
				if it.mode == dirMode && depth < 20 {
					walk(strings.Trim(path+"/"+it.name, "/"), depth+1)
				}
			}
		}
		walk("", 0)
	})
}
