package mounts

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const table = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 22 0:25 / /home/a/Hypha rw,nosuid,nodev shared:9 master:2 - fuse.hyphafs /home/a/.local/share/hyphafs/anna.example rw,user_id=0
32 22 0:26 / /home/a/My\040Hypha rw - fuse.hyphafs /data/with\040space\134x rw
33 31 0:27 / /home/a/Hypha/inner rw - fuse.hyphafs /inner rw
34 22 0:28 / /home/a/other rw - fuse.sshfs host: rw
broken line
35 22 0:29 / /short rw -
`

func TestParse(t *testing.T) {
	got, err := parse(strings.NewReader(table))
	want := []Mount{
		{"/home/a/Hypha", "/home/a/.local/share/hyphafs/anna.example"},
		{"/home/a/My Hypha", `/data/with space\x`},
		{"/home/a/Hypha/inner", "/inner"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestFind(t *testing.T) {
	list := []Mount{{"/h", "a"}, {"/h/inner", "b"}, {"/other", "c"}, {"/h", "d"}}
	for path, want := range map[string]string{"/h": "d", "/h/x": "d", "/h/inner/x/y": "b", "/hh": "", "/": "", "/other": "c"} {
		got, ok := Find(list, path)
		if got.State != want || ok != (want != "") {
			t.Errorf("%s: got %q, %v", path, got.State, ok)
		}
	}
	if got, _ := Find([]Mount{{"/", "root"}}, "/x"); got.State != "root" {
		t.Errorf("a mount on / holds everything, got %q", got.State)
	}
}

func TestRealResolvesLinks(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(base, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("dir", filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{"dir": "dir", "link": "dir", "link/missing": "dir/missing", "link/missing/deeper": "link/missing/deeper"} {
		if got, err := Real(filepath.Join(base, in)); err != nil || got != filepath.Join(base, want) {
			t.Errorf("%s: got %q, %v", in, got, err)
		}
	}
}

func TestListReadsTheKernelsTable(t *testing.T) {
	if _, err := List(); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(table)
	f.Add(`1 2 3 4 \04 - fuse.hyphafs \777`)
	f.Fuzz(func(t *testing.T, s string) {
		list, err := parse(strings.NewReader(s))
		if err == nil {
			Find(list, "/x")
		}
	})
}
