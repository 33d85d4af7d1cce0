package node

import (
	"strings"
	"testing"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/mounts"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
)

func TestLockedIsBusy(t *testing.T) {
	d := state.Dir(t.TempDir())
	lock, err := Lock(d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(d); fault.CodeOf(err) != fault.Busy || !strings.Contains(err.Error(), string(d)) {
		t.Errorf("got %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
}

func TestCleanDeadLeavesOthersAlone(t *testing.T) {
	if err := CleanDead(t.Context(), mounts.Mount{Dir: t.TempDir(), State: t.TempDir()}); err != nil {
		t.Errorf("a folder with nothing mounted on it: %v", err)
	}
	if err := CleanDead(t.Context(), mounts.Mount{Dir: "/proc", State: t.TempDir()}); fault.CodeOf(err) != fault.Busy {
		t.Errorf("/proc: %v", err)
	}
}
