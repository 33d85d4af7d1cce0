package node

import (
	"strings"
	"testing"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
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

func TestCleanDeadLeavesTheLivingAlone(t *testing.T) {
	if err := CleanDead(t.Context(), t.TempDir()); fault.CodeOf(err) != fault.Busy {
		t.Errorf("got %v", err)
	}
}
