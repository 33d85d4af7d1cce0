package auth

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"
)

// FuzzReceive: whatever a peer sends, sealed or not, at most one request is shown for it, fit to be a folder; and the Inbox goes on.
func FuzzReceive(f *testing.F) {
	v := readEphemeral(f)
	for _, m := range v.Secure {
		f.Add([]byte(m.Message), []byte(m.PlaintextBytes))
	}
	for _, m := range v.Bad.Messages {
		f.Add([]byte(m.Message), []byte("{}"))
	}
	text, err := NewRequest(identityOf(f).Source, writerKey(7), "Laptop", noon, reader{[]byte{5}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, text)
	f.Fuzz(func(t *testing.T, message, text []byte) {
		it := newInboxTest(t)
		it.Receive("a peer", message)
		it.Receive("a peer", it.seal(text))
		open := it.Requests()
		if len(open) > 2 {
			t.Fatalf("%d requests for two messages", len(open))
		}
		for _, r := range open {
			if r.Name != CleanName(r.Name) || !json.Valid(r.JSON) || len(r.Dir) > 32+9 {
				t.Fatalf("%+v", r)
			}
		}
		it.Receive("another peer", it.signed(writerKey(9), "Desktop", it.now))
		if got := it.Requests(); len(got) != len(open)+1 {
			t.Fatalf("the next request is not shown: %+v", got)
		}
	})
}

// FuzzRefusals: the list of refusals that is taken from disk is kept the same; one that cannot be read begins anew.
func FuzzRefusals(f *testing.F) {
	f.Add(fmt.Appendf(nil, `{"laptop-01234567": "%064d"}`, 7))
	f.Add([]byte(`{"a": 1}`))
	f.Fuzz(func(t *testing.T, kept []byte) {
		it := newInboxTest(t)
		it.store.b = kept
		it.restart()
		denied := maps.Clone(it.denied)
		if err := it.save(); err != nil {
			t.Fatal(err)
		}
		it.restart()
		if !maps.Equal(it.denied, denied) {
			t.Fatalf("%v became %v", denied, it.denied)
		}
	})
}

// FuzzCleanDomain: a domain that is clean stays as it is.
func FuzzCleanDomain(f *testing.F) {
	f.Add(" Anna.Example ")
	f.Add("\u0130\xff..")
	f.Fuzz(func(t *testing.T, domain string) {
		clean, err := CleanDomain(domain)
		if err != nil {
			return
		}
		if again, err := CleanDomain(clean); err != nil || again != clean {
			t.Fatalf("%q became %q, then %q (%v)", domain, clean, again, err)
		}
	})
}
