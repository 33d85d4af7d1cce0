package integration

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// memoryOf returns a line of /proc/PID/status, in bytes.
func memoryOf(t *testing.T, pid int, line string) uint64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), line+":")
	var kB uint64
	if _, err := fmt.Sscan(rest, &kB); !found || err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return kB << 10
}

// TestIdleConnections: an always-on node has a thousand connections in less than 200 MiB, half of them over WebSocket, after each has fetched everything.
func TestIdleConnections(t *testing.T) {
	const connections, blocks, most = 1000, 100, 200 << 20
	s := newSwarm(t, 1, connections-1)
	if err := s.nodes[0].put(t.Context(), blocks-1); err != nil {
		t.Fatal(err)
	}
	a := startAlways(t, "--hypha", s.source.String())
	before := memoryOf(t, a.cmd.Process.Pid, "VmRSS")
	leave := s.connect(a)
	eventually(t, "all connected", func() bool {
		return a.metric(`hyphafs_sessions{kind="ws"}`)+a.metric(`hyphafs_sessions{kind="tcp"}`) == connections
	})
	s.complete(1)
	rss, peak := memoryOf(t, a.cmd.Process.Pid, "VmRSS"), memoryOf(t, a.cmd.Process.Pid, "VmHWM")
	t.Logf("%d connections: %d MiB resident, %d MiB at most, %d MiB before; %v goroutines", connections, rss>>20, peak>>20, before>>20, a.metric("go_goroutines"))
	if peak >= most {
		t.Errorf("%d MiB", peak>>20)
	}
	leave()
	eventually(t, "nothing left of them", func() bool { return a.metric("go_goroutines") < 100 && a.metric("hyphafs_connections") <= 3 })
}

// processCPU returns the CPU time that a process took so far.
func processCPU(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// duration is what the environment variable says, or fallback.
func duration(t *testing.T, variable string, fallback time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return fallback
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
