// Package s3test runs a real S3 server, versitygw over a folder, for tests: it can be killed and started again with what it had. integration/test.sh installs it.
package s3test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The keys of the server.
const (
	AccessKey = "hyphafs-test"
	SecretKey = "hyphafs-test-secret"
)

// Server is a versitygw process. Its methods may be called from many goroutines at once.
type Server struct {
	Dir  string // its folder: one below for each bucket
	addr string
	path string // of the binary

	mu  sync.Mutex // guards what follows
	cmd *exec.Cmd  // nil: not running
	log *os.File
}

// Start starts a server with an empty bucket called bucket, and stops it when the test ends. The environment of the test gets what a client needs.
// Without versitygw the test is skipped, or fails if CI=true.
func Start(t testing.TB, bucket string) *Server {
	t.Helper()
	path, err := find()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, bucket), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free; it has to be the same after a restart
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Dir: dir, addr: l.Addr().String(), path: path}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if s.log, err = os.Create(filepath.Join(t.TempDir(), "versitygw.log")); err != nil {
		t.Fatal(err)
	}
	for name, value := range s.Env() {
		t.Setenv(name, value)
	}
	t.Cleanup(func() {
		s.Kill()
		if b, err := os.ReadFile(s.log.Name()); t.Failed() && err == nil {
			t.Logf("versitygw said: %s", b[max(0, len(b)-4096):])
		}
		s.log.Close() // a log of a test
	})
	s.Restart(t)
	return s
}

// find returns the path of versitygw.
func find() (string, error) {
	if path, err := exec.LookPath("versitygw"); err == nil {
		return path, nil
	}
	for _, name := range []string{"GOBIN", "GOPATH"} {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			return "", fmt.Errorf("go env: %w", err)
		}
		dir := strings.TrimSpace(string(out))
		if name == "GOPATH" {
			dir = filepath.Join(dir, "bin")
		}
		if path, err := exec.LookPath(filepath.Join(dir, "versitygw")); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("versitygw is not installed: go install github.com/versity/versitygw/cmd/versitygw at the version that integration/test.sh names")
}

// Endpoint is the server's URL.
func (s *Server) Endpoint() string { return "http://" + s.addr }

// Env is what a client's environment needs.
func (s *Server) Env() map[string]string {
	return map[string]string{"AWS_ACCESS_KEY_ID": AccessKey, "AWS_SECRET_ACCESS_KEY": SecretKey, "AWS_ENDPOINT_URL": s.Endpoint(), "AWS_REGION": "us-east-1"}
}

// Kill ends the server as a crash does. It returns when the process is gone.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended by itself, which Wait tells
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Freeze makes the server answer nothing, without ending a connection, until thaw is called.
func (s *Server) Freeze(t testing.TB) (thaw func()) {
	t.Helper()
	s.mu.Lock()
	p := s.cmd.Process
	s.mu.Unlock()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := p.Signal(syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	}
}

// Restart starts the server if it does not run, and returns when it answers.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return
	}
	cmd := exec.Command(s.path, "--port", s.addr, "--health", "/health", "--quiet", "posix", s.Dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.cmd = cmd
	deadline := time.Now().Add(30 * time.Second)
	for {
		r, err := http.Get(s.Endpoint() + "/health")
		if err == nil {
			_, err = io.Copy(io.Discard, r.Body)
			r.Body.Close() // it was read to its end
			if err == nil && r.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("versitygw does not answer: %v", err)
		}
		time.Sleep(20 * time.Millisecond) // nothing tells when it listens
	}
}

// Objects returns the names of the objects of a bucket and their sizes, as the server's disk has them.
func (s *Server) Objects(t testing.TB, bucket string) map[string]int64 {
	t.Helper()
	objects := map[string]int64{}
	root := filepath.Join(s.Dir, bucket)
	err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		objects[name] = info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return objects
}
