package boltview

import (
	"fmt"
	"runtime/debug"

	"hyphafs.org/hyphafs/drive/view"
)

// fault says that a page of the file could not be read.
type fault struct{ address uintptr }

// Error tells where.
func (f *fault) Error() string { return fmt.Sprintf("the disk cannot read the page at %#x", f.address) }

// Unwrap tells what to do.
func (f *fault) Unwrap() error { return view.ErrDamaged }

// guarded runs fn. If it meets a page of the mapped file that the disk does not give, that is a *fault, and not the end of the process.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			err = &fault{r.Addr()}
		default:
			panic(r)
		}
	}()
	return fn()
}
