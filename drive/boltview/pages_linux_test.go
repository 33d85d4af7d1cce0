package boltview

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"hyphafs.org/hyphafs/drive/view"
)

// TestPagesAreLetGo: whoever reads a large file keeps no more than a part of it in memory, whoever reads a part of it keeps that, and what was read before stays what it was.
func TestPagesAreLetGo(t *testing.T) {
	const size = 64 << 10
	const rows = 2 * trimAbove / size
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
	err = db.View(func(tx view.Tx) error {
		read := func(rows int) (first []byte, err error) {
			for i := range rows {
				b, err := tx.Get(row(i))
				if err != nil {
					return nil, err
				}
				if !bytes.Equal(b, value(i)) {
					t.Errorf("row %d is another one", i)
				}
				if i == 0 {
					first = b
				}
			}
			return first, nil
		}
		first, err := read(rows)
		if err != nil {
			return err
		}
		if held := held(t); held > trimAbove+16*lookEvery {
			t.Errorf("%d MiB of files are held after a file of %d MiB was read", held>>20, rows*size>>20)
		}
		if err := trim(db.db, tx.(*txn).b.Tx()); err != nil {
			return err
		}
		few := (trimAbove - held(t)) / size / 2
		for range 4 {
			if _, err := read(few); err != nil {
				return err
			}
			if held := held(t); held < few*size {
				t.Errorf("%d MiB of files are held after %d MiB were read, which are below the bound", held>>20, few*size>>20)
			}
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

func held(t *testing.T) int {
	t.Helper()
	n, err := heldOfFiles()
	if err != nil {
		t.Fatal(err)
	}
	return n
}
