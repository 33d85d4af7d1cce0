// Package boltview keeps the view of a drive in a bbolt file. It is a package of its own because bbolt does not build for the
// browser.
//
// Every Update is a synced commit: the view moves in batches, so there are few. The file may be deleted while no node runs; the drive folds
// its feeds again. bbolt maps the file into memory: where the disk cannot read it, the process gets SIGBUS. That becomes view.ErrDamaged for the one
// call that needed the page (fault.go): what is on other pages can still be asked, the next start makes the view anew.
//
// A sync that fails may have dropped what it was to store, and the next one succeeds all the same. Before the last write of a commit that does no harm. Of the last one nobody
// knows which state is durable: the file is read on, but no longer written, and removed, so that the next start makes another.
package boltview

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"hyphafs.org/hyphafs/drive/view"
)

var bucket = []byte("view")

// mapped is how much of the address space is for the file from the start, in bytes: when it outgrows its mapping, bbolt waits for all readers and copies what
// the update at work holds of it.
const mapped = min(1<<30, math.MaxInt/64)

// DB is a view.KV in a file.
type DB struct {
	db      *bbolt.DB
	ahead   sync.WaitGroup // the goroutine that asks for the file's pages; ends when it has, or when closing is closed
	closing chan struct{}
	once    sync.Once // closes it

	reads  atomic.Int64 // bytes of the file that were read since it was looked how many of its pages are held
	failed atomic.Bool  // bbolt met a fault and may hold its locks for good
	unsure atomic.Bool  // which state is durable is not known: nothing more is written
}

// Open opens or makes the file at path, mode 0600. view.ErrDamaged if it is no view: delete it then.
func Open(path string) (d *DB, err error) {
	err = guarded(func() error {
		d, err = open(path)
		return err
	})
	return d, err
}

// Temporary makes a view in dir that has no name any more and is gone when it is closed, or with the process.
func Temporary(dir string) (*DB, error) {
	f, err := os.CreateTemp(dir, "view-*.tmp")
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	d, err := Open(f.Name())
	if err := errors.Join(err, os.Remove(f.Name())); err != nil {
		if d != nil {
			err = errors.Join(err, d.Close())
		}
		return nil, err
	}
	d.db.NoSync = true
	return d, nil
}

func open(path string) (*DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType, InitialMmapSize: mapped})
	var errno syscall.Errno
	switch {
	case err == nil:
	case errors.As(err, &errno), errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("open %s: %w", path, err)
	default: // neither the disk nor another process: what is in the file, whose first write may have been torn
		return nil, fmt.Errorf("open %s: %w (%w)", path, view.ErrDamaged, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucket)
		if err == nil {
			b.FillPercent = 0.7
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	d := &DB{db: db, closing: make(chan struct{})}
	d.ahead.Go(func() { _ = prefetch(path, d.closing) }) // without it reads are slower, no more
	return d, nil
}

// View runs fn on one state of the store.
func (d *DB) View(fn func(view.Tx) error) error {
	if d.failed.Load() {
		return errFailed
	}
	began := false
	err := guarded(func() error {
		return d.db.View(func(tx *bbolt.Tx) error {
			began = true
			return fn(&txn{d: d, b: tx.Bucket(bucket)})
		})
	})
	if !began {
		d.note(err)
	}
	return err
}

// errFailed says that the file is not used any more.
var errFailed = fmt.Errorf("%w: an earlier call met a page that cannot be read", view.ErrDamaged)

// note gives the file up if err is a fault in bbolt's own work: it may hold its locks for good.
func (d *DB) note(err error) {
	var f *fault
	if errors.As(err, &f) {
		d.failed.Store(true)
	}
}

// Update runs fn and commits what it wrote, synced.
func (d *DB) Update(fn func(view.Tx) error) error {
	if d.failed.Load() {
		return errFailed
	}
	if d.unsure.Load() {
		return errUnsure
	}
	err := guarded(func() error {
		id := 0
		err := d.db.Update(func(tx *bbolt.Tx) error {
			id = tx.ID()
			return fn(&txn{d: d, b: tx.Bucket(bucket)})
		})
		if err == nil {
			return nil
		}
		return errors.Join(err, d.db.View(func(tx *bbolt.Tx) error {
			if tx.ID() < id {
				return nil // as if it had not been tried: the next one writes all its pages again
			}
			d.unsure.Store(true) // a next one might reuse pages of the state that is durable
			return os.Remove(d.db.Path())
		}))
	})
	d.note(err)
	return err
}

// errUnsure says that an update reached its last write, whose sync failed.
var errUnsure = errors.New("the disk failed to store the view, which is made again at the next start")

// Close waits for transactions and releases the file. A DB that came out of Open owns one goroutine, which it waits for.
func (d *DB) Close() error {
	d.once.Do(func() { close(d.closing) })
	d.ahead.Wait()
	if d.failed.Load() {
		return nil // the end of the process releases it
	}
	return d.db.Close()
}

type txn struct {
	d    *DB
	b    *bbolt.Bucket
	idle *bbolt.Cursor // that no Scan uses, or nil: each has a stack of its own
}

// cursor returns one that is not in use; whoever is done with it puts it back into idle.
func (t *txn) cursor() *bbolt.Cursor {
	c := t.idle
	if t.idle = nil; c == nil {
		c = t.b.Cursor()
	}
	return c
}

func (t *txn) Get(key []byte) ([]byte, error) {
	c := t.cursor()
	k, v := c.Seek(key)
	t.idle = c
	if !bytes.Equal(k, key) {
		v = nil
	}
	return v, t.read(pageSize)
}

// read notes that so many bytes were read of pages that may be far from each other, and now and then lets its pages go if many are held: what was returned stays valid, since they come back when they are needed.
func (t *txn) read(bytes int) error {
	if t.d.reads.Add(int64(bytes)) < lookEvery {
		return nil
	}
	t.d.reads.Store(0)
	return trim(t.d.db, t.b.Tx())
}

func (t *txn) Put(key, value []byte) error {
	if !t.b.Writable() {
		return view.ErrReadOnly
	}
	if err := t.b.Put(bytes.Clone(key), bytes.Clone(value)); err != nil {
		return err
	}
	return t.read(pageSize) // its place was looked for
}

func (t *txn) Delete(key []byte) error {
	if !t.b.Writable() {
		return view.ErrReadOnly
	}
	if err := t.b.Delete(key); err != nil {
		return err
	}
	return t.read(pageSize)
}

func (t *txn) Scan(prefix, from []byte, fn func(key, value []byte) (bool, error)) error {
	start := prefix
	if bytes.Compare(from, prefix) > 0 {
		start = from
	}
	c := t.cursor()
	defer func() { t.idle = c }()
	k, v := c.Seek(start)
	if err := t.read(pageSize); err != nil {
		return err
	}
	for ; k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		more, err := fn(k, v)
		if err == nil {
			err = t.read(len(k) + len(v))
		}
		if err != nil || !more {
			return err
		}
	}
	return nil
}
