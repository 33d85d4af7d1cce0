package fs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hyphafs.org/hyphafs/fs"
)

// laptop is a request the tests play with.
const laptop = "laptop-1f2e3d4c"

// sh runs a script in dir as root and returns what it says.
func sh(dir, script string) (string, error) {
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (m *mounted) request(t *testing.T, dir string) string {
	t.Helper()
	m.ask(order{Op: "request", Path: dir})
	path := filepath.Join(m.dir, ".hypha/pending", dir)
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestNobodyApprovesByAccident runs what programs do to files they walk over. None of it may approve or deny.
func TestNobodyApprovesByAccident(t *testing.T) {
	m := mount(t, setup{Options: fs.Options{AllowOther: true, ShowControl: true}})
	m.request(t, laptop)
	write(t, filepath.Join(m.dir, "file"), "text")
	for _, c := range []struct{ needs, script string }{
		{"cp", `cp -a "$M" "$T/copy"; cp -a "$T/copy/." "$M/"`},
		{"cp", `cp -a --no-preserve=timestamps "$T/copy/." "$M/"; cp -r "$T/copy/." "$M"; cp -rf "$T/copy/." "$M"; cp -p "$T/copy/file" "$P/approve"; cp "$T/copy/file" "$P/deny"`},
		{"cp", `echo approve now > "$T/word"; cp "$T/word" "$P/approve"; cp -p "$T/word" "$P/deny"`},
		{"tar", `tar -C "$M" -cf "$T/t.tar" .; tar -C "$M" -xf "$T/t.tar"; tar -C "$M" --overwrite -xf "$T/t.tar"; tar -C "$M" -xmf "$T/t.tar"; tar -C "$M" --overwrite -xmf "$T/t.tar"`},
		{"rsync", `rsync -a "$M/" "$T/r/"; rsync -a --ignore-times "$T/r/" "$M/"; rsync -a --inplace --ignore-times "$T/r/" "$M/"; rsync -r --inplace --ignore-times "$T/r/" "$M/"; rsync -a --delete "$T/empty/" "$P/"; rsync -a --append-verify "$T/r/" "$M/"`},
		{"chmod", `chmod -R u+w,go-w "$M/.hypha"; chown -R 0:0 "$M/.hypha"; chmod 777 "$P/approve"`},
		{"find", `find "$M/.hypha" -type f -exec cat {} + ; find "$M" -newer "$M/file" -exec stat {} + ; grep -r approve "$M/.hypha"; ls -laR "$M"; du -a "$M"`},
		{"touch", `touch -a "$P/approve"; touch -m "$P/deny"; touch -d yesterday "$P/approve"; touch -r "$M/file" "$P/deny"; touch -t 202001010000 "$P/approve"`},
		{"truncate", `truncate -s 0 "$P/approve"; : > "$P/approve"; : >> "$P/deny"; truncate -s 7 "$P/approve"`},
		{"dd", `dd if=/dev/zero of="$P/approve" bs=7 count=1; dd if="$P/approve" of="$P/deny" conv=notrunc`},
		{"bash", `echo yes > "$P/approve"; echo deny > "$P/approve"; echo approve > "$P/deny"; echo approved > "$P/approve"; echo Approve > "$P/approve"; printf 'approve\n\n' > "$P/approve"; printf ' approve' > "$P/approve"; echo approve > "$P/request.json"`},
		{"sed", `sed -i s/a/b/ "$P/approve"; sed s/a/b/ "$P/approve" > "$P/deny"`},
		{"rm", `rm -rf "$M/.hypha"; rmdir "$P"; mv "$P/approve" "$P/deny"; mv "$M/file" "$P/approve"; ln -f "$M/file" "$P/approve"; ln -sf x "$P/approve"; mkdir "$P/x"; install -m 600 "$M/file" "$P/approve"`},
		{"vim", `vim -es -u NONE -c 'normal Ox' -c 'wq!' "$P/approve"; vim -es -u NONE -c wq! "$P/deny"; vim -es -u NONE -c q! "$P/approve"`},
		{"sqlite3", `sqlite3 "$P/approve" 'create table t(a)'`},
		{"git", `cd "$T" && git init -q g && cd g && git --work-tree="$M" add -A && git --work-tree="$M" -c user.name=a -c user.email=a@b commit -qm x && git --work-tree="$M" checkout -f HEAD -- .`},
		{"mmap", `python3 -c 'import mmap,sys
f=open(sys.argv[1],"r+b"); m=mmap.mmap(f.fileno(),0); m[:7]=b"approve"; m.flush()' "$P/approve"`},
	} {
		t.Run(c.needs, func(t *testing.T) {
			tmp := t.TempDir()
			os.Mkdir(filepath.Join(tmp, "empty"), 0755)
			out, _ := sh(tmp, fmt.Sprintf("M=%q T=%q P=%q; cp -a \"$M\" \"$T/copy\"; %s", m.dir, tmp, filepath.Join(m.dir, ".hypha/pending", laptop), c.script))
			a := m.ask(order{Op: "state"})
			if len(a.Approved)+len(a.Denied) != 0 {
				t.Errorf("approved %v, denied %v by\n%s\n%s", a.Approved, a.Denied, c.script, out)
			}
			if _, err := os.Stat(filepath.Join(m.dir, ".hypha/pending", laptop, "approve")); err != nil {
				t.Errorf("request is gone: %v", err)
			}
		})
	}
	out, err := asNobody(t, m.dir, "touch .hypha/pending/"+laptop+"/approve; echo approve > .hypha/pending/"+laptop+"/approve; cat .hypha/link")
	if a := m.ask(order{Op: "state"}); err == nil || len(a.Approved) != 0 {
		t.Errorf("another user approved: %s", out)
	}
}

// TestAPersonApproves does what a person does.
func TestAPersonApproves(t *testing.T) {
	m := mount(t, setup{})
	for name, script := range map[string]string{
		"touch":         `touch "$F"`,
		"touch -c":      `touch -c "$F"`,
		"touch -d now":  `touch -am "$F"`,
		"echo":          `echo "$W" > "$F"`,
		"printf":        `printf %s "$W" > "$F"`,
		"append":        `echo "$W" >> "$F"`,
		"byte by byte":  `printf %s "$W" | dd bs=1 of="$F" status=none`,
		"tee":           `echo "$W" | tee "$F"`,
		"from the root": `touch .hypha/pending/*/"$W"`,
	} {
		for _, word := range []string{"approve", "deny"} {
			dir := requestDir(name, word)
			path := m.request(t, dir)
			if out, err := sh(m.dir, fmt.Sprintf("F=%q W=%s; %s", filepath.Join(path, word), word, script)); err != nil {
				t.Errorf("%s of %s: %v: %s", name, word, err, out)
			}
			a := m.ask(order{Op: "state"})
			if slices.Contains(a.Approved, dir) != (word == "approve") || slices.Contains(a.Denied, dir) != (word == "deny") {
				t.Errorf("%s of %s: approved %v, denied %v", name, word, a.Approved, a.Denied)
			}
			if _, err := os.Stat(path); !os.IsNotExist(err) {
				t.Errorf("%s of %s: directory is still there: %v", name, word, err)
			}
		}
	}
}

func requestDir(name, word string) string {
	return strings.ReplaceAll(name, " ", "-") + "-" + word
}

func TestAnswersAreErrnos(t *testing.T) {
	m := mount(t, setup{ReadOnly: true})
	path := filepath.Join(m.request(t, laptop), "approve")
	touch := func(fd int) error {
		return unix.UtimesNanoAt(fd, "", []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}, unix.AT_EMPTY_PATH)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want(t, "touch on a node that may not write", touch(int(f.Fd())), unix.EROFS)
	word, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	word.WriteString("approve\n")
	want(t, "word on a node that may not write", word.Close(), unix.EROFS)
	m.ask(order{Op: "writable", On: true})
	want(t, "touch", touch(int(f.Fd())), 0)
	want(t, "touch again", touch(int(f.Fd())), unix.EALREADY)
	_, err = os.Stat(path)
	want(t, "stat", err, unix.ENOENT)

	gone := filepath.Join(m.request(t, "phone-00000000"), "deny")
	g, err := os.OpenFile(gone, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	m.ask(order{Op: "withdraw", Path: "phone-00000000"})
	want(t, "touch of a request that is gone", touch(int(g.Fd())), unix.ENOENT)
	_, err = os.ReadDir(filepath.Dir(gone))
	want(t, "directory of a request that is gone", err, unix.ENOENT)
}

func TestControlFiles(t *testing.T) {
	m := mount(t, setup{})
	names, err := os.ReadDir(m.dir)
	if err != nil || len(names) != 0 {
		t.Errorf("root shows %v, %v", names, err)
	}
	m.request(t, laptop)
	at := func(p string) string { return filepath.Join(m.dir, ".hypha", p) }
	for path, text := range map[string]string{
		"status": "all is well\n", "status.json": "{}\n", "link": "hypha://00\n", "nodes/desktop-01234567": "Desktop\n",
		"pending/" + laptop + "/words": "one two three four five six\n", "pending/" + laptop + "/request.json": "{}\n",
	} {
		if got := read(t, at(path)); got != text {
			t.Errorf("%s reads %q", path, got)
		}
		if st := stat(t, at(path)); st.Size != int64(len(text)) {
			t.Errorf("%s has %d bytes", path, st.Size)
		}
	}
	for _, word := range []string{"approve", "deny"} {
		if got := read(t, at("pending/"+laptop+"/"+word)); !strings.Contains(got, "touch this file") {
			t.Errorf("%s reads %q", word, got)
		}
	}
	out, err := sh(at("."), "ls -1 . nodes pending")
	if wanted := ".:\nconflicts\nlink\nnodes\npending\nstatus\nstatus.json\n\nnodes:\ndesktop-01234567\n\npending:\n" + laptop + "\n"; err != nil || out != wanted {
		t.Errorf("%v: %s", err, out)
	}
	want(t, "mkdir .hypha", unix.Mkdir(at("."), 0755), unix.EEXIST)
	want(t, "rmdir .hypha", unix.Rmdir(filepath.Join(m.dir, ".hypha")), unix.EPERM)
	want(t, "rename .hypha", unix.Rename(filepath.Join(m.dir, ".hypha"), filepath.Join(m.dir, "x")), unix.EPERM)
	want(t, "mkdir", unix.Mkdir(filepath.Join(m.dir, "d"), 0755), 0)
	want(t, "rename to .hypha", unix.Rename(filepath.Join(m.dir, "d"), filepath.Join(m.dir, ".hypha")), unix.EPERM)
	want(t, "create in .hypha", mustNot(os.Create(at("x"))), unix.EPERM)
	want(t, ".hypha elsewhere is a name like others", unix.Mkdir(filepath.Join(m.dir, "d/.hypha"), 0755), 0)
	want(t, "write to status", mustNot(os.OpenFile(at("status"), os.O_WRONLY, 0)), unix.EACCES)
	if a, b := stat(t, at("status")), stat(t, at("status")); a.Ino != b.Ino {
		t.Error("inode numbers change")
	}
}

func TestConflicts(t *testing.T) {
	m := mount(t, setup{})
	want(t, "mkdir", os.MkdirAll(filepath.Join(m.dir, "docs"), 0755), 0)
	write(t, filepath.Join(m.dir, "docs/a.txt"), "ours")
	write(t, filepath.Join(m.dir, "b.txt"), "ours")
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m.ask(order{Op: "conflict", Path: "docs/a.txt", Node: "laptop-11111111", Time: when, Data: []byte("theirs")})
	m.ask(order{Op: "conflict", Path: "b.txt", Node: "laptop-11111111", Time: when.Add(time.Second), Data: []byte("first")})
	m.ask(order{Op: "conflict", Path: "b.txt", Node: "phone-22222222", Time: when.Add(2 * time.Second), Clear: true})
	base := filepath.Join(m.dir, ".hypha/conflicts")
	out, err := sh(base, "find . | sort")
	wanted := strings.Join([]string{".", "./b.txt", "./b.txt/laptop-11111111-20260102T030406Z",
		"./b.txt/laptop-11111111-20260102T030406Z.drop", "./b.txt/laptop-11111111-20260102T030406Z.keep",
		"./b.txt/phone-22222222-20260102T030407Z", "./b.txt/phone-22222222-20260102T030407Z.drop", "./b.txt/phone-22222222-20260102T030407Z.keep",
		"./docs", "./docs/a.txt", "./docs/a.txt/drop", "./docs/a.txt/keep", "./docs/a.txt/laptop-11111111-20260102T030405Z", ""}, "\n")
	if err != nil || out != wanted {
		t.Fatalf("%v:\n%s\nwant\n%s", err, out, wanted)
	}
	if got := read(t, filepath.Join(base, "docs/a.txt/laptop-11111111-20260102T030405Z")); got != "theirs" {
		t.Errorf("kept head reads %q", got)
	}
	if got := read(t, filepath.Join(base, "b.txt/phone-22222222-20260102T030407Z")); !strings.Contains(got, "phone-22222222 removed this file") {
		t.Errorf("deletion reads %q", got)
	}
	if out, err := sh(base, "cp docs/a.txt/laptop* docs/a.txt/keep; chmod +x docs/a.txt/keep; cat docs/a.txt/* > /dev/null && touch docs/a.txt/keep"); err != nil {
		t.Fatalf("keep: %v: %s", err, out)
	}
	if got := read(t, filepath.Join(m.dir, "docs/a.txt")); got != "theirs" {
		t.Errorf("after keep the file reads %q", got)
	}
	if out, err := sh(base, "test ! -e docs && touch b.txt/phone*.drop && echo drop > b.txt/drop && test ! -e b.txt"); err != nil {
		t.Errorf("drop: %v: %s", err, out)
	}
	if got := read(t, filepath.Join(m.dir, "b.txt")); got != "ours" {
		t.Errorf("after drop the file reads %q", got)
	}
	// Another head takes the place of one whose names the kernel knows.
	write(t, filepath.Join(m.dir, "again"), "ours")
	m.ask(order{Op: "conflict", Path: "again", Node: "laptop-11111111", Time: when, Data: []byte("first")})
	held, err := os.Open(filepath.Join(base, "again/keep"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	m.ask(order{Op: "conflict", Path: "again", Node: "laptop-11111111", Time: when.Add(time.Second), Data: []byte("second")})
	if out, err := sh(base, "touch again/laptop-11111111-20260102T030405Z.drop && touch again/keep && test ! -e again"); err != nil {
		t.Errorf("keep of the second head: %v: %s", err, out)
	}
	if got := read(t, filepath.Join(m.dir, "again")); got != "second" {
		t.Errorf("after keep of the second head the file reads %q", got)
	}
}
