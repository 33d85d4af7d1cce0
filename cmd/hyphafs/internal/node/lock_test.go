package node

import (
	"bytes"
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

func TestLogger(t *testing.T) {
	for format, want := range map[string]string{"text": "msg=heard", "json": `"msg":"heard"`} {
		var out bytes.Buffer
		log, err := Settings{LogLevel: "info", LogFormat: format}.logger(&out)
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("silent")
		log.Info("heard")
		if got := out.String(); !strings.Contains(got, want) || strings.Contains(got, "silent") {
			t.Errorf("%s: %q", format, got)
		}
	}
	if _, err := (Settings{LogLevel: "loud"}).logger(nil); err == nil {
		t.Error("an unknown level was taken")
	}
}
