package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// valve passes TCP connections on to a node, slowly, until it is shut: then the peer can be reached and says nothing.
type valve struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu    sync.Mutex // guards what follows
	open  chan struct{}
	pause time.Duration // after each chunk
	conns []net.Conn
}

const valveChunk = 64 << 10

// newValve listens on loopback for connections to the node at url, until the test ends.
func newValve(t *testing.T, url string) *valve {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{listener: l, target: strings.TrimPrefix(url, "tcp://"), open: make(chan struct{}), pause: 60 * time.Millisecond} // about 1 MiB a second
	close(v.open)
	v.running.Go(v.accept)
	t.Cleanup(func() {
		v.listener.Close()
		v.mu.Lock()
		for _, c := range v.conns {
			c.Close()
		}
		v.mu.Unlock()
		v.turn(true)
		v.running.Wait()
	})
	return v
}

func (v *valve) url() string { return "tcp://" + v.listener.Addr().String() }

// turn opens the valve, wholly, or shuts it.
func (v *valve) turn(open bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.pause = 0
	select {
	case <-v.open:
		if !open {
			v.open = make(chan struct{})
		}
	default:
		if open {
			close(v.open)
		}
	}
}

func (v *valve) accept() {
	for {
		near, err := v.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", v.target)
		if err != nil {
			near.Close()
			continue
		}
		v.mu.Lock()
		v.conns = append(v.conns, near, far)
		v.mu.Unlock()
		v.running.Go(func() { v.pass(near, far) })
		v.running.Go(func() { v.pass(far, near) })
	}
}

func (v *valve) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	b := make([]byte, valveChunk)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		v.mu.Lock()
		open, pause := v.open, v.pause
		v.mu.Unlock()
		<-open
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

const (
	silentBytes = 64 << 20
	// Behind this place most blocks of the file did not pass the valve: they come in order, but for the one that makes each greater length of the feed known, and it is shut
	// as soon as the name is there. Each process takes another one, beyond what the kernel reads ahead: it goes on reading for a process that is gone, and keeps others
	// from writing there as long. One that finds its block here takes the next place within its step.
	neverBytes = 36 << 20
	neverStep  = 2 << 20
	neverTry   = 256 << 10
	longWait   = 10 * time.Minute // a read timeout that no test waits for
	atOnce     = 30 * time.Second // far below longWait, and far above what a machine under load needs for anything local
)

// TestSilentPeer lets the only peer fall silent while most of a file is still with it. Whatever needs none of the missing blocks goes on, what
// does can be interrupted, killed, and ends with an error after the read timeout; all is well when the peer speaks again.
func TestSilentPeer(t *testing.T) {
	desktop, laptop := newNode(t, "Hypha"), newNode(t, "B")
	desktop.signUp("Desktop")
	v := newValve(t, desktop.listening())
	laptop.signIn("Laptop", v.url(), "--read-timeout", longWait.String())
	touch(t, filepath.Join(desktop.pending(), "approve"))
	eventually(t, "the laptop writable", func() bool { return laptop.status().Writable })
	if err := os.WriteFile(filepath.Join(desktop.dir, "small"), []byte("small"), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the small file", func() bool {
		b, err := os.ReadFile(filepath.Join(laptop.dir, "small"))
		return err == nil && string(b) == "small"
	})
	makeBig(t, filepath.Join(desktop.dir, "big"), silentBytes)
	const unchanged = "head -c 36M big | sha256sum" // what all this leaves alone
	want := (&session{t: t, base: desktop.dir}).ok(unchanged)
	eventually(t, "the big file's name", func() bool {
		info, err := os.Stat(filepath.Join(laptop.dir, "big"))
		return err == nil && info.Size() == silentBytes
	})
	v.turn(false)
	if s := laptop.status(); s.Missing.Blocks < 100 {
		t.Fatalf("the big file is here already: %+v", s.Missing)
	}

	t.Run("local", func(t *testing.T) { localWork(t, laptop) })
	at := neverBytes
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		for name, what := range map[string]string{
			"read": "os.pread(f, 10, at)", "direct read": "os.preadv(os.open('big', os.O_RDONLY | os.O_DIRECT), [mmap.mmap(-1, 4096)], at)",
			"map": "mmap.mmap(f, 0)[at]", "write": "os.pwrite(f, b'x', at)", "punch": "ctypes.CDLL(None).fallocate(f, 3, ctypes.c_long(at + 1), ctypes.c_long(9))",
		} {
			at += neverStep
			t.Run(fmt.Sprintf("%s, %v", name, signal), func(t *testing.T) { waitingFor(t, laptop, what, at).stop(t, signal) })
		}
	}
	t.Run("truncate", func(t *testing.T) {
		waitingFor(t, laptop, "os.ftruncate(f, at + 1)", silentBytes-neverStep).stop(t, syscall.SIGINT)
	})
	t.Run("busy", func(t *testing.T) {
		reader := waitingFor(t, laptop, "os.pread(f, 10, at)", neverBytes)
		quickly(t, "umount", func() error {
			if out, err := laptop.run("umount", laptop.dir); err == nil || !strings.Contains(out, "close its files") {
				return fmt.Errorf("umount while a file is read: %v, %s", err, out)
			}
			return nil
		})
		reader.stop(t, syscall.SIGKILL)
	})
	quickly(t, "umount and mount", func() error { laptop.stop(); laptop.mount("--read-timeout", "3s"); return nil })
	t.Run("timeout", func(t *testing.T) {
		var took time.Duration
		var out []byte
		var err error
		for at := neverBytes; err == nil && at < silentBytes-neverStep; at += neverTry {
			begun := time.Now()
			out, err = script(t, laptop, "os.pread(f, 10, at)", at).CombinedOutput()
			took = time.Since(begun)
		}
		t.Logf("a process that reads with a timeout of 3 s ended after %v", took.Round(100*time.Millisecond))
		if err == nil || !bytes.Contains(out, []byte("Input/output error")) || took < 3*time.Second || took > atOnce {
			t.Errorf("after %v: %v\n%s", took, err, out)
		}
		if log := laptop.stderr.String(); !strings.Contains(log, "path=big") {
			t.Errorf("the log does not name the file:\n%s", tail(log, 1000))
		}
	})
	v.turn(true)
	eventually(t, "all blocks", func() bool { return laptop.status().Missing.Blocks == 0 })
	if got := (&session{t: t, base: laptop.dir}).ok(unchanged); got != want {
		t.Errorf("the big file is %s, wanted %s", got, want)
	}
	same(t, laptop, desktop)
	for _, n := range []*node{laptop, desktop} {
		n.stop()
		n.check()
	}
}

// quickly fails the test if fn takes as long as something that waits for a peer.
func quickly(t *testing.T, what string, fn func() error) {
	t.Helper()
	done, begun := make(chan error, 1), time.Now()
	go func() { done <- fn() }() // ends with the node at the latest
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%s: %v", what, time.Since(begun).Round(time.Millisecond))
	case <-time.After(atOnce):
		t.Fatalf("%s waits", what)
	}
}

// localWork does everything that needs no missing block.
func localWork(t *testing.T, n *node) {
	s := &session{t: t, base: n.dir}
	for _, c := range []struct{ what, line string }{
		{"stat", "test $(stat -c %s big) = 67108864 && test $(stat -c %s small) = 5"},
		{"list", "test \"$(ls)\" = \"$(printf 'big\\nsmall')\" && ls -la . .hypha .hypha/nodes >/dev/null && find . >/dev/null && du -s . >/dev/null && df . >/dev/null"},
		{"status", "cat .hypha/status .hypha/status.json >/dev/null"},
		{"read what is here", "test \"$(cat small)\" = small"},
		{"make, write, fsync, append", "mkdir d && echo one > d/f && sync d/f && echo two >> d/f && test $(wc -l < d/f) = 2 && sync d"},
		{"rename, exchange, link, remove", "mv big d/big && mv d/big big && ln big d/link && mv d/link d/link2 && rm d/link2 && echo three > d/g && mv d/g d/f"},
		{"attributes", "chmod 600 big && touch -d 2001-02-03 big && chown 0:0 big && setfattr -n user.a -v b big 2>/dev/null || true"},
		{"lock", "flock big true"},
		{"whole blocks written, cut and punched", "dd if=/dev/zero of=big bs=64k seek=976 count=2 conv=notrunc status=none && truncate -s 65M big && truncate -s 64M big && fallocate -p -o 63963136 -l 131072 big"},
		{"copy, remove", "cp small d/copy && rm -r d"},
		{"shared map", "python3 -c 'import mmap,os; f=os.open(\"m\",os.O_RDWR|os.O_CREAT); os.ftruncate(f,9999); m=mmap.mmap(f,0); m[5]=1; m.flush(); os.close(f)' && rm m"},
	} {
		quickly(t, c.what, func() error {
			if out, err := s.try("set -e\n" + c.line); err != nil {
				return fmt.Errorf("%w\n%s", err, out)
			}
			return nil
		})
	}
	quickly(t, "sync", func() error {
		if out, err := n.run("sync", n.dir); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	})
}

// script is a Python process that does something to the big file, in f, at a missing block, at.
func script(t *testing.T, n *node, what string, at int) *exec.Cmd {
	t.Helper()
	needCommand(t, "python3")
	cmd := exec.Command("python3", "-c", fmt.Sprintf(`
import ctypes, mmap, os, signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
f, at = os.open('big', os.O_RDWR), %d
print(flush=True)
%s`, at, what))
	cmd.Dir = n.dir
	return cmd
}

// waiting is a process that waits for a missing block.
type waiting struct {
	cmd   *exec.Cmd
	ended chan error
}

// waitingFor starts what and returns when it waits.
func waitingFor(t *testing.T, n *node, what string, at int) *waiting {
	t.Helper()
	for end := at + neverStep; at < end; at += neverTry {
		if w := tryWaiting(t, n, what, at); w != nil {
			return w
		}
	}
	t.Fatalf("no block is missing below %d", at)
	return nil
}

// tryWaiting is waitingFor at one place. It returns nil if the block was here after all.
func tryWaiting(t *testing.T, n *node, what string, at int) *waiting {
	t.Helper()
	cmd := script(t, n, what, at)
	stderr := &lockedBuffer{}
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	w := &waiting{cmd, make(chan error, 1)}
	go func() { w.ended <- cmd.Wait() }() // stop receives from it, or the loop below
	asleep, here := 0, false
	eventually(t, "the process to wait", func() bool {
		select {
		case err := <-w.ended:
			if here = err == nil; !here {
				t.Fatalf("the process ended: %v\n%s", err, stderr)
			}
			return true
		default:
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err != nil {
			return false
		}
		_, state, _ := strings.Cut(string(stat), ") ")
		if asleep++; state[0] != 'S' && state[0] != 'D' {
			asleep = 0
		}
		return asleep >= 5 // it has nothing else to wait for
	})
	if here {
		return nil
	}
	return w
}

// stop sends the signal and fails the test if the process is still there after a while.
func (w *waiting) stop(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := w.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), atOnce)
	defer cancel()
	begun := time.Now()
	select {
	case err := <-w.ended:
		t.Logf("ended %v after the signal: %v", time.Since(begun).Round(time.Millisecond), err)
		if s, ok := w.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !s.Signaled() {
			t.Errorf("ended with %v", err)
		}
	case <-ctx.Done():
		_ = w.cmd.Process.Kill()
		t.Fatal("the process goes on")
	}
}
