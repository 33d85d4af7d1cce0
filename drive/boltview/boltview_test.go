package boltview

import (
	"errors"
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

func TestNotAView(t *testing.T) {
	path := filepath.Join(t.TempDir(), "view.db")
	if err := os.WriteFile(path, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, view.ErrDamaged) {
		t.Error(err)
	}
}
