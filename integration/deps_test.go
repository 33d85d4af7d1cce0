package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const module = "hyphafs.org/hyphafs/"

// browser lists the packages that the browser node is made of.
var browser = []string{"drive", "drive/hypercore", "drive/hyperdb", "drive/record", "drive/view", "drive/kdf", "auth", "replication", "replication/wire", "replication/redial", "replication/ws"}

// rules says which package may not depend, not even indirectly, on which, and why. A trailing "/..." covers everything below; " but " leaves something out.
var rules = []struct{ pkg, forbidden, why string }{
	{"drive/...", module + "fs", "the drive knows no FUSE"},
	{"drive/...", module + "auth", "the drive takes keys, it does not derive them"},
	{"drive/...", module + "replication", "the drive knows no peers"},
	{"drive/...", "github.com/hanwen/go-fuse/v2/...", "the drive knows no FUSE"},
	{"drive/...", "github.com/urfave/cli/v2", "flags belong to cmd"},
	{"drive/... but drive/archive/s3/...", "net", "the drive knows no sockets"},
	{"drive", "go.etcd.io/bbolt", "bbolt does not build for the browser; it lives in drive/boltview"},
	{"drive/view", "go.etcd.io/bbolt", "bbolt does not build for the browser; it lives in drive/boltview"},
	{"drive/hypercore", module + "drive/record", "a feed knows no records"},
	{"drive/hypercore", module + "drive/hyperdb", "a feed knows no database"},
	{"drive/hypercore", module + "drive/view", "a feed knows no view"},
	{"drive/hyperdb", module + "drive/record", "the database knows no files"},
	{"drive/hyperdb", module + "drive/view", "the database knows no files"},
	{"drive/... but drive/archive/s3/...", "github.com/minio/minio-go/v7/...", "the object store is reached by drive/archive/s3 alone"},
	{"drive/archive", module + "drive/archive/s3", "a bucket is given to it"},
	{"drive/archive", module + "drive/hyperdb", "the archive keeps feeds, whatever is in them"},
	{"drive/archive", module + "drive/record", "the archive keeps feeds, whatever is in them"},
	{"drive/archive", "go.etcd.io/bbolt", "what an instance has is in the bucket, not in a database beside it"},
	{"drive", module + "drive/archive", "a drive's feeds are on its own disk"},
	{"replication/...", "github.com/minio/minio-go/v7/...", "the object store is reached by drive/archive/s3 alone"},
	{"fs", "github.com/minio/minio-go/v7/...", "the object store is reached by drive/archive/s3 alone"},
	{"auth", "github.com/minio/minio-go/v7/...", "the object store is reached by drive/archive/s3 alone"},
	{"auth", module + "fs", "auth knows no mount"},
	{"auth", module + "replication", "auth hands its messages to a sender it declares"},
	{"auth", "net", "auth knows no sockets"},
	{"fs", module + "auth", "the mount asks for approval through its own interface"},
	{"fs", module + "replication", "the mount knows no peers"},
	{"fs", "go.etcd.io/bbolt", "the mount knows no database"},
	{"replication/...", module + "auth", "replication hands opaque bytes to a handler"},
	{"replication/...", module + "fs", "replication knows no mount"},
	{"replication", "net", "the core speaks over any connection; sockets live in the transports"},
	{"replication/datdns", module + "replication/wire", "Dat DNS knows keys and HTTPS, no sessions"},
	{"replication", "github.com/gorilla/websocket", "the core speaks over any connection; sockets live in the transports"},
	{"replication/tcp", "net/http", "each transport carries what it needs"},
	{"replication/redial", "net", "the transports dial"},
	{"replication/gate", module + "drive", "a gate knows addresses"},
	{"cmd/hyphafs/internal/serve", module + "auth", "an always-on node has no key but the read key, and approves nobody"},
	{"cmd/hyphafs/internal/serve", module + "fs", "an always-on node mounts nothing"},
	{"cmd/hyphafs/internal/serve", module + "cmd/hyphafs/internal/node", "an always-on node is no mounted one"},
	{"cmd/hyphafs/internal/transport", module + "drive/view", "a transport knows keys and connections"},
	{"cmd/hyphafs/internal/certs", module + "...", "certificates are for any server"},
	{"cmd/hyphafs/internal/sdnotify", module + "...", "a service manager knows any process"},
	{"replication/wire", "net", "pure bytes in and out"},
	{"replication/wire", module + "drive", "pure bytes in and out"},
}

// listed is what go list tells of one package.
type listed struct {
	ImportPath string
	Deps       []string
	Error      *struct{ Err string }
}

// dependencies maps each of our packages to everything it depends on when built for goos and goarch.
func dependencies(t *testing.T, goos, goarch string, patterns ...string) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-e", "-deps", "-json=ImportPath,Deps,Error"}, patterns...)...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	found := map[string][]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if rest, ours := strings.CutPrefix(p.ImportPath, module); ours {
			if p.Error != nil {
				t.Errorf("%s/%s: %s: %s", goos, goarch, rest, p.Error.Err)
			}
			found[rest] = p.Deps
		}
	}
	return found
}

// matches reports whether path is the pattern or, if the pattern ends in "/...", lies at or below it.
func matches(pattern, path string) bool {
	if base, below := strings.CutSuffix(pattern, "/..."); below {
		return path == base || strings.HasPrefix(path, base+"/")
	}
	return path == pattern
}

// TestImports keeps the layers apart: the table is the architecture.
func TestImports(t *testing.T) {
	native := dependencies(t, "linux", "amd64", "./...")
	inBrowser := dependencies(t, "js", "wasm", prefixed(browser)...)
	for _, rule := range rules {
		used := false
		for _, packages := range []map[string][]string{native, inBrowser} {
			for pkg, deps := range packages {
				of, but, _ := strings.Cut(rule.pkg, " but ")
				if !matches(of, pkg) || but != "" && matches(but, pkg) {
					continue
				}
				used = true
				for _, dep := range deps {
					if matches(rule.forbidden, dep) {
						t.Errorf("%s depends on %s: %s", pkg, dep, rule.why)
					}
				}
			}
		}
		if !used {
			t.Errorf("the rule for %s matches no package", rule.pkg)
		}
	}
	for pkg, deps := range native {
		for _, dep := range deps {
			if dep == module+"integration" || matches(module+"cmd/...", dep) && !strings.HasPrefix(pkg, "cmd/") {
				t.Errorf("%s depends on %s, which nobody imports", pkg, dep)
			}
		}
	}
}

// TestBrowserBuild compiles for the browser what the browser node is made of.
func TestBrowserBuild(t *testing.T) {
	cmd := exec.Command("go", append([]string{"build"}, prefixed(browser)...)...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func prefixed(packages []string) []string {
	out := make([]string, len(packages))
	for i, p := range packages {
		out[i] = "./" + p
	}
	return out
}
