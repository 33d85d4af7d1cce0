// Package process sets up a process that runs a node: what it keeps to itself, and where it logs.
package process

import (
	"fmt"
	"io"
	"log/slog"

	"golang.org/x/sys/unix"
)

// Harden keeps the process's memory and files to itself: no core dumps, no ptrace by other processes of the user, no files for others.
func Harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turning core dumps off: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("turning core dumps off: %w", err)
	}
	unix.Umask(0o077)
	return nil
}

// LogHandler writes to w in format text or json what is at least level. Both were checked when they were read.
func LogHandler(w io.Writer, level, format string) (slog.Handler, error) {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	opts := &slog.HandlerOptions{Level: least}
	if format == "json" {
		return slog.NewJSONHandler(w, opts), nil
	}
	return slog.NewTextHandler(w, opts), nil
}
