package process_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/process"
)

func TestLogHandler(t *testing.T) {
	for format, want := range map[string]string{"text": "msg=heard", "json": `"msg":"heard"`} {
		var out bytes.Buffer
		handler, err := process.LogHandler(&out, "info", format)
		if err != nil {
			t.Fatal(err)
		}
		log := slog.New(handler)
		log.Debug("silent")
		log.Info("heard")
		if got := out.String(); !strings.Contains(got, want) || strings.Contains(got, "silent") {
			t.Errorf("%s: %q", format, got)
		}
	}
	if _, err := process.LogHandler(nil, "loud", "text"); err == nil {
		t.Error("an unknown level was taken")
	}
}
