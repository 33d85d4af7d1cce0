//go:build !js

package ws_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestBrowserHasNoSockets: the browser's WebSocket takes the place of the whole of net/http.
func TestBrowserHasNoSockets(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", ".")
	cmd.Env = append(cmd.Environ(), "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	for _, dep := range deps {
		if dep == "net" || dep == "net/http" || strings.HasPrefix(dep, "github.com/gorilla") {
			t.Errorf("the browser's build has %s", dep)
		}
	}
	if len(deps) < 10 {
		t.Errorf("only %d packages listed", len(deps))
	}
}
