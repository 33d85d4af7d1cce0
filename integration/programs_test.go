package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestPrograms runs the programs people use on one mount, a folder each, then compares what a second node sees, then
// checks both stores.
func TestPrograms(t *testing.T) {
	for _, c := range []string{"git", "make", "gcc", "sqlite3", "rsync", "tar", "python3", "flock", "vim.tiny", "unzip", "zip", "dpkg-deb", "ar"} {
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
		{"compiler", `
			for i in $(seq 32); do echo "int f$i(int n) { return n + $i; }" > f$i.c; done
			{ seq -f 'int f%.0f(int);' 32; echo 'int main(void) { return '; seq -f 'f%.0f(0) +' 32; echo '-528; }'; } > main.c
			printf 'prog: main.o lib.a\n\tgcc -o $@ main.o lib.a\nlib.a: $(patsubst %%.c,%%.o,$(wildcard f*.c))\n\tar rcs $@ $^\n%%.o: %%.c\n\tgcc -save-temps=obj -c -o $@ $<\n' > Makefile
			make -j8 >/dev/null && ./prog && make -q && touch f7.c && ! make -q && make -j8 >/dev/null && ./prog && test $(ar t lib.a | wc -l) = 32`},
		{"vim", `
			for how in yes no auto; do
			  echo one > $how && chmod 640 $how && ln $how $how.hard && ln -s $how $how.soft && echo one > plain.$how && chmod 640 plain.$how
			  for file in $how.soft plain.$how; do
			    vim.tiny -es -u NONE -c "set backup backupdir=. backupskip= writebackup backupcopy=$how" -c '%s/one/two/' -c 'wq' $file </dev/null
			    grep -qx two $file && grep -qx one $file~ && test "$(stat -L -c %a $file)" = 640
			  done
			done
			test -L yes.soft && grep -qx two yes.hard && test ! -L no.soft && grep -qx one no.hard && test -L auto.soft && grep -qx two auto.hard`},
		{"emacs", `
			echo one > file; ln -s 'a@host.1:2' '.#file'; cp -p file 'file~'; echo two > '#file#'; echo two > file.new; mv file.new file; rm '.#file' '#file#'
			grep -qx two file && grep -qx one 'file~'
			echo one > moved; ln -s 'a@host.1:2' '.#moved'; mv moved 'moved~'; echo two > moved; chmod --reference='moved~' moved; sync moved; rm '.#moved'
			grep -qx two moved && grep -qx one 'moved~'`},
		{"office", `
			python3 - <<'PY'
import fcntl, os
def save(name, text, fallback):
    lock = os.open('.~lock.%s#' % name, os.O_CREAT | os.O_EXCL | os.O_WRONLY); os.write(lock, b',anna,desktop,01.01.2026 10:00,file:///;'); os.close(lock)
    doc = os.open(name, os.O_RDWR); fcntl.lockf(doc, fcntl.LOCK_EX | fcntl.LOCK_NB)
    temp = os.open('lu4711x.tmp', os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600); os.write(temp, text); os.fsync(temp); os.fchmod(temp, 0o644); os.close(temp)
    if fallback: # into the file that others may have open
        os.ftruncate(doc, 0); os.pwrite(doc, open('lu4711x.tmp', 'rb').read(), 0); os.fsync(doc); os.remove('lu4711x.tmp')
    else:
        os.link(name, name + '.bak'); os.rename('lu4711x.tmp', name); os.remove(name + '.bak')
    os.close(doc); os.remove('.~lock.%s#' % name)
    assert open(name, 'rb').read() == text
for name in ('doc.odt', 'table.ods'):
    open(name, 'w').write('old')
    for i in range(20):
        save(name, b'new %d\n' % i * (i * 3000 + 1), i % 2)
PY
			echo old > letter.docx; echo new > '~WRD0000.tmp'; mv letter.docx '~WRL0001.tmp'; mv '~WRD0000.tmp' letter.docx; rm '~WRL0001.tmp'; grep -qx new letter.docx
			echo old > note.txt; echo new > .goutputstream-AB12CD; sync .goutputstream-AB12CD; ln note.txt note.txt~; mv .goutputstream-AB12CD note.txt; grep -qx new note.txt && grep -qx old note.txt~
			test "$(ls -A)" = "$(printf 'doc.odt\nletter.docx\nnote.txt\nnote.txt~\ntable.ods')"`},
		{"sqlite", `
			for mode in wal delete; do
			  sqlite3 $mode.db "PRAGMA journal_mode=$mode; PRAGMA mmap_size=1048576; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);" >/dev/null
			  for i in 1 2 3 4 5; do sqlite3 $mode.db "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200) INSERT INTO t(b) SELECT hex(randomblob(100)) FROM n;"; done
			  test "$(sqlite3 $mode.db 'PRAGMA integrity_check; SELECT count(*) FROM t;')" = "$(printf 'ok\n1000')"
			done`},
		{"sqlite killed", `
			for mode in wal delete; do
			  sqlite3 $mode.db "PRAGMA journal_mode=$mode; CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB);" >/dev/null
			  for round in 1 2 3; do
			    python3 - $mode.db <<'PY' &
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None); db.execute('PRAGMA mmap_size=4194304'); db.execute('PRAGMA synchronous=FULL')
while True:
    n = db.execute('SELECT count(*) FROM t').fetchone()[0]
    db.execute('BEGIN IMMEDIATE'); db.executemany('INSERT INTO t(b) VALUES (randomblob(3000))', [()] * 20); db.execute('DELETE FROM t WHERE a % 7 = ?', (n % 7,)); db.execute('COMMIT')
    print(n, file=open(sys.argv[1] + '.commits', 'a'))
PY
			    before=$(cat $mode.db.commits 2>/dev/null | wc -l)
			    until test $(cat $mode.db.commits 2>/dev/null | wc -l) -gt $((before + round * 3)); do sleep 0.02; done
			    kill -9 $! ; wait $! || true
			    test "$(sqlite3 $mode.db 'PRAGMA integrity_check')" = ok
			  done
			  rm $mode.db.commits
			done`},
		{"deb", `
			mkdir -p p/DEBIAN p/usr/share/doc/thing p/etc && seq 20000 > p/usr/share/doc/thing/list && ln -s list p/usr/share/doc/thing/link && ln p/usr/share/doc/thing/list p/etc/hard && : > p/etc/empty && chmod 2755 p/etc
			printf 'Package: thing\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b>\nDescription: a thing\n' > p/DEBIAN/control
			dpkg-deb --root-owner-group -b p thing.deb >/dev/null && dpkg-deb -x thing.deb out && dpkg-deb -e thing.deb out/DEBIAN && diff -r --no-dereference p out
			test "$(stat -c %h out/etc/hard)" = 2 && test -L out/usr/share/doc/thing/link && test "$(dpkg-deb -f thing.deb Version)" = 1`},
		{"coreutils", `
			seq 50000 > a && cp --sparse=always a b && cmp a b && cp -a --reflink=auto a c && install -m 600 a d && test "$(stat -c %a d)" = 600 && sed -i s/7/seven/ d && ! cmp -s a d
			dd if=a of=c bs=1000 seek=3 count=5 conv=notrunc,fsync status=none && split -n 7 a part. && cat part.* | cmp - a && sort -R a | sort -n -o e && cmp a e
			ln -sfn a l && ln -sfn b l && test "$(readlink l)" = b && mv -n a b && cmp a e && cp --backup=numbered a b && test -e b.~1~ && truncate -s 3000000 b && truncate -s 100 b && cmp -n 100 a b
			mkdir -p x/y/z && touch x/y/z/f && mv x/y w && rmdir x && find w -delete && test ! -e w && shred -u part.aa && test ! -e part.aa && tail -n 3 a | tac | paste -sd' ' | grep -qx '50000 49999 49998'`},
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
d = mailbox.Maildir('dir'); keys = [d.add('From: a\n\nbody %d\n' % i) for i in range(50)]
for k in keys[:25]:
    d.discard(k)
assert len(mailbox.Maildir('dir')) == 25
with open('map', 'wb+') as f:
    f.truncate(300000); mm = mmap.mmap(f.fileno(), 300000); mm[123456:123460] = b'here'; mm.flush(); mm.close()
assert open('map', 'rb').read()[123456:123460] == b'here'
PY`},
		{"flock", `
			echo 0 > n; for i in 1 2 3 4; do (for j in $(seq 25); do flock lock sh -c 'v=$(cat n); echo $((v+1)) > n'; done) & done; wait; test "$(cat n)" = 100`},
		{"locks", `
			python3 - <<'PY'
import fcntl, os, struct
OFD_SETLK = 37
f = open('file', 'wb+'); f.write(bytes(100)); f.flush()
def refused(take): # in another process
    pid = os.fork()
    if pid == 0:
        try:
            take(open('file', 'rb+'))
        except BlockingIOError:
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
part = lambda g, off: fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, off)
whole = lambda g: fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)
own = lambda g: fcntl.fcntl(g, OFD_SETLK, struct.pack('hhqqi', fcntl.F_WRLCK, 0, 50, 10, 0))
part(f, 0); assert refused(lambda g: part(g, 5)) and not refused(lambda g: part(g, 20))
whole(f); assert refused(whole)
fcntl.flock(f, fcntl.LOCK_UN); assert not refused(whole)
own(f); assert refused(own) and refused(lambda g: part(g, 55)) and not refused(lambda g: part(g, 70))
PY`},
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
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience) // it reads all there is, after ten minutes of TestLoad some gigabytes
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "check", "--state", n.state, "--passphrase-file", n.passphraseFile)
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Errorf("check: %v\n%s", err, out)
	}
	if used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(); used > patience/3 {
		n.t.Logf("check took %v of processor time", used.Round(time.Second))
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
