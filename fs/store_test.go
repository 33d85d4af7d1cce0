package fs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSmallFileComesWithOpen: who opened a small file reads it although its bytes cannot be had any more, and a change of a peer is seen all the same.
func TestSmallFileComesWithOpen(t *testing.T) {
	m := mount(t, setup{})
	m.ask(order{Op: "write", Path: "f", Data: []byte("small")})
	f, err := os.Open(filepath.Join(m.dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m.ask(order{Op: "stall", Path: "f"})
	done := make(chan string, 1)
	go func() {
		b := make([]byte, 10)
		n, err := f.Read(b)
		done <- fmt.Sprint(string(b[:n]), " ", err)
	}()
	select {
	case got := <-done:
		if got != "small <nil>" {
			t.Errorf("read %q", got)
		}
	case <-time.After(10 * time.Second): // the read waits for a peer
		t.Fatal("the kernel asked for the bytes")
	}
}

// TestStoredBytesAreNeverOld: while one program opens a small file for the first time, another one, or a peer, changes it. Afterwards everybody reads the change.
func TestStoredBytesAreNeverOld(t *testing.T) {
	m := mount(t, setup{})
	write := func(flags int) func(path, text string) error {
		return func(path, text string) error {
			fd, err := unix.Open(path, unix.O_WRONLY|flags, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			_, err = unix.Write(fd, []byte(text))
			return err
		}
	}
	ways := []func(path, text string) error{
		write(0),
		write(unix.O_TRUNC),
		func(path, text string) error { return unix.Truncate(path, int64(len(text))) },
		func(path, text string) error {
			m.ask(order{Op: "write", Path: filepath.Base(path), Data: []byte(text)})
			return nil
		},
	}
	for i := range 400 {
		name := fmt.Sprint("f", i)
		path := filepath.Join(m.dir, name)
		m.ask(order{Op: "write", Path: name, Data: []byte("what it was")})
		stat(t, path)
		var both sync.WaitGroup
		both.Go(func() {
			if f, err := os.Open(path); err != nil {
				t.Error(err)
			} else if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
		text := "what it is!"
		if i%len(ways) == 2 {
			text = "what" // cut off
		}
		both.Go(func() {
			if err := ways[i%len(ways)](path, text); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		m.ask(order{Op: "write", Path: "last", Data: []byte("x")}) // what was to be told before is told then
		if got := read(t, path); got != text {
			t.Fatalf("%s reads %q after way %d", name, got, i%len(ways))
		}
	}
}
