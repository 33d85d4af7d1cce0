package integration

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// program is another process that has files open: a Python that does what it is told, line by line.
type program struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
	cmd *exec.Cmd
}

const programText = `
import fcntl, mmap, os, sys
for line in sys.stdin:
    r = None
    try:
        exec(line)
        print(r)
    except Exception as e:
        print("error:", e)
    sys.stdout.flush()
`

// newProgram starts a program in n's folder. It ends with the test.
func newProgram(t *testing.T, n *node) *program {
	t.Helper()
	needCommand(t, "python3")
	p := &program{t: t, cmd: exec.Command("python3", "-c", programText)}
	p.cmd.Dir, p.cmd.Stderr = n.dir, os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.in, p.out = in, bufio.NewReader(out)
	t.Cleanup(p.end)
	return p
}

func (p *program) end() {
	if p.in == nil {
		return
	}
	p.in.Close()
	p.in = nil
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("the program ended with %v", err)
	}
}

// do runs lines and returns what the last one left in r.
func (p *program) do(lines ...string) (r string) {
	p.t.Helper()
	for _, line := range lines {
		if _, err := fmt.Fprintln(p.in, line); err != nil {
			p.t.Fatal(err)
		}
		text, err := p.out.ReadString('\n')
		if err != nil {
			p.t.Fatal(err)
		}
		if r = strings.TrimSpace(text); strings.HasPrefix(r, "error:") {
			p.t.Fatalf("%s: %s", line, r)
		}
	}
	return r
}

// want runs one line and compares.
func (p *program) want(line, want string) {
	p.t.Helper()
	if got := p.do("r = " + line); got != want {
		p.t.Errorf("%s is %s, wanted %s", line, got, want)
	}
}

const (
	oldText    = "old text, which is here first\n"
	remoteText = "remote text\n"
	localText  = "local text, which is somewhat longer than both\n"
)

// TestRemoteChanges lets changes of another node arrive while local programs have the same file open, mapped or locked. They keep what they have until
// the last of them closes it, as does who opens the file beside them; then all see the change. What they write meanwhile replaces nothing that
// they did not see: both versions stay, on both nodes.
func TestRemoteChanges(t *testing.T) {
	desktop, laptop := pair(t)
	change := func(name string) string {
		return fmt.Sprintf("printf '%s' > %s", strings.TrimSuffix(remoteText, "\n")+`\n`, name)
	}
	const (
		open    = "f = os.open(name, os.O_RDWR)"
		mapping = "m = mmap.mmap(f, 0)"
		lock    = "fcntl.flock(f, fcntl.LOCK_EX)"
		closing = "os.close(f)"
		write   = "os.pwrite(f, b'" + "local text, which is somewhat longer than both" + `\n', 0); os.fsync(f)`
	)
	save := fmt.Sprintf("printf '%s' > %%[1]s.tmp && mv %%[1]s.tmp %%[1]s", strings.TrimSuffix(localText, "\n")+`\n`)
	for _, c := range []struct {
		name   string
		before []string // what the program does first
		remote string   // what happens on the other node meanwhile; %[1]s is the file
		keeps  bool     // the name shows the old text as long as the program has it open
		after  []string // what the program does then
		local  string   // and another one beside it, before the program closes
		final  []string // the texts that there are in the end, in files and among the kept versions, ascending
	}{
		{"read", []string{open}, change("%[1]s"), true, nil, "", []string{remoteText}},
		{"mapped", []string{open, mapping, closing}, change("%[1]s"), true, []string{"m.close()"}, "", []string{remoteText}},
		{"locked", []string{open, lock}, change("%[1]s"), true, nil, "! flock -n %[1]s true", []string{remoteText}},
		{"written", []string{open}, change("%[1]s"), true, []string{write}, "", []string{localText, remoteText}},
		{"written before", []string{open, write}, change("%[1]s"), false, nil, "", []string{localText, remoteText}},
		{"appended", []string{open}, change("%[1]s"), true, nil, "echo more >> %[1]s", []string{oldText + "more\n", remoteText}},
		{"written through a map", []string{open, mapping}, change("%[1]s"), true, []string{"m[0:3] = b'new'", "m.close()"}, "", []string{"new" + oldText[3:], remoteText}},
		{"truncated", []string{open}, change("%[1]s"), true, nil, "echo short > %[1]s", []string{remoteText, "short\n"}},
		{"saved by renaming", []string{open}, change("%[1]s"), true, nil, save, []string{localText, remoteText}},
		{"removed there", []string{open, mapping}, "rm %[1]s", false, []string{"m.close()"}, "", nil},
		{"removed there, written", []string{open}, "rm %[1]s", false, []string{write}, "", []string{localText}},
		{"saved by renaming there", []string{open, mapping}, change("%[1]s.t") + " && mv %[1]s.t %[1]s", false, []string{"m.close()"}, "", []string{remoteText}},
		{"saved by renaming there, written", []string{open}, change("%[1]s.t") + " && mv %[1]s.t %[1]s", false, []string{write}, "", []string{localText, remoteText}},
		{"renamed there, written", []string{open}, "mv %[1]s %[1]s.moved", false, []string{write}, "", []string{localText}},
		{"removed here", []string{open}, change("%[1]s"), true, nil, "rm %[1]s", []string{remoteText}},
		{"attributes", []string{open}, "chmod 751 %[1]s", true, []string{write}, "", []string{localText}}, // no other content
	} {
		t.Run(c.name, func(t *testing.T) {
			here, there := &session{t: t, base: laptop.dir}, &session{t: t, base: desktop.dir}
			name := strings.NewReplacer(" ", "-", ",", "").Replace(c.name)
			fill := func(line string) string { return strings.ReplaceAll(line, "%[1]s", name) }
			here.ok("printf '" + strings.TrimSuffix(oldText, "\n") + `\n` + "' > " + name)
			arrived(t, laptop, desktop)
			p := newProgram(t, laptop)
			p.do(fmt.Sprintf("name = %q", name))
			p.do(c.before...)
			there.ok(fill(c.remote))
			arrived(t, desktop, laptop)

			isOpen := !slices.Contains(c.before, closing)
			isWritten := slices.Contains(c.before, write)
			if isOpen && !isWritten {
				p.want(`os.pread(f, 100, 0).decode().strip()`, strings.TrimSpace(oldText))
				p.want("os.fstat(f).st_size", fmt.Sprint(len(oldText)))
			}
			if slices.Contains(c.before, mapping) {
				p.want(`m[:].decode().strip()`, strings.TrimSpace(oldText))
			}
			if c.keeps {
				here.ok(fmt.Sprintf("test \"$(cat %s)\" = '%s' && test $(stat -c %%s %s) = %d", name, strings.TrimSpace(oldText), name, len(oldText)))
			}
			p.do(c.after...)
			if c.local != "" {
				here.ok(fill(c.local))
			}
			if isOpen {
				p.do(closing)
			}
			p.end()
			arrived(t, laptop, desktop)
			arrived(t, desktop, laptop)
			for _, n := range []*node{laptop, desktop} {
				eventuallyElse(t, n.dir+" to show everything", func() bool { return slices.Equal(n.texts(t, name), c.final) }, func() {
					t.Logf("%s has %q, wanted %q", n.dir, n.texts(t, name), c.final)
				})
			}
		})
	}
	same(t, laptop, desktop)
	for _, n := range []*node{laptop, desktop} {
		n.stop()
		n.check()
	}
}

// arrived returns when to, the only peer of from, has everything that was changed there: its blocks, and shown the name of a file made behind it.
func arrived(t *testing.T, from, to *node) {
	t.Helper()
	mark, err := os.CreateTemp(from.dir, "mark-")
	if err != nil {
		t.Fatal(err)
	}
	if err := mark.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := from.run("sync", "--peer", from.dir); err != nil {
		t.Fatalf("sync: %v\n%s", err, out)
	}
	eventually(t, "a mark", func() bool {
		_, err := os.Stat(filepath.Join(to.dir, filepath.Base(mark.Name())))
		return err == nil
	})
	if err := os.Remove(mark.Name()); err != nil {
		t.Fatal(err)
	}
}

// texts returns the contents of all files in n's folder, and of all kept versions, whose path begins with name, ascending.
func (n *node) texts(t *testing.T, name string) (all []string) {
	t.Helper()
	for _, root := range []string{n.dir, filepath.Join(n.dir, ".hypha/conflicts")} {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			rel, relErr := filepath.Rel(root, path)
			base := filepath.Base(path)
			if err != nil || relErr != nil || e.IsDir() || base == "keep" || base == "drop" || rel != name && !strings.HasPrefix(rel, name+"/") && !strings.HasPrefix(rel, name+".") && !strings.HasPrefix(rel, name+" (") {
				return err
			}
			b, err := os.ReadFile(path)
			all = append(all, string(b))
			return err
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	slices.Sort(all)
	return all
}
