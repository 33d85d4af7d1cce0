package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestApart lets people change the same files on two machines of which only one is on at a time, with the programs they use. When both are on, each has what both did, and only what both
// changed is in .hypha/conflicts.
func TestApart(t *testing.T) {
	needCommand(t, "rsync")
	needCommand(t, "python3")
	desktop, laptop := pair(t)
	const write = "echo written >> %s"
	xattr := func(value string) string {
		return `python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.k", b"` + value + `")' %s`
	}
	cases := []struct {
		name    string
		earlier string // on the laptop; %s is the file, which has another name, %s.2
		later   string // on the desktop
		shown   string // what holds in both folders then
		kept    int
	}{
		{"ln, write", "ln %s %s.3", write, "cmp %s %s.3 && test $(stat -c %h %s) = 3", 0},
		{"write, ln", write, "ln %s %s.3", "cmp %s %s.3 && test $(stat -c %h %s) = 3", 0},
		{"rm, write", "rm %s.2", write, "test $(stat -c %h %s) = 1", 0},
		{"write, rm", write, "rm %s.2", "test $(stat -c %h %s) = 1", 0},
		{"chmod, write", "chmod 751 %s", write, "test $(stat -c %a %s) = 751", 0},
		{"write, chmod", write, "chmod 751 %s", "test $(stat -c %a %s) = 751", 0},
		{"touch, write", "touch -d '2101-02-03 UTC' %s", write, "test $(stat -c %Y %s) = 4136832000", 0},
		{"write, touch", write, "touch -d '2001-02-03 UTC' %s", "test $(stat -c %Y %s) -gt 981158400", 0},
		{"write, mv", write, "mv %s.2 %s.4", "cmp %s %s.4 && ! test -e %s.2", 0},
		{"mv, write", "mv %s.2 %s.4", write, "cmp %s %s.4 && ! test -e %s.2", 0},
		{"setxattr, write", xattr("x"), write, `python3 -c 'import os, sys; sys.exit(os.getxattr(sys.argv[1], "user.k") != b"x")' %s`, 0},
		{"write, cp --attributes-only", write, "cp --attributes-only --preserve=all %s.model %s", "test $(stat -c %a %s) = 604", 0},
		{"write, rsync", write, "rsync -rcpt %s.model %s", "test $(stat -c %a %s) = 604", 0},
		{"write and chmod, rsync", write + "; chmod 751 %s", "rsync -rct %s.model %s", "test $(stat -c %a %s) = 751", 0},
		{"write, write", write, "echo there >> %s", "test $(tail -n 1 %s) = there", 1},
	}
	file := func(name string) string { return strings.NewReplacer(" ", "-", ",", "").Replace(name) }
	on := func(n *node, name, line string) {
		t.Helper()
		s := &session{t: t, base: n.dir}
		s.ok(strings.ReplaceAll(line, "%s", file(name)))
	}
	for _, c := range cases {
		on(desktop, c.name, "echo text > %s; ln %s %s.2; echo text > %s.model; chmod 604 %s.model; touch -d '2001-02-03 UTC' %s.model; mkdir %s.d")
	}
	arrived(t, desktop, laptop)
	desktop.stop()
	for _, c := range cases {
		on(laptop, c.name, c.earlier)
		on(laptop, c.name, "touch %s.d/file")
	}
	laptop.stop()
	desktop.mount("--listen", "tcp://127.0.0.1:0")
	for _, c := range cases {
		on(desktop, c.name, c.later)
		on(desktop, c.name, "chmod 710 %s.d; cat %s* > /dev/null; ls -l > /dev/null") // the kernel has it all
	}
	laptop.mount("--peer", desktop.listening())
	arrived(t, laptop, desktop)
	arrived(t, desktop, laptop)
	for _, n := range []*node{desktop, laptop} {
		s := &session{t: t, base: n.dir}
		for _, c := range cases {
			wants := strings.ReplaceAll(c.shown+" && test $(stat -c %a %s.d) = 710 && test -e %s.d/file", "%s", file(c.name))
			if c.kept == 0 {
				wants += " && test \"$(cat " + file(c.name) + ")\" = 'text\nwritten'"
			}
			s.eventuallyOK(wants)
			if got := n.kept(file(c.name)); got != c.kept {
				t.Errorf("%s: %s has %d kept versions, want %d", c.name, n.dir, got, c.kept)
			}
		}
	}
	arrived(t, desktop, laptop)
	same(t, laptop, desktop)
	for _, n := range []*node{laptop, desktop} {
		n.stop()
		n.check()
	}
}

// kept counts the kept versions of a file.
func (n *node) kept(name string) (heads int) {
	n.t.Helper()
	es, err := os.ReadDir(filepath.Join(n.dir, ".hypha/conflicts", name))
	if err != nil && !os.IsNotExist(err) {
		n.t.Fatal(fmt.Errorf("kept versions of %s: %w", name, err))
	}
	for _, e := range es {
		if e.Name() != "keep" && e.Name() != "drop" && !strings.HasSuffix(e.Name(), ".keep") && !strings.HasSuffix(e.Name(), ".drop") {
			heads++
		}
	}
	return heads
}
