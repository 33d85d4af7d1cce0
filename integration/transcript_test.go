package integration

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// asUser, when set, says that this test process was re-executed, as an ordinary user or in a network of its own; its value is the built binary.
const asUser = "HYPHAFS_TEST_AS_USER"

// nobody is the ordinary user of the tests; every Debian has it.
const nobody = "65534"

// TestTranscript is README's transcript: sign up, copy a project in, sign in, read, be refused, be approved by touch,
// write on both, come back. It uses the background mode and the commands just as they are typed.
func TestTranscript(t *testing.T) {
	needMount(t)
	base, err := os.MkdirTemp(scratch, "transcript-")
	if err != nil {
		t.Fatal(err)
	}
	s := &session{t: t, base: base}
	t.Cleanup(s.cleanUp)
	s.write("p", passphrase+"\n", 0o600)
	s.write("some-project/README", "a project\n", 0o644)
	s.write("some-project/src/main.c", strings.Repeat("int main() { return 0; }\n", 9000), 0o644)
	s.write("some-project/build.sh", "#!/bin/sh\necho built\n", 0o755)
	if err := os.Symlink("src/main.c", filepath.Join(base, "some-project/link")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"Hypha", "B"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.ok("HYPHAFS mount --sign-up --domain anna.example --name Desktop --passphrase-file p --state A --listen tcp://127.0.0.1:0 --no-discovery Hypha")
	s.ok("cp -r some-project Hypha/")
	port := regexp.MustCompile(`tcp://127\.0\.0\.1:[0-9]+`).FindString(s.ok("HYPHAFS status --json Hypha"))
	if port == "" {
		t.Fatal("status --json tells no port")
	}
	signIn := s.ok("HYPHAFS mount --sign-in --domain anna.example --name Laptop --passphrase-file p --state B.state --peer " + port + " --no-discovery B")
	s.eventuallyOK("diff -r some-project B/some-project")
	s.refused("touch B/x", "Read-only file system")
	s.refused("sh -c 'echo x >> B/some-project/README'", "Read-only file system")
	s.eventuallyOK("test $(ls Hypha/.hypha/pending | grep -c '^laptop-[0-9a-f]\\{8\\}$') = 1")
	words := strings.TrimSpace(s.ok("cat Hypha/.hypha/pending/laptop-*/words"))
	if len(strings.Fields(words)) != 6 {
		t.Fatalf("not six words: %q", words)
	}
	if !strings.Contains(signIn, words) {
		t.Errorf("the sign-in showed other words than %q: %q", words, signIn)
	}
	if status := s.ok("cat B/.hypha/status"); !strings.Contains(status, words) {
		t.Errorf("the laptop's status shows other words than %q: %q", words, status)
	}
	s.ok("touch Hypha/.hypha/pending/laptop-*/approve && echo hi > B/x")
	s.refused("ls Hypha/.hypha/pending/laptop-*", "No such file or directory")
	s.eventuallyOK("test \"$(cat Hypha/x)\" = hi")
	s.ok("sh -c 'echo back > Hypha/y'")
	s.eventuallyOK("test \"$(cat B/y)\" = back")
	s.ok("HYPHAFS umount B")
	s.ok("HYPHAFS mount --state B.state --passphrase-file p --no-discovery --peer " + port + " B")
	s.ok("test \"$(cat B/x)$(cat B/y)\" = hiback")
	s.ok("diff -r some-project B/some-project")
	s.ok("HYPHAFS status B")
	s.ok("sh -c 'echo again > B/z'")
	s.eventuallyOK("test \"$(cat Hypha/z)\" = again")
	s.ok("HYPHAFS umount B")
	s.ok("HYPHAFS umount Hypha")
	s.ok("HYPHAFS check --state A --passphrase-file p")
	s.ok("HYPHAFS check --state B.state --passphrase-file p")
}

// TestTranscriptAsUser runs the transcript as an ordinary user, who mounts through fusermount3, in a mount namespace of its
// own in which /dev/fuse may be opened by everybody.
func TestTranscriptAsUser(t *testing.T) {
	need(t, os.Getuid() == 0, "root, to become an ordinary user")
	needCommand(t, "fusermount3")
	needCommand(t, "setpriv")
	dir, err := os.MkdirTemp(scratch, "user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "integration.test")
	if out, err := exec.Command("cp", self, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const setup = `set -e
mount --make-rprivate /
mknod "$1/fuse" c 10 229
chmod 666 "$1/fuse"
mount --bind "$1/fuse" /dev/fuse
cd "$1"
exec setpriv --reuid ` + nobody + ` --regid ` + nobody + ` --clear-groups "$1/integration.test" -test.run '^TestTranscript$' -test.v -test.timeout 5m`
	cmd := exec.Command("sh", "-c", setup, "sh", dir)
	cmd.Env = append(os.Environ(), asUser+"="+binary, "HYPHAFS_TEST_DIR="+dir, "HOME="+dir, "XDG_DATA_HOME="+dir+"/data", "XDG_RUNTIME_DIR=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as an ordinary user: %v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("--- PASS: TestTranscript ")) {
		t.Fatalf("the transcript did not run:\n%s", out)
	}
}

// session runs shell lines in one folder; HYPHAFS stands for the built binary.
type session struct {
	t    *testing.T
	base string
}

func (s *session) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	path := filepath.Join(s.base, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) try(line string) (string, error) {
	cmd := exec.Command("sh", "-c", strings.ReplaceAll(line, "HYPHAFS", binary))
	cmd.Dir = s.base
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *session) ok(line string) string {
	s.t.Helper()
	out, err := s.try(line)
	if err != nil {
		s.t.Fatalf("$ %s\n%s%v", line, out, err)
	}
	return out
}

func (s *session) eventuallyOK(line string) {
	s.t.Helper()
	var last string
	eventuallyElse(s.t, line, func() bool {
		out, err := s.try(line)
		last = out
		return err == nil
	}, func() { s.t.Logf("$ %s\n%s", line, tail(last, 4000)) })
}

func (s *session) refused(line, why string) {
	s.t.Helper()
	out, err := s.try(line)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(out, why) {
		s.t.Fatalf("$ %s\nwanted a refusal with %q, got %v\n%s", line, why, err, out)
	}
}

// cleanUp unmounts what a failed run left mounted.
func (s *session) cleanUp() {
	for _, mnt := range mountsBelow(s.base) {
		if out, err := s.try("HYPHAFS umount " + mnt); err != nil {
			s.t.Errorf("umount %s: %v\n%s", mnt, err, out)
		}
	}
	if err := os.RemoveAll(s.base); err != nil {
		s.t.Error(err)
	}
}
