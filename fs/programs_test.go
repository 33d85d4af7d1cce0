package fs_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestPrograms runs programs that lean on what a file system promises. Each script ends with 0 if the promise was kept.
func TestPrograms(t *testing.T) {
	m := mount(t, setup{})
	for _, c := range []struct{ needs, script string }{
		{"tar", `mkdir a; cp -a /etc/default a/; ln -s default a/l; mkfifo a/p; ln a/default/* a/ 2>/dev/null || true; tar -cf t.tar a; mkdir b; tar -C b -xf t.tar; diff -r --no-dereference a/default b/a/default; test -p b/a/p; tar -df t.tar`},
		{"rsync", `mkdir s; cp -a /etc/default s/; truncate -s 1M s/sparse; echo x | dd of=s/sparse bs=1 seek=700000 conv=notrunc status=none; setfattr -n user.a -v b s/sparse 2>/dev/null || true; rsync -aHXS s/ d/; test -z "$(rsync -aHXSn --itemize-changes --checksum s/ d/)"; rsync -a --delete --inplace s/ d/`},
		{"git", `git init -q r; cd r; git config user.name a; git config user.email a@b; for i in $(seq 50); do echo $i > f$i; done; git add -A; git commit -qm one; git mv f1 g1; git commit -qam two; git gc -q; git clone -q . ../c; cd ../c; git fsck --strict; test "$(git log --oneline | wc -l)" = 2; git status --porcelain | wc -l | grep -qx 0`},
		{"sqlite3", `for mode in wal delete truncate persist; do sqlite3 $mode.db "pragma journal_mode=$mode; create table t(a); begin; insert into t select value from generate_series(1,1000); commit;" > /dev/null 2>&1 || sqlite3 $mode.db "pragma journal_mode=$mode; create table t(a); with recursive n(a) as (select 1 union all select a+1 from n where a<1000) insert into t select a from n;" > /dev/null; test "$(sqlite3 $mode.db 'pragma integrity_check; select count(*) from t')" = "$(printf 'ok\n1000')"; done`},
		{"vim.tiny", `echo one > f; ln f g; vim.tiny -es -u NONE -c 's/one/two/' -c wq f </dev/null; grep -q two f`},
		{"make", `printf 'out: in\n\tcp in out; echo ran >> log\n' > Makefile; echo 1 > in; make -s; make -s; touch -d '+1 min' in; make -s; test "$(wc -l < log)" = 2`},
		{"flock", `for i in 1 2 3 4; do (for j in $(seq 25); do flock n sh -c 'echo $(( $(cat n 2>/dev/null || echo 0) + 1 )) > n.new && cat n.new > n'; done) & done; wait; test "$(cat n)" = 100`},
		{"sed", `echo a > f; sed -i s/a/b/ f; test "$(cat f)" = b; (for i in $(seq 300); do echo $i >> log & done; wait); test "$(sort -u log | wc -l)" = 300`},
		{"cc", `printf 'int main(void){return 0;}' > m.c; cc -o m m.c; ./m; cp m n; ./n; strip n; ./n`},
	} {
		t.Run(c.needs, func(t *testing.T) {
			if _, err := exec.LookPath(c.needs); err != nil {
				missing(t, err.Error())
			}
			if out, err := sh(m.dir, "set -e; mkdir "+c.needs+"; cd "+c.needs+"; "+c.script); err != nil {
				t.Errorf("%v: %s", err, strings.TrimSpace(out))
			}
		})
	}
}
