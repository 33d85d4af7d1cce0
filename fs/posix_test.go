package fs_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"hyphafs.org/hyphafs/fs"
)

// notOurs are tests of posixtest that say nothing about us, with the reason.
var notOurs = map[string]string{
	"FcntlFlockLocksFile": "demands that flock and fcntl locks exclude each other, which no Linux file system does",
}

func TestPosix(t *testing.T) {
	m := mount(t, setup{Options: fs.Options{AllowOther: true}})
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		t.Run(name, func(t *testing.T) {
			if why, skip := notOurs[name]; skip {
				t.Skip(why)
			}
			dir := filepath.Join(m.dir, name)
			if err := os.Mkdir(dir, 0755); err != nil {
				t.Fatal(err)
			}
			posixtest.All[name](t, dir)
		})
	}
}
