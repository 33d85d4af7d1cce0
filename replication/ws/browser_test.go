//go:build !js

package ws_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/replicationtest"
)

// inBrowser builds testdata/browser for js/wasm and returns a function that runs it on a WebSocket like a browser's, Node's, and returns what it printed.
func inBrowser(t *testing.T) func(env ...string) string {
	t.Helper()
	help, err := exec.Command("node", "--help").Output()
	if err != nil || !strings.Contains(string(help), "--experimental-websocket") {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs a node that knows --experimental-websocket")
		}
		t.Skip("needs a node that knows --experimental-websocket")
	}
	program := filepath.Join(t.TempDir(), "browser.wasm")
	build := exec.Command("go", "build", "-o", program, "./testdata/browser")
	build.Env = append(build.Environ(), "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return func(env ...string) string {
		t.Helper()
		run := exec.CommandContext(t.Context(), "node", "--experimental-websocket", "--stack-size=8192", filepath.Join(strings.TrimSpace(string(root)), "lib/wasm/wasm_exec_node.js"), program)
		run.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...) // wasm_exec refuses a large environment
		var complaints strings.Builder
		run.Stderr = &complaints
		out, err := run.Output()
		if err != nil {
			t.Fatalf("%v\n%s%s", err, out, complaints.String())
		}
		return string(out)
	}
}

// TestInBrowser: the js build fetches over the browser's WebSocket, tells of an unknown Hypha, and ends.
func TestInBrowser(t *testing.T) {
	run := inBrowser(t)
	w := replicationtest.Writer(t, 0, replicationtest.Blocks(300, 10_000)...)
	n, _ := replicationtest.Node(t, replication.Config{}, w)
	l, _ := listen(t, n, "127.0.0.1:0")
	key := "KEY=" + w.Key().String()
	if out := run("URL="+l.URL(), key, "WANT=300"); !strings.Contains(out, "blocks: 300\n") || !strings.Contains(out, "ended: session: context canceled") {
		t.Errorf("it said %s", out)
	}
	if out := run("URL="+l.URL(), "KEY="+replicationtest.Key(1).String(), "WANT=1"); !strings.Contains(out, "no WebSocket came about") {
		t.Errorf("of an unknown Hypha it said %s", out)
	}
}
