package boltview

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"hyphafs.org/hyphafs/drive/view"
)

// TestPagesAreLetGo: whoever reads a large file once keeps little of it in memory, and what was read before stays what it was.
func TestPagesAreLetGo(t *testing.T) {
	const rows, size = 2 * trimEvery / pageSize, 64 << 10
	db, err := Open(filepath.Join(t.TempDir(), "view.db"))
	if err != nil {
		t.Fatal(err)
	}
	row := func(i int) []byte { return fmt.Appendf(nil, "%08d", i) }
	value := func(i int) []byte { return bytes.Repeat(row(i), size/8) }
	err = db.Update(func(tx view.Tx) error {
		for i := range rows {
			if err := tx.Put(row(i), value(i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	before := residentFile(t)
	err = db.View(func(tx view.Tx) error {
		var first []byte
		for i := range rows {
			b, err := tx.Get(row(i))
			if err != nil {
				return err
			}
			if !bytes.Equal(b, value(i)) {
				t.Errorf("row %d is another one", i)
			}
			if i == 0 {
				first = b
			}
		}
		if kept := residentFile(t) - before; kept > rows*size/2 {
			t.Errorf("%d MiB more of a file of %d MiB are in memory", kept>>20, rows*size>>20)
		}
		if !bytes.Equal(first, value(0)) {
			t.Error("what was read first changed")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// residentFile is how many bytes of mapped files are in this process's memory.
func residentFile(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`RssFile:\s+([0-9]+) kB`).FindSubmatch(b)
	if m == nil {
		t.Fatal("no RssFile")
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}
