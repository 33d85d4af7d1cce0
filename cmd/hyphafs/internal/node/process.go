package node

import (
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// memoryLimit is where the garbage collector starts to work harder, in bytes: well below the 300 MiB a node may take, since the
// pages of the view's file are counted there too.
const memoryLimit = 160 << 20

// harden keeps the process's memory and files to itself: no core dumps, no ptrace by other processes of the user, no files for others.
func harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turning core dumps off: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("turning core dumps off: %w", err)
	}
	unix.Umask(0o077)
	debug.SetMemoryLimit(memoryLimit)
	return nil
}

// logger writes to w what the settings ask for. Their level and format were checked when they were read.
func (s Settings) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	opts := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return slog.New(slog.NewTextHandler(w, opts)), nil
}
