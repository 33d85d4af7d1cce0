package gate_test

import (
	"errors"
	"fmt"
	"testing"

	"hyphafs.org/hyphafs/replication/gate"
)

func TestGate(t *testing.T) {
	g := gate.New(6, 2)
	enter := func(address string, want error) func() {
		t.Helper()
		leave, err := g.Enter(address)
		if !errors.Is(err, want) {
			t.Fatalf("%s: %v, want %v", address, err, want)
		}
		return leave
	}
	first := enter("192.0.2.1:1000", nil)
	enter("[::ffff:192.0.2.1]:1001", nil)
	enter("192.0.2.1:1002", gate.ErrCrowded)
	enter("192.0.2.2:1002", nil)
	first()
	first() // counts once
	enter("192.0.2.1", nil)
	enter("192.0.2.1:1003", gate.ErrCrowded)
	enter("[2001:db8::1]:1", nil)
	enter("[2001:db8::2]:1", nil)
	enter("[2001:db8::3]:1", gate.ErrCrowded)
	enter("[2001:db8:0:1::1]:1", nil)
	enter("[2001:db8:0:2::1]:1", gate.ErrFull)
	if n := g.Count(); n != 6 {
		t.Errorf("%d connections", n)
	}
}

// TestLoopback: only the sum bounds connections from this machine.
func TestLoopback(t *testing.T) {
	g := gate.New(5, 1)
	for i := range 5 {
		if _, err := g.Enter(fmt.Sprintf([]string{"127.0.0.1:%d", "[::1]:%d"}[i%2], i+1)); err != nil {
			t.Error(i, err)
		}
	}
	if _, err := g.Enter("127.0.0.1:9"); !errors.Is(err, gate.ErrFull) {
		t.Error(err)
	}
}

func TestNoGate(t *testing.T) {
	var g *gate.Gate
	leave, err := g.Enter("192.0.2.1:1000")
	if err != nil {
		t.Fatal(err)
	}
	leave()
}
