package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	kib = 1 << 10
	mib = 1 << 20

	coldReads  = 4096 // random reads and writes of 4 KiB in the big file
	warmReads  = 65536
	writes     = 8192
	syncWrites = 2048
	appends    = 500
	inserts    = 300
)

// groups are the workloads of the table, in its order.
func groups(c settings) []group {
	size, files := float64(c.size)/mib, float64(c.files)
	than := func(against string, times float64) target { return target{against: against, times: times} }
	programs := []target{than(gocryptfs, 1.5), than(ext4, 0.7)}
	ofExt4 := func(times float64) []target { return []target{than(ext4, times)} }
	loop := []target{than(loopback, 1)}
	fsyncs := []target{than(gocryptfs, 1.2)}
	fileRow := func(name string, targets []target) row { return row{name, "files/s", files, targets} }
	tree := step{before: emptied, do: makeTree, needed: true, fresh: true}
	return []group{
		{"big", []step{
			{row: row{"sequential write + fsync", "MiB/s", size, []target{{passthrough, 0.9, asRoot}, {gocryptfs, 2, asOrdinary}}},
				before: removeBig, do: writeBig, needed: true, writes: true},
			{row: row{"sequential read, cold", "MiB/s", size, []target{than(loopback, 1), than(gocryptfs, 2)}}, cold: true, do: readBig},
			{row: row{"sequential read, warm", "MiB/s", size, ofExt4(0.95)}, before: readBig, do: readBig},
			{row: row{"mmap read, warm", "MiB/s", size, ofExt4(0.95)}, before: readBig, do: mapBig},
			{row: row{"random 4-KiB read, cold", "1/s", coldReads, loop}, cold: true, do: func(t *turn) error { return t.readRandom(coldReads) }},
			{row: row{"random 4-KiB read, warm", "1/s", warmReads, loop}, before: readBig, do: func(t *turn) error { return t.readRandom(warmReads) }},
			{row: row{"random 4-KiB write", "1/s", writes, []target{than(gocryptfs, 1.5)}}, p99: row{"random 4-KiB write, p99", "ms", 0, []target{than(juicefs, 10)}},
				before: readBig, do: func(t *turn) error { return t.writeRandom(writes, 0) }, writes: true},
			{row: row{"random 4-KiB write, fdatasync every 32", "1/s", syncWrites, []target{than(gocryptfs, 1.5)}},
				p99:    row{"random 4-KiB write, fdatasync every 32, p99", "ms", 0, []target{than(juicefs, 10)}},
				before: readBig, do: func(t *turn) error { return t.writeRandom(syncWrites, 32) }, writes: true},
		}},
		{"small", []step{
			{row: fileRow("create files of 4 KiB, fsync folders", []target{than(loopback, 2), than(juicefs, 10)}), before: emptied, do: makeTree, needed: true, writes: true},
			{row: fileRow("stat, cold", ofExt4(1)), cold: true, do: statTree},
			{row: fileRow("stat, warm", ofExt4(0.7)), before: statTree, do: statTree},
			{row: fileRow("readdir, cold", ofExt4(1)), cold: true, do: listTree},
			{row: fileRow("readdir, warm", ofExt4(0.7)), before: listTree, do: listTree},
			{row: fileRow("ls -lR, cold", ofExt4(1)), cold: true, do: program("ls", "-lR")},
			{row: fileRow("ls -lR, warm", ofExt4(0.7)), before: program("ls", "-lR"), do: program("ls", "-lR")},
			{row: fileRow("read small files, cold", ofExt4(1)), cold: true, do: readTree},
			{row: fileRow("read small files, warm", []target{than(loopback, 2)}), before: readTree, do: readTree},
			{row: fileRow("grep -r, cold", programs), cold: true, do: grep},
			{row: fileRow("grep -r, warm", programs), before: grep, do: grep},
		}},
		{"unlink", []step{tree, {row: fileRow("unlink", programs), before: published, do: unlinkTree, writes: true}}},
		{"rm", []step{tree, {row: fileRow("rm -rf", programs), before: published, do: program("rm", "-rf", "tree"), writes: true}}},
		{"rsync", []step{{row: fileRow("rsync -a", programs), before: emptiedWithSource, do: func(t *turn) error {
			return commandIn(t.ctx, t.dir, "rsync", "-a", t.source("tree")+"/", "tree")
		}, writes: true}}},
		{"untar", []step{{row: fileRow("untar", programs), before: emptiedWithSource, do: func(t *turn) error {
			return commandIn(t.ctx, t.dir, "tar", "xf", t.source("tree.tar"))
		}, writes: true}}},
		{"git", []step{
			{row: fileRow("git clone", programs), before: emptiedWithSource, do: func(t *turn) error {
				return commandIn(t.ctx, t.dir, "git", "clone", "-q", "file://"+t.source("repository"), "clone")
			}, needed: true, writes: true},
			{row: fileRow("git status", programs), before: status, do: status},
		}},
		{"append", []step{{row: row{"append 4 KiB + fsync", "1/s", appends, fsyncs}, before: emptied, do: appendBlocks, writes: true}}},
		{"sqlite", []step{
			{row: row{"SQLite inserts, WAL", "1/s", inserts, fsyncs}, before: emptied, do: sqlite("wal"), writes: true},
			{row: row{"SQLite inserts, DELETE", "1/s", inserts, fsyncs}, before: emptied, do: sqlite("delete"), writes: true},
		}},
	}
}

func (t *turn) big() string { return filepath.Join(t.dir, "big") }

func removeBig(t *turn) error { return errors.Join(os.RemoveAll(t.big()), t.sys.publish(t.ctx)) }

// emptied empties the group's folder and lets what follows from that settle.
func emptied(t *turn) error {
	return errors.Join(os.RemoveAll(t.dir), os.Mkdir(t.dir, 0o755), t.sys.publish(t.ctx))
}

func published(t *turn) error { return t.sys.publish(t.ctx) }

// writeBig writes the big file in calls of 1 MiB; no two blocks are equal.
func writeBig(t *turn) error {
	buf := make([]byte, mib)
	rng := rand.NewChaCha8([32]byte{byte(t.round)})
	rng.Read(buf)
	return withFile(t.big(), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, func(fd int) error {
		for at := int64(0); at < t.size; at += mib {
			for page := 0; page < mib; page += 4 * kib { // much faster than new random bytes
				copy(buf[page:], fmt.Sprintf("%16x%16x", at, page))
			}
			if err := writeAll(fd, buf); err != nil {
				return err
			}
		}
		return unix.Fsync(fd)
	})
}

func readBig(t *turn) error {
	buf := make([]byte, mib)
	return withFile(t.big(), unix.O_RDONLY, func(fd int) error {
		for at := int64(0); ; {
			n, err := unix.Read(fd, buf)
			if err != nil {
				return err
			}
			if n == 0 {
				return whole(at, t.size)
			}
			at += int64(n)
		}
	})
}

// mapBig copies the whole file out of a mapping.
func mapBig(t *turn) error {
	buf := make([]byte, mib)
	return withFile(t.big(), unix.O_RDONLY, func(fd int) error {
		data, err := unix.Mmap(fd, 0, int(t.size), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		for at := 0; at < len(data); at += len(buf) {
			copy(buf, data[at:])
		}
		return unix.Munmap(data)
	})
}

func (t *turn) readRandom(n int) error {
	buf := make([]byte, 4*kib)
	rng := rand.New(rand.NewPCG(uint64(t.round), uint64(n)))
	return withFile(t.big(), unix.O_RDONLY, func(fd int) error {
		for range n {
			got, err := unix.Pread(fd, buf, t.anywhere(rng))
			if err := errors.Join(err, whole(int64(got), 4*kib)); err != nil {
				return err
			}
		}
		return nil
	})
}

// writeRandom writes n times 4 KiB, with fdatasync after each syncEvery of them (0: never).
func (t *turn) writeRandom(n, syncEvery int) error {
	buf := make([]byte, 4*kib)
	rng := rand.New(rand.NewPCG(uint64(t.round), uint64(n)))
	t.latencies = make([]time.Duration, 0, n)
	return withFile(t.big(), unix.O_WRONLY, func(fd int) error {
		for i := range n {
			copy(buf, fmt.Sprintf("%16x%16x", rng.Uint64(), i))
			start := time.Now()
			got, err := unix.Pwrite(fd, buf, t.anywhere(rng))
			t.latencies = append(t.latencies, time.Since(start))
			if err == nil && syncEvery > 0 && i%syncEvery == syncEvery-1 {
				err = unix.Fdatasync(fd)
			}
			if err := errors.Join(err, whole(int64(got), 4*kib)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *turn) anywhere(rng *rand.Rand) int64 { return rng.Int64N(t.size/(4*kib)) * 4 * kib }

// folder and file name the tree of small files: folders of 100.
func folder(top string, i int) string { return fmt.Sprintf("%s/folder %04d", top, i/100) }
func file(top string, i int) string   { return fmt.Sprintf("%s/file %06d", folder(top, i), i) }

func (t *turn) tree() string { return filepath.Join(t.dir, "tree") }

func makeTree(t *turn) error { return makeTreeAt(t.tree(), t.files, 4*kib) }

// makeTreeAt makes files of size bytes of text, then makes their names durable.
func makeTreeAt(top string, files, size int) error {
	text := []byte(strings.Repeat("all that is gold does not glitter, not all those who wander are lost\n", size/64+1)[:size])
	if err := os.Mkdir(top, 0o755); err != nil {
		return err
	}
	for i := range files {
		if i%100 == 0 {
			if err := unix.Mkdir(folder(top, i), 0o755); err != nil {
				return err
			}
		}
		copy(text, fmt.Sprintf("%8d", i))
		if err := withFile(file(top, i), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, func(fd int) error { return writeAll(fd, text) }); err != nil {
			return err
		}
	}
	for i := 0; i < files; i += 100 {
		if err := withFile(folder(top, i), unix.O_RDONLY, unix.Fsync); err != nil {
			return err
		}
	}
	return withFile(top, unix.O_RDONLY, unix.Fsync)
}

func (t *turn) eachFile(do func(path string) error) error {
	for i := range t.files {
		if err := do(file(t.tree(), i)); err != nil {
			return err
		}
	}
	return nil
}

func statTree(t *turn) error {
	var st unix.Stat_t
	return t.eachFile(func(path string) error { return unix.Lstat(path, &st) })
}

func unlinkTree(t *turn) error { return t.eachFile(unix.Unlink) }

func readTree(t *turn) error {
	buf := make([]byte, 8*kib)
	return t.eachFile(func(path string) error {
		return withFile(path, unix.O_RDONLY, func(fd int) error {
			n, err := unix.Read(fd, buf)
			return errors.Join(err, whole(int64(n), 4*kib))
		})
	})
}

func listTree(t *turn) error {
	seen := int64(0)
	for i := 0; i < t.files; i += 100 {
		entries, err := os.ReadDir(folder(t.tree(), i))
		if err != nil {
			return err
		}
		seen += int64(len(entries))
	}
	return whole(seen, int64(t.files))
}

// program runs a program in the group's folder.
func program(name string, args ...string) func(*turn) error {
	return func(t *turn) error { return commandIn(t.ctx, t.dir, name, args...) }
}

// grep reads every file: the word is nowhere, which is exit 1.
func grep(t *turn) error { return findNothing(t.ctx, t.tree()) }

func findNothing(ctx context.Context, dir string) error {
	err := command(ctx, "grep", "-r", "mithril", dir)
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil
	}
	return errors.Join(err, errors.New("grep found what is not there"))
}

func status(t *turn) error {
	return commandIn(t.ctx, filepath.Join(t.dir, "clone"), "git", "status", "--porcelain")
}

func appendBlocks(t *turn) error {
	buf := make([]byte, 4*kib)
	return withFile(filepath.Join(t.dir, "log"), unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND, func(fd int) error {
		for range appends {
			if err := errors.Join(writeAll(fd, buf), unix.Fsync(fd)); err != nil {
				return err
			}
		}
		return nil
	})
}

// sqlite inserts rows, each in a transaction of its own that is durable when it returns.
func sqlite(journal string) func(*turn) error {
	script := "PRAGMA journal_mode=" + journal + "; PRAGMA synchronous=FULL; CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB);\n" +
		strings.Repeat("INSERT INTO t(b) VALUES (randomblob(200));\n", inserts)
	return func(t *turn) error {
		return commandIn(t.ctx, t.dir, "sqlite3", "-bail", journal+".db", script)
	}
}

// source is a file or folder on the disk below that programs copy from: tree, tree.tar or repository.
func (b *bench) source(name string) string { return filepath.Join(b.base, "source", name) }

// emptiedWithSource is emptied, with the sources in memory.
func emptiedWithSource(t *turn) error {
	return errors.Join(t.makeSources(), findNothing(t.ctx, t.source("")), emptied(t))
}

// makeSources makes them, once.
func (b *bench) makeSources() error {
	dir := b.source("")
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := errors.Join(os.Mkdir(dir, 0o755), makeTreeAt(b.source("tree"), b.files, 4*kib)); err != nil {
		return err
	}
	return command(b.ctx, "sh", "-ec", `cd "$1"
		tar cf tree.tar tree
		git init -q -b main repository && cd repository && cp -r ../tree .
		git config user.name compare && git config user.email compare@example.org
		git add . && git commit -q -m "a tree"`, "sh", dir)
}

// withFile opens path by a bare system call (package os would poll it), and closes it.
func withFile(path string, flags int, do func(fd int) error) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	return errors.Join(do(fd), unix.Close(fd))
}

func writeAll(fd int, data []byte) error {
	n, err := unix.Write(fd, data)
	return errors.Join(err, whole(int64(n), int64(len(data))))
}

// whole makes a short read or write an error.
func whole(got, want int64) error {
	if got != want {
		return fmt.Errorf("%d instead of %d: %w", got, want, io.ErrUnexpectedEOF)
	}
	return nil
}
