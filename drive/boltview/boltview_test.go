package boltview

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"hyphafs.org/hyphafs/drive/view"
	"hyphafs.org/hyphafs/drive/view/viewtest"
)

func TestKV(t *testing.T) {
	path := filepath.Join(t.TempDir(), "view.db")
	viewtest.Run(t, func(t *testing.T) view.KV {
		db, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return db
	})
}

// TestTemporary: a temporary view leaves nothing in its folder, and takes updates until it is closed.
func TestTemporary(t *testing.T) {
	dir := t.TempDir()
	db, err := Temporary(dir)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
		t.Errorf("in the folder: %v, %v", left, err)
	}
	if err := db.Update(func(tx view.Tx) error { return tx.Put([]byte("key"), []byte("value")) }); err != nil {
		t.Error(err)
	}
	err = db.View(func(tx view.Tx) error {
		b, err := tx.Get([]byte("key"))
		if string(b) != "value" {
			t.Errorf("read %q", b)
		}
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Error(err)
	}
	if _, err := Temporary(dir + "/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in no folder: %v", err)
	}
}

func TestNotAView(t *testing.T) {
	path := filepath.Join(t.TempDir(), "view.db")
	for _, size := range []int{1, 4095, 8061, 64 << 10} { // the first ones are what a torn first write may leave
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, view.ErrDamaged) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || errors.Is(err, view.ErrDamaged) {
		t.Errorf("a directory: %v", err)
	}
}

// TestPagesThatCannotBeRead: a file that ends below its mapping gives the SIGBUS that a failing disk gives. It is an error for who needs the page.
func TestPagesThatCannotBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "view.db")
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	row := func(i int) []byte { return fmt.Appendf(nil, "%08d", i) }
	fill := func(tx view.Tx) error {
		for i := range 20_000 {
			if err := tx.Put(row(i), make([]byte, 100)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := db.Update(fill); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(2*os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	if err := db.View(func(tx view.Tx) error { _, err := tx.Get(row(7777)); return err }); !errors.Is(err, view.ErrDamaged) {
		t.Errorf("read: %v", err)
	}
	for range 2 {
		if err := db.Update(fill); !errors.Is(err, view.ErrDamaged) {
			t.Errorf("write: %v", err)
		}
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	short, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	path += ".short"
	if err := os.WriteFile(path, short, 0o600); err != nil {
		t.Fatal(err)
	}
	if db, err := Open(path); !errors.Is(err, view.ErrDamaged) {
		t.Errorf("open: %v %v", db, err)
	}
}

// TestPagesOfAnotherKind: a file whose pages are not what they have to be is damaged, and ends no process.
func TestPagesOfAnotherKind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "view.db")
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 2 * os.Getpagesize(); i < len(b); i++ { // behind the two meta pages
		b[i] = 0xfe
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if db, err := Open(path); !errors.Is(err, view.ErrDamaged) {
		t.Errorf("open: %v %v", db, err)
	}
}
