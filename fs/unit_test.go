package fs

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// TestEveryErrorHasANumber reads package drive: each Err it exports must be in the table.
func TestEveryErrorHasANumber(t *testing.T) {
	files, err := filepath.Glob("../drive/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	known := map[string]bool{}
	for _, e := range errnos {
		known[e.err.Error()] = true
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Err") {
				return true
			}
			if call, ok := spec.Values[0].(*ast.CallExpr); ok && len(call.Args) == 1 {
				if text, ok := call.Args[0].(*ast.BasicLit); ok && !known[strings.Trim(text.Value, `"`)] {
					t.Errorf("%s has no errno", spec.Names[0].Name)
				}
			}
			return true
		})
	}
}

func TestErrno(t *testing.T) {
	for err, want := range map[error]syscall.Errno{
		fmt.Errorf("mkdir: %w", drive.ErrNotAuthorised):             syscall.EROFS,
		fmt.Errorf("read: %w", context.Canceled):                    syscall.EINTR,
		fmt.Errorf("journal: %w", syscall.ENOSPC):                   syscall.ENOSPC,
		fmt.Errorf("view: %w", syscall.ENOENT):                      syscall.EIO, // of a file of ours: not the person's
		errors.New("strange"):                                       syscall.EIO,
		errors.Join(errors.New("x"), drive.ErrNoXattr):              syscall.ENODATA,
		fmt.Errorf("read: %w", context.DeadlineExceeded):            syscall.EIO,
		fmt.Errorf("approve laptop: %w", ErrAnswered):               syscall.EALREADY,
		fmt.Errorf("open: %w", fmt.Errorf("x: %w", drive.ErrIsDir)): syscall.EISDIR,
	} {
		if got := errnoOf(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
	var log strings.Builder
	tr := &tree{log: slog.New(slog.NewTextHandler(&log, nil))}
	if tr.errno(nil, "read", nil) != 0 || tr.errno(drive.ErrNotExist, "lookup", nil) != syscall.ENOENT || log.Len() != 0 {
		t.Error("what is not EIO was logged or asked for its path")
	}
	tr.errno(drive.ErrUnavailable, "read", func() string { return "docs/a.txt" })
	if !strings.Contains(log.String(), "docs/a.txt") {
		t.Errorf("log %q does not name the file", log.String())
	}
}

func TestOnlyATouchIsMeant(t *testing.T) {
	const touch = fuse.FATTR_ATIME | fuse.FATTR_ATIME_NOW | fuse.FATTR_MTIME | fuse.FATTR_MTIME_NOW
	rapid.Check(t, func(t *rapid.T) {
		valid := rapid.Uint32Range(0, 1<<12-1).Draw(t, "valid")
		only := valid&^(fuse.FATTR_FH|fuse.FATTR_LOCKOWNER) == touch
		if meant(valid) != only {
			t.Fatalf("meant(%x) = %v", valid, !only)
		}
	})
	if !meant(touch) || !meant(touch|fuse.FATTR_FH) || meant(touch|fuse.FATTR_SIZE) {
		t.Error("touch is not meant, or more than touch is")
	}
}

func TestInodeNumbers(t *testing.T) {
	if inoOf(record.Root) != rootIno || stable(record.Root, record.Dir).Ino != rootIno {
		t.Error("root is not 1")
	}
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (id record.ID) {
			copy(id[:], rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(t, name))
			return id
		}
		a, b := draw("a"), draw("b")
		if a != record.Root && (inoOf(a) <= rootIno || inoOf(a) >= controlBit) {
			t.Fatalf("inode number %x", inoOf(a))
		}
		if a != b && a[7] > 3 && b[7] > 3 && stable(a, record.File) == stable(b, record.File) {
			t.Fatalf("%v and %v are the same to go-fuse", a, b)
		}
	})
	if a := controlStable(".hypha/status", textMode); a.Ino&controlBit == 0 || a.Mode != syscall.S_IFREG {
		t.Errorf("control file %+v", a)
	}
}

func TestParseMountinfo(t *testing.T) {
	text := "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n" +
		"not a mount\n" +
		`40 22 0:45 / /home/anna/my\040files rw,nosuid,nodev - fuse.hyphafs hyphafs\072anna rw,user_id=0` + "\n" +
		"41 22 0:46 / /x rw master:1 propagate_from:2 - tmpfs tmpfs rw\n" +
		"42 22 x:46 / /y rw - tmpfs tmpfs rw\n"
	want := []mountpoint{
		{"/", "ext4", "/dev/vda", unix.Mkdev(254, 0)},
		{"/home/anna/my files", "fuse.hyphafs", "hyphafs:anna", unix.Mkdev(0, 45)},
		{"/x", "tmpfs", "tmpfs", unix.Mkdev(0, 46)},
	}
	if got := parseMountinfo(text); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if _, ok := mountOf("/proc"); !ok {
		t.Error("/proc is not mounted")
	}
}

func FuzzParseMountinfo(f *testing.F) {
	if text, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		f.Add(string(text))
	}
	f.Add(`1 2 3:4 / /a\04 x - y z` + "\n" + `1 2 3:4 - - - - - \999`)
	f.Fuzz(func(t *testing.T, text string) {
		if n := len(parseMountinfo(text)); n > strings.Count(text, "\n")+1 {
			t.Fatalf("%d mounts", n)
		}
	})
}

func TestOptions(t *testing.T) {
	o := Options{MountOptions: []string{"rw", "suid", "allow_other", "fsname=x", "noatime", "users", ""}}
	extra, flags, err := o.parse()
	if err != nil || flags != syscall.MS_NODEV|syscall.MS_NOATIME || !o.AllowOther || o.FsName != "x" || o.ReadOnly {
		t.Errorf("%v %x %+v %v", extra, flags, o, err)
	}
	if o = (Options{ReadOnly: true}); true {
		if _, flags, _ := o.parse(); flags&syscall.MS_RDONLY == 0 || len(o.MountOptions) != 0 {
			t.Errorf("read-only mount has flags %x", flags)
		}
	}
	o = Options{MountOptions: []string{"fd=7"}}
	if _, _, err := o.parse(); !errors.Is(err, ErrOption) {
		t.Errorf("fd=7: %v", err)
	}
}

// kernel notes what it is told.
type kernel struct {
	told   []string
	status fuse.Status
	inodes fuse.Status // what it answers about inodes
}

func (k *kernel) DeleteNotify(parent, child uint64, name string) fuse.Status {
	k.told = append(k.told, fmt.Sprintf("delete %d %d %s", parent, child, name))
	return k.status
}

func (k *kernel) EntryNotify(parent uint64, name string) fuse.Status {
	k.told = append(k.told, fmt.Sprintf("entry %d %s", parent, name))
	return fuse.OK
}

func (k *kernel) InodeNotify(node uint64, off, length int64) fuse.Status {
	k.told = append(k.told, fmt.Sprintf("inode %d %d", node, off))
	return k.inodes
}

func (k *kernel) PruneNotify(nodes []uint64) fuse.Status {
	k.told = append(k.told, fmt.Sprintf("prune %d from %d on", len(nodes), nodes[0]))
	return k.status
}

func queue(k *kernel) *invalidations {
	q := newInvalidations(slog.New(slog.DiscardHandler))
	q.kernel = k
	return q
}

func TestInvalidations(t *testing.T) {
	id := func(b byte) record.ID { return record.ID{7: b} }
	for _, c := range []struct {
		name   string
		change drive.Change
		status fuse.Status
		want   []string
	}{
		{"content", drive.Change{ID: id(5)}, 0, []string{"inode 5 -1"}},
		{"root", drive.Change{}, 0, []string{"inode 1 -1"}},
		{"same inode again", drive.Change{Dir: id(4), Name: "a", ID: id(5), Was: id(5)}, 0, []string{"inode 5 -1"}},
		{"new name", drive.Change{Name: "a", ID: id(5)}, 0, []string{"entry 1 a", "inode 1 0"}},
		{"other inode", drive.Change{Dir: id(4), Name: "a", ID: id(5), Was: id(6)}, 0, []string{"entry 4 a", "inode 4 0", "inode 6 -1"}},
		{"removed", drive.Change{Dir: id(4), Name: "a", Was: id(6)}, 0, []string{"delete 4 6 a", "inode 4 0", "inode 6 -1"}},
		{"removed, full", drive.Change{Dir: id(4), Name: "a", Was: id(6)}, fuse.Status(syscall.ENOTEMPTY), []string{"delete 4 6 a", "entry 4 a", "inode 4 0", "inode 6 -1"}},
		{"removed, unknown", drive.Change{Dir: id(4), Name: "a"}, 0, []string{"entry 4 a", "inode 4 0"}},
	} {
		k := &kernel{status: c.status}
		queue(k).pass(c.change)
		if !slices.Equal(k.told, c.want) {
			t.Errorf("%s: %q, want %q", c.name, k.told, c.want)
		}
	}
}

// TestKnown: beyond a bound a listing names no more inodes, beyond another the oldest are given back, and what the kernel gave up counts no more.
func TestKnown(t *testing.T) {
	var k known
	next := uint64(2)
	name := func(n int) (pruned []uint64) {
		for range n {
			pruned = append(pruned, k.named(next)...)
			next++
		}
		return pruned
	}
	if name(mostListed - 1); k.full() {
		t.Error("full below the bound")
	}
	if name(1); !k.full() {
		t.Error("not full at the bound")
	}
	if pruned := name(mostKnown - mostListed); len(pruned) != 0 {
		t.Errorf("%d inodes are to be given up within the bound", len(pruned))
	}
	pruned := name(1)
	if len(pruned) != pruneBatch || pruned[0] != 2 || pruned[pruneBatch-1] != pruneBatch+1 {
		t.Errorf("%d inodes are to be given up, not the oldest %d", len(pruned), pruneBatch)
	}
	if pruned := name(pruneBatch); len(pruned) != 0 {
		t.Errorf("%d more before the kernel gave any up", len(pruned))
	}
	if pruned := name(1); len(pruned) != pruneBatch || pruned[0] != pruneBatch+2 {
		t.Errorf("%d more when it gives none up", len(pruned))
	}
	k.forgotten(mostKnown)
	if k.full() {
		t.Error("full although the kernel gave nearly all up")
	}
	for range 10 * mostKnown {
		if name(1); len(k.order) > 2*mostKnown {
			t.Fatalf("%d numbers are kept", len(k.order))
		}
		k.forgotten(1)
	}
}

func TestPruning(t *testing.T) {
	k := &kernel{}
	q := queue(k)
	q.prune(make([]uint64, pruneAtOnce+1))
	q.add([]drive.Change{{ID: record.ID{7: 5}}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		q.run()
	}()
	if err := q.settled(t.Context()); err != nil {
		t.Fatal(err)
	}
	q.stop()
	<-done
	if want := []string{"inode 5 -1", "prune 256 from 0 on", "prune 1 from 0 on"}; !slices.Equal(k.told, want) {
		t.Errorf("%q, want %q", k.told, want)
	}
}

// TestUnknownInodesAreToldTwice: an answer with the attributes of before may be on its way to the kernel when it is told of an inode that it does not know yet.
func TestUnknownInodesAreToldTwice(t *testing.T) {
	for name, c := range map[string]struct {
		status fuse.Status
		want   []string
	}{
		"unknown": {fuse.ENOENT, []string{"inode 5 -1", "inode 5 -1"}},
		"known":   {fuse.OK, []string{"inode 5 -1"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &kernel{inodes: c.status}
				q := queue(k)
				go q.run()
				q.add([]drive.Change{{ID: record.ID{7: 5}}})
				time.Sleep(10 * onTheWay) // of the test's own clock
				q.stop()
				synctest.Wait()
				if !slices.Equal(k.told, c.want) {
					t.Errorf("%q, want %q", k.told, c.want)
				}
			})
		})
	}
}

func TestInvalidationsKeepTheOrder(t *testing.T) {
	k := &kernel{}
	q := queue(k)
	done := make(chan struct{})
	go func() {
		defer close(done)
		q.run()
	}()
	var want []string
	for i := range 100 {
		q.add([]drive.Change{{ID: record.ID{7: byte(i + 2)}}})
		want = append(want, fmt.Sprintf("inode %d -1", i+2))
	}
	if err := q.settled(t.Context()); err != nil || !slices.Equal(k.told, want) {
		t.Errorf("%v, %q", err, k.told)
	}
	q.stop()
	<-done
	q.add([]drive.Change{{}})
	if err := q.settled(t.Context()); err != nil {
		t.Error(err)
	}
	q = queue(k)
	q.add([]drive.Change{{}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.settled(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("settled of a queue nobody runs: %v", err)
	}
}

func TestHeadNames(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("x", 3600))
	mk := func(node string, seq uint64, when time.Time) drive.Conflict {
		return drive.Conflict{Path: "a", Node: node, Time: when, Version: record.Version{Feed: hypercore.Key{1}, Seq: seq}}
	}
	list := []drive.Conflict{mk("n", 9, at), mk("n", 3, at), mk("m", 1, at.Add(time.Hour)), {Path: "a/b", Node: "n"}, mk("bad/name", 1, at)}
	rapid.Check(t, func(t *rapid.T) {
		got := heads(rapid.Permutation(list).Draw(t, "order"), "a")
		var names []string
		for _, h := range got {
			names = append(names, fmt.Sprint(h.name, " ", h.conflict.Version.Seq))
		}
		if want := []string{"m-20260102T030405Z 1", "n-20260102T020405Z 3", "n-20260102T020405Z-2 9"}; !slices.Equal(names, want) {
			t.Fatalf("%q", names)
		}
	})
}

// TestPagesGoWhenNobodyWaits: the kernel is asked to drop pages only while no request for bytes is being answered and somebody has the file open; an open drops what is owed, and
// a change is owed until one of both surely happened.
func TestPagesGoWhenNobodyWaits(t *testing.T) {
	k := &kernel{}
	q := queue(k)
	n := &node{tree: &tree{queue: q}, id: record.ID{7: 5}}
	const keep, past, fresh = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH, fuse.FOPEN_DIRECT_IO | fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH, fuse.FOPEN_NOFLUSH
	open := func(what string, write bool, want uint32) (freshAfter uint64) {
		t.Helper()
		q.pages.opening(n)
		flags, freshAfter := q.pages.openFlags(n, write)
		if flags != want {
			t.Errorf("open %s: flags %x, want %x", what, flags, want)
		}
		return freshAfter
	}
	change := func() {
		q.pages.changed(5)
		q.bytes(5)
	}
	told := func(what string, want ...string) {
		t.Helper()
		for _, ino := range q.drops {
			q.bytes(ino)
		}
		if q.drops = nil; !slices.Equal(k.told, want) {
			t.Errorf("%s: told %q, want %q", what, k.told, want)
		}
		k.told = nil
	}
	change()
	told("of a file that nobody opened", "inode 5 -1")
	open("for the first time", false, keep)
	change()
	told("while it is open", "inode 5 0")
	n.begin(0)
	change()
	told("while somebody waits", "inode 5 -1")
	n.begin(0)
	open("while two wait", false, past)
	q.pages.release(n, 0)
	first := open("for writing while two wait", true, fresh)
	q.pages.release(n, 0)
	n.end()
	told("while one goes on waiting")
	n.end()
	told("when nobody waits any more", "inode 5 0")
	open("after that", false, keep)
	q.pages.release(n, 0)
	q.pages.release(n, 0)
	change()
	told("of a closed file", "inode 5 -1")
	second := open("after that", false, fresh)
	third := open("before anything came through it", false, fresh)
	n.begin(second)
	n.end()
	told("when nothing is owed")
	open("when it dropped the pages", false, keep)
	q.pages.release(n, third)
	if first >= second || second != third {
		t.Errorf("pages are fresh after %d, %d, %d changes", first, second, third)
	}
	q.pages.release(n, second)
	change()
	told("when one has it open", "inode 5 0")
	q.pages.release(n, 0)
	change()
	told("of a closed file again", "inode 5 -1")
	open("when it changed since", false, fresh)
	q.pages.release(n, 0)
	if q.pages.forget(n); len(q.pages.files) != 0 {
		t.Error("a file that the kernel gave up is kept in mind")
	}
}
