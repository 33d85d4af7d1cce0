package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestKillKeepsWhatWasWritten: a write that returned outlives the node, fsynced or not, although others grow, change, link, open and close the same file, and write elsewhere, when
// the node is killed.
func TestKillKeepsWhatWasWritten(t *testing.T) {
	const rounds, growers, block = 4, 3, 64 << 10
	n := newNode(t, "Hypha")
	n.signUp("Desktop")
	for round := range rounds {
		file := filepath.Join(n.dir, fmt.Sprintf("file %d", round))
		if err := os.WriteFile(file, make([]byte, 2*block), 0o644); err != nil {
			t.Fatal(err)
		}
		killed := make(chan struct{})
		var working sync.WaitGroup
		again := func(step func(k int) error) { // until the node is killed, upon which all fails
			working.Go(func() {
				for k := 0; ; k++ {
					err := step(k)
					select {
					case <-killed:
						return
					default:
					}
					if err != nil {
						n.t.Error(err)
						return
					}
				}
			})
		}
		open := func(name string) *os.File {
			f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() }) // its mount is gone
			return f
		}
		text := func(w, k int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%04d %06d\n", w, k), 500) }
		var written [growers]int // how many blocks each has written
		for w := range growers {
			f := open(file)
			again(func(k int) error {
				_, err := f.WriteAt(text(w, k), int64(k*growers+w)*block)
				if err == nil {
					written[w] = k + 1
				}
				return err
			})
		}
		busy := open(file + " busy")
		again(func(k int) error {
			_, err := busy.WriteAt(text(0, k), int64(k%1000)*block)
			return err
		})
		again(func(k int) error { return os.Chmod(file, 0o600+os.FileMode(k%2)*0o44) })
		again(func(int) error { return errors.Join(os.Link(file, file+" link"), os.Remove(file+" link")) })
		again(func(int) error {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			return f.Close()
		})
		<-time.After(500 * time.Millisecond) // what the kill interrupts
		close(killed)
		n.kill()
		working.Wait()
		n.mount()
		f := open(file)
		lost := 0
		for w, blocks := range written {
			for k := range blocks {
				want := text(w, k)
				got := make([]byte, len(want))
				if _, err := f.ReadAt(got, int64(k*growers+w)*block); err != nil || !bytes.Equal(got, want) {
					lost++
				}
			}
		}
		if lost > 0 {
			t.Errorf("round %d: %d of %d blocks that were written are not there", round, lost, written)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	n.stop()
	n.check()
}
