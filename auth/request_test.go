package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 123e6, time.UTC)

func keyOf(writer ed25519.PrivateKey) hypercore.Key {
	return hypercore.Key(writer.Public().(ed25519.PublicKey))
}

func TestRequest(t *testing.T) {
	source, writer := hypercore.Key{1}, writerKey(7)
	text, err := NewRequest(source, writer, " Müller’s\n<b>laptop</b> & 📱 ", noon.In(time.FixedZone("", 3600)), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a, err := parseRequest(source, text)
	if err != nil {
		t.Fatal(err)
	}
	if a.key != keyOf(writer) || a.name != CleanName(" Müller’s\n<b>laptop</b> & 📱 ") || !a.time.Equal(noon) || a.proof != ProofSignature || len(a.nonce) != 48 {
		t.Errorf("%+v", a)
	}
	// What JavaScript's JSON.stringify would write, in the order of 2019.
	key := keyOf(writer)
	want := `{"nodeName":"` + a.name + `","timestamp":"2026-01-02T12:00:00.123Z","action":"authorise","readKey":"` + key.String() + `","nonce":"` + a.nonce + `","signature":"`
	if !strings.HasPrefix(string(text), want) {
		t.Errorf("%s, want %s", text, want)
	}
	other, err := NewRequest(source, writer, "x", noon, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := parseRequest(source, other); err != nil || b.nonce == a.nonce {
		t.Error("the same nonce again", err)
	}
	if _, err := NewRequest(source, writer, "x", noon, iotest.ErrReader(errors.New("none"))); err == nil {
		t.Error("a request without randomness")
	}
	// The longest name that is sent fits into a message.
	text, err = NewRequest(source, writer, strings.Repeat("📱", 5000), noon, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseRequest(source, text); err != nil {
		t.Error(err)
	}
	if m, err := SealMessage([32]byte{}, text, rand.Reader); err != nil || len(m) > maxMessage {
		t.Error(len(m), err)
	}
}

func TestRequestSignature(t *testing.T) {
	// The bytes that are signed, written out: other programs must be able to make them.
	source, writer := hypercore.Key{1}, writerKey(7)
	text, err := NewRequest(source, writer, "Laptop", noon, reader{[]byte{5}})
	if err != nil {
		t.Fatal(err)
	}
	var w wireRequest
	if err := json.Unmarshal(text, &w); err != nil {
		t.Fatal(err)
	}
	key := keyOf(writer)
	b := "hyphafs authorise 1\x00" + string(source[:]) + string(key[:]) + strings.Repeat("\x05", 24) +
		"\x00\x00\x00\x06Laptop" + "\x00\x00\x00\x182026-01-02T12:00:00.123Z"
	signature, err := hex.DecodeString(w.Signature)
	if err != nil || !ed25519.Verify(key[:], []byte(b), signature) {
		t.Error("not over these bytes", err)
	}
}

func TestRequestTampering(t *testing.T) {
	source, writer := hypercore.Key{1}, writerKey(7)
	text, err := NewRequest(source, writer, "Laptop", noon, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var good map[string]string
	if err := json.Unmarshal(text, &good); err != nil {
		t.Fatal(err)
	}
	if len(good) != 6 {
		t.Fatal(good)
	}
	other := keyOf(writerKey(8))
	flip := func(s string) string { // another digit at the end
		if strings.HasSuffix(s, "1") {
			return s[:len(s)-1] + "0"
		}
		return s[:len(s)-1] + "1"
	}
	for field, values := range map[string][]string{
		"nodeName":  {"", "Laptop ", "laptop", "Laptop2", strings.Repeat("x", maxName+1)},
		"timestamp": {"", "2026-01-02T12:00:00.124Z", "2026-01-02T12:00:00.1230Z", "2026-01-02T13:00:00.123+01:00", "now", "1"},
		"action":    {"", "Authorise", "authorize", "deny"},
		"readKey":   {"", other.String(), flip(good["readKey"]), good["readKey"] + "00", good["readKey"][2:], "zz"},
		"nonce":     {"", flip(good["nonce"]), good["nonce"] + "00", good["nonce"][2:], "zz", strings.Repeat("0", 48)},
		"signature": {"", flip(good["signature"]), good["signature"] + "00", good["signature"][2:], "zz", strings.Repeat("0", 128)},
	} {
		for _, value := range append(values, "\x00missing") {
			changed := maps.Clone(good)
			changed[field] = value
			if value == "\x00missing" {
				delete(changed, field)
			}
			b, err := json.Marshal(changed)
			if err != nil {
				t.Fatal(err)
			}
			if a, err := parseRequest(source, b); !errors.Is(err, ErrRequest) {
				t.Errorf("%s %q: %+v, %v", field, value, a, err)
			}
		}
		changed := map[string]any{}
		for k, v := range good {
			changed[k] = v
		}
		changed[field] = 1
		b, err := json.Marshal(changed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseRequest(source, b); !errors.Is(err, ErrRequest) {
			t.Errorf("%s as a number: %v", field, err)
		}
	}
	if _, err := parseRequest(hypercore.Key{2}, text); !errors.Is(err, ErrRequest) {
		t.Error("for another Hypha:", err)
	}
	for _, text := range []string{"", "{}", "null", "[]", "1", `"authorise"`, `{"action":"authorise"}`} {
		if _, err := parseRequest(source, []byte(text)); !errors.Is(err, ErrRequest) {
			t.Errorf("%q: %v", text, err)
		}
	}

	// Only when both are gone it is an original node's.
	delete(good, "nonce")
	delete(good, "signature")
	b, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := parseRequest(source, b); err != nil || a.proof != ProofNone || a.nonce != "" || a.name != "Laptop" {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestRequestVectors(t *testing.T) {
	taken := 0
	for _, m := range readEphemeral(t).Secure {
		a, err := parseRequest(hypercore.Key{1}, m.PlaintextBytes)
		if err == nil {
			taken++
			if a.proof != ProofNone || a.nonce != "" || a.name == "" || a.time.Year() != 2019 {
				t.Errorf("%+v", a)
			}
		} else if !errors.Is(err, ErrRequest) {
			t.Error(err)
		}
	}
	if taken != 2 {
		t.Errorf("%d requests in the vectors", taken)
	}
}

func FuzzParseRequest(f *testing.F) {
	source := hypercore.Key{1}
	for _, m := range readEphemeral(f).Secure {
		f.Add([]byte(m.PlaintextBytes))
	}
	text, err := NewRequest(source, writerKey(7), "Laptop", noon, reader{[]byte{5}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := parseRequest(source, text)
		switch {
		case err != nil && (a != asked{} || !errors.Is(err, ErrRequest)):
			t.Errorf("%+v, %v", a, err)
		case err == nil && (len(a.name) > maxName || (a.proof == ProofSignature) != (len(a.nonce) == 2*nonceSize) || (a.proof == ProofNone) != (a.nonce == "")):
			t.Errorf("%+v", a)
		}
	})
}
