package kdf

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

func TestVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/keys.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		KDF []struct {
			Master  string `json:"master"`
			ID      uint64 `json:"id"`
			Context string `json:"context"`
			Length  int    `json:"length"`
			Subkey  string `json:"subkey"`
		} `json:"kdf"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.KDF) == 0 {
		t.Fatal("no vectors")
	}
	for _, c := range v.KDF {
		m, err := hex.DecodeString(c.Master)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Derive([32]byte(m), c.ID, [8]byte([]byte(c.Context)), c.Length)
		if err != nil || hex.EncodeToString(got) != c.Subkey {
			t.Errorf("%s %d: %x %v, want %s", c.Context, c.ID, got, err, c.Subkey)
		}
	}
}

func TestLengths(t *testing.T) {
	for _, n := range []int{-1, 0, 15, 65} {
		if _, err := Derive([32]byte{}, 1, [8]byte{}, n); err == nil {
			t.Errorf("%d bytes were given", n)
		}
	}
	a, err := Key32([32]byte{1}, 1, [8]byte{'a'})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Key32([32]byte{1}, 2, [8]byte{'a'})
	if err != nil || a == b {
		t.Errorf("two ids gave one key (%v)", err)
	}
}
