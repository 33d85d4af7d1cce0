// Package viewtest is one suite for every implementation of view.KV.
package viewtest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"hyphafs.org/hyphafs/drive/view"
)

// Run checks that the store that open returns, empty at first, is a view.KV. open is called again to see what lasts; it is
// called after the last Close only.
func Run(t *testing.T, open func(t *testing.T) view.KV) {
	kv := open(t)
	model := map[string]string{}
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 30 {
		fail := round%5 == 4
		next := map[string]string{}
		for k, v := range model {
			next[k] = v
		}
		err := kv.Update(func(tx view.Tx) error {
			for range 40 {
				k := fmt.Sprintf("%c/%d", 'a'+rng.IntN(3), rng.IntN(60))
				if rng.IntN(3) == 0 {
					if err := tx.Delete([]byte(k)); err != nil {
						return err
					}
					delete(next, k)
					continue
				}
				v := fmt.Sprint(rng.IntN(1000))
				buf := []byte(v)
				if err := tx.Put([]byte(k), buf); err != nil {
					return err
				}
				clear(buf) // the store must have its own copy
				next[k] = v
			}
			if err := compare(tx, next); err != nil {
				return err
			}
			if fail {
				return errStop
			}
			return nil
		})
		if fail != errors.Is(err, errStop) || !fail && err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if !fail {
			model = next
		}
		if err := kv.View(func(tx view.Tx) error { return compare(tx, model) }); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	if err := kv.View(func(tx view.Tx) error { return tx.Put([]byte("x"), nil) }); err == nil {
		t.Error("a View wrote")
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t)
	if err := again.View(func(tx view.Tx) error { return compare(tx, model) }); err != nil {
		t.Errorf("after opening again: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

var errStop = errors.New("stop")

// compare looks for everything of model by Get and by Scan.
func compare(tx view.Tx, model map[string]string) error {
	var keys []string
	for k, v := range model {
		keys = append(keys, k)
		if got, err := tx.Get([]byte(k)); err != nil || string(got) != v {
			return fmt.Errorf("get %q: %q %w, want %q", k, got, err, v)
		}
	}
	if got, err := tx.Get([]byte("none")); err != nil || got != nil {
		return fmt.Errorf("get of a missing key: %q %w", got, err)
	}
	slices.Sort(keys)
	for _, c := range []struct{ prefix, from string }{{"", ""}, {"b/", ""}, {"b/", "b/3"}, {"b/", "a"}, {"z", ""}} {
		var want, got []string
		for _, k := range keys {
			if bytes.HasPrefix([]byte(k), []byte(c.prefix)) && k >= c.from {
				want = append(want, k)
			}
		}
		err := tx.Scan([]byte(c.prefix), []byte(c.from), func(k, v []byte) (bool, error) {
			if string(v) != model[string(k)] {
				return false, fmt.Errorf("scan: %q is %q", k, v)
			}
			got = append(got, string(k))
			return true, nil
		})
		if err != nil || !slices.Equal(got, want) {
			return fmt.Errorf("scan %+v: %q, want %q (%w)", c, got, want, err)
		}
	}
	return nil
}
