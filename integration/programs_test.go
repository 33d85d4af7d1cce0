package integration

import (
	"os"
	"path/filepath"
	"testing"
)

// TestPrograms runs the programs people use on one mount, a folder each, then compares what a second node sees, then
// checks both stores.
func TestPrograms(t *testing.T) {
	for _, c := range []string{"git", "make", "gcc", "sqlite3", "rsync", "tar", "python3", "flock", "vim.tiny", "unzip", "zip"} {
		needCommand(t, c)
	}
	desktop, laptop := pair(t)
	programs := []struct{ name, script string }{
		{"git", `
			git init -q origin && cd origin && git config user.email a@b && git config user.name A
			for i in 1 2 3 4 5 6 7 8; do seq $i 3000 > f$i; git add . ; git commit -qm "commit $i"; done
			cd .. && git clone -q origin copy && cd copy && git gc -q && git fsck --strict --no-dangling && git status --porcelain | wc -l | grep -qx 0
			diff -r --exclude=.git . ../origin`},
		{"make", `
			printf 'all: prog\nOBJS = a.o b.o c.o d.o\nprog: $(OBJS)\n\tgcc -o $@ $(OBJS)\n%%.o: %%.c\n\tgcc -c -o $@ $<\n' > Makefile
			echo 'int b(void); int main(void) { return b(); }' > a.c; echo 'int c(void); int b(void) { return c(); }' > b.c
			echo 'int d(void); int c(void) { return d(); }' > c.c; echo 'int d(void) { return 0; }' > d.c
			make -j4 && ./prog && make | grep -q 'up to date\|Nothing to be done' && touch c.c && make -j4 | grep -q c.o && ./prog`},
		{"vim", `
			echo one > file && chmod 640 file
			vim.tiny -es -u NONE -c 'set backup backupdir=. writebackup' -c '%s/one/two/' -c 'wq' file </dev/null
			grep -qx two file && test "$(stat -c %a file)" = 640`},
		{"emacs", `
			echo one > file; ln -s 'a@host.1:2' '.#file'; cp -p file 'file~'; echo two > '#file#'; echo two > file.new; mv file.new file; rm '.#file' '#file#'
			grep -qx two file && grep -qx one 'file~'`},
		{"office", `
			echo lock > '.~lock.doc.odt#'; echo old > doc.odt; echo new > lu1234.tmp; sync lu1234.tmp; mv lu1234.tmp doc.odt; rm '.~lock.doc.odt#'; grep -qx new doc.odt`},
		{"sqlite", `
			for mode in wal delete; do
			  sqlite3 $mode.db "PRAGMA journal_mode=$mode; PRAGMA mmap_size=1048576; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);" >/dev/null
			  for i in 1 2 3 4 5; do sqlite3 $mode.db "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200) INSERT INTO t(b) SELECT hex(randomblob(100)) FROM n;"; done
			  test "$(sqlite3 $mode.db 'PRAGMA integrity_check; SELECT count(*) FROM t;')" = "$(printf 'ok\n1000')"
			done`},
		{"tar", `
			mkdir tree && cd tree && mkdir -p a/b/c && seq 1000 > a/f && ln a/f a/b/hard && ln -s ../f a/b/soft && mkfifo a/b/c/pipe && chmod 4755 a/f && touch -d '2001-02-03 04:05:06.789' a/b/c && truncate -s 5M a/sparse
			cd .. && tar --format=posix -S -cf x.tar tree && mkdir out && tar xpf x.tar -C out && diff -r --no-dereference tree/a/b/hard out/tree/a/f
			test "$(stat -c '%a %h' out/tree/a/f)" = "4755 2" && test "$(stat -c %y out/tree/a/b/c | cut -c1-23)" = "2001-02-03 04:05:06.789" && test -p out/tree/a/b/c/pipe && test $(stat -c %s out/tree/a/sparse) = 5242880`},
		{"rsync", `
			mkdir src && for i in $(seq 200); do seq $i > src/f$i; done && ln -s f1 src/l && rsync -aH src/ dst/ && rsync -aHn --itemize-changes src/ dst/ | wc -l | grep -qx 0
			seq 5000 > src/f9 && rsync -a --inplace src/ dst/ && cmp src/f9 dst/f9 && rsync -a --delete src/ dst/ && diff -r src dst`},
		{"zip", `mkdir z && seq 1 9999 > z/a && seq 5 > z/b && zip -qr z.zip z && mkdir o && unzip -q z.zip -d o && diff -r z o/z`},
		{"python", `
			python3 - <<'PY'
import tempfile, mailbox, os, mmap
with tempfile.NamedTemporaryFile(dir='.') as f:
    f.write(b'x' * 100000); f.flush(); assert os.path.getsize(f.name) == 100000
with tempfile.TemporaryFile(dir='.') as f:
    f.write(b'abc'); f.seek(0); assert f.read() == b'abc'
m = mailbox.mbox('box'); m.lock()
for i in range(50): m.add('From: a\n\nbody %d\n' % i)
m.flush(); m.unlock(); assert len(mailbox.mbox('box')) == 50
with open('map', 'wb+') as f:
    f.truncate(300000); mm = mmap.mmap(f.fileno(), 300000); mm[123456:123460] = b'here'; mm.flush(); mm.close()
assert open('map', 'rb').read()[123456:123460] == b'here'
PY`},
		{"flock", `
			echo 0 > n; for i in 1 2 3 4; do (for j in $(seq 25); do flock lock sh -c 'v=$(cat n); echo $((v+1)) > n'; done) & done; wait; test "$(cat n)" = 100`},
		{"append", `for i in 1 2 3 4; do (for j in $(seq 100); do echo "line $i $j" >> log; done) & done; wait; test $(wc -l < log) = 400 && test $(sort -u log | wc -l) = 400`},
	}
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			s := &session{t: t, base: filepath.Join(desktop.dir, p.name)}
			if err := os.Mkdir(s.base, 0o755); err != nil {
				t.Fatal(err)
			}
			s.ok("set -e\n" + p.script)
		})
	}
	same(t, desktop, laptop)
	for _, n := range []*node{desktop, laptop} {
		n.stop()
		n.check()
	}
}

// check runs `hyphafs check` on the stopped node.
func (n *node) check() {
	n.t.Helper()
	if out, err := n.run("check", "--state", n.state, "--passphrase-file", n.passphraseFile); err != nil {
		n.t.Errorf("check: %v\n%s", err, out)
	}
}

// same waits until both mounts hold the same tree: names, types, contents, modes, owners, times and hard links.
func same(t *testing.T, a, b *node) {
	t.Helper()
	if out, err := a.run("sync", "--peer", a.dir); err != nil {
		t.Fatalf("sync --peer: %v\n%s", err, out)
	}
	needCommand(t, "rsync")
	s := &session{t: t, base: scratch}
	s.eventuallyOK("rsync -aHn --checksum --delete --itemize-changes " + a.dir + "/ " + b.dir + "/ > rsync.out && cat rsync.out && test ! -s rsync.out")
}
