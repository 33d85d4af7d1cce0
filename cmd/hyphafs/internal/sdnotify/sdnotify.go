// Package sdnotify tells the service manager that started a process how it is, as sd_notify(3) does: a datagram of lines to the socket that
// $NOTIFY_SOCKET names. Where no manager listens it does nothing. It imports nothing of hyphafs.
//
// A manager that watches ($WATCHDOG_USEC) ends a process that falls silent, so [Manager.Run] speaks only as long as the
// process can say how it is. What it says can be read by every user of the machine: no name, address or key belongs into it.
package sdnotify

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// statusTime is how often the manager is told how the process is, if it does not ask for it more often.
const statusTime = 30 * time.Second

// Manager is the service manager of this process, or nobody. Its methods may be called by several goroutines. A manager that cannot be told is logged:
// the process goes on.
type Manager struct {
	socket   string        // empty: there is none
	watchdog time.Duration // it ends a process that was silent for so long; 0: never
	log      *slog.Logger
}

// FromEnv returns the manager that the environment names. getenv is os.Getenv.
func FromEnv(getenv func(string) string, log *slog.Logger) *Manager {
	m := &Manager{socket: getenv("NOTIFY_SOCKET"), log: log}
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return m // another process is watched
	}
	if usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 && usec < 1<<53 {
		m.watchdog = time.Duration(usec) * time.Microsecond
	}
	return m
}

// Ready says that this process is the service and serves.
func (m *Manager) Ready(status string) {
	m.send("READY=1", "MAINPID="+strconv.Itoa(os.Getpid()), "STATUS="+oneLine(status))
}

// Stopping says that the process ends in order.
func (m *Manager) Stopping() { m.send("STOPPING=1", "STATUS=stopping") }

// Run says how the process is, in one line, until ctx ends. It asks status each time; if that does not come back, the process hangs, and
// the manager hears nothing.
func (m *Manager) Run(ctx context.Context, status func() string) error {
	if m.socket == "" {
		return nil
	}
	every := statusTime
	if m.watchdog > 0 {
		every = min(every, m.watchdog/3)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			m.send("STATUS="+oneLine(status()), "WATCHDOG=1")
		}
	}
}

func (m *Manager) send(lines ...string) {
	if m.socket == "" {
		return
	}
	if err := m.write(strings.Join(lines, "\n")); err != nil {
		m.log.Warn("the service manager was not told", "err", err)
	}
}

func (m *Manager) write(text string) (err error) {
	if m.socket[0] != '/' && m.socket[0] != '@' {
		return fmt.Errorf("$NOTIFY_SOCKET names no socket: %q", m.socket)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte(text))
	if closeErr := conn.Close(); err == nil {
		err = closeErr
	}
	return err
}

// oneLine keeps a status from being taken for further lines.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
