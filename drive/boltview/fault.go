package boltview

import (
	"fmt"
	"runtime/debug"

	"hyphafs.org/hyphafs/drive/view"
)

// fault says that a page of the file could not be read, or is not what it has to be.
type fault struct{ why string }

// Error tells which.
func (f *fault) Error() string { return f.why }

// Unwrap tells what to do.
func (f *fault) Unwrap() error { return view.ErrDamaged }

// guarded runs fn. If it meets a page of the mapped file that the disk does not give, or that bbolt cannot make sense of, upon which it panics with a text, that
// is a *fault, and not the end of the process.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			err = &fault{fmt.Sprintf("the disk cannot read the page at %#x", r.Addr())}
		case string:
			err = &fault{r}
		default:
			panic(r)
		}
	}()
	return fn()
}
