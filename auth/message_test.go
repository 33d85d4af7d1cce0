package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"testing"
	"testing/iotest"

	"golang.org/x/crypto/nacl/secretbox"
	"google.golang.org/protobuf/encoding/protowire"
)

// ephemeralVectors are ephemeral.json without the flows, which are the protocol's.
type ephemeralVectors struct {
	DEP0000 []struct{ Bytes hexBytes }
	Secure  []struct{ Key, Nonce, PlaintextBytes, Ciphertext, Message hexBytes }
	Bad     struct {
		Key      hexBytes
		Messages []struct {
			Why     string
			Message hexBytes
		}
	}
}

func readEphemeral(t testing.TB) (v ephemeralVectors) {
	t.Helper()
	readVectors(t, "ephemeral.json", &v)
	if len(v.DEP0000) == 0 || len(v.Secure) == 0 || len(v.Bad.Messages) == 0 {
		t.Fatal("no vectors")
	}
	return v
}

func TestMessageVectors(t *testing.T) {
	v := readEphemeral(t)
	for _, m := range v.DEP0000 {
		if text, err := OpenMessage([32]byte(v.Secure[0].Key), m.Bytes); text != nil || !errors.Is(err, ErrMessage) {
			t.Errorf("DEP-0000 %x: %q, %v", m.Bytes, text, err)
		}
	}
	for _, m := range v.Secure {
		key := [32]byte(m.Key)
		text, err := OpenMessage(key, m.Message)
		if err != nil || !bytes.Equal(text, m.PlaintextBytes) {
			t.Errorf("opened %q, %v, want %q", text, err, m.PlaintextBytes)
		}
		sealed, err := SealMessage(key, m.PlaintextBytes, bytes.NewReader(m.Nonce))
		if err != nil || !bytes.Equal(sealed, m.Message) || !bytes.HasSuffix(sealed, m.Ciphertext) {
			t.Errorf("sealed %x, %v, want %x", sealed, err, m.Message)
		}
		for i := range m.Message {
			changed := bytes.Clone(m.Message)
			changed[i] ^= 1
			if text, err := OpenMessage(key, changed); text != nil || !errors.Is(err, ErrMessage) {
				t.Errorf("byte %d changed: %q, %v", i, text, err)
			}
			if text, err := OpenMessage(key, m.Message[:i]); text != nil || !errors.Is(err, ErrMessage) {
				t.Errorf("cut to %d bytes: %q, %v", i, text, err)
			}
		}
	}
	for _, m := range v.Bad.Messages {
		if text, err := OpenMessage([32]byte(v.Bad.Key), m.Message); text != nil || !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %q, %v", m.Why, text, err)
		}
	}
}

func TestMessage(t *testing.T) {
	key := [32]byte{1, 2, 3}
	seal := func(text string) []byte {
		t.Helper()
		m, err := SealMessage(key, []byte(text), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if bytes.Equal(seal(`{}`), seal(`{}`)) {
		t.Error("the same nonce twice")
	}
	if _, err := SealMessage(key, []byte(`{}`), iotest.ErrReader(errors.New("none"))); err == nil {
		t.Error("sealed without randomness")
	}
	for _, text := range []string{``, `null`, `[]`, `1`, `"x"`, `true`, `{`, `{}{}`, `{} x`, "\xff"} {
		if got, err := OpenMessage(key, seal(text)); got != nil || !errors.Is(err, ErrMessage) {
			t.Errorf("%q is opened: %q, %v", text, got, err)
		}
	}

	// The longest message is opened, one byte more is not.
	long := func(n int) string { return `{"x":"` + string(bytes.Repeat([]byte("x"), n)) + `"}` }
	fits := maxMessage - len(seal(long(1000))) + 1000
	if m := seal(long(fits)); len(m) != maxMessage {
		t.Fatal(len(m))
	} else if _, err := OpenMessage(key, m); err != nil {
		t.Error(err)
	}
	if _, err := OpenMessage(key, seal(long(fits+1))); !errors.Is(err, ErrMessage) {
		t.Error("too long:", err)
	}

	// As protobuf asks: fields in any order, unknown ones passed over, of two the last.
	nonce := [24]byte{9}
	field := func(b []byte, n protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
	}
	b := field(nil, 2, []byte("not the box"))
	b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), 7)
	b = field(b, 2, secretbox.Seal(nil, []byte(`{"a":1}`), &nonce, &key))
	b = field(field(b, 15, []byte("news")), 1, nonce[:])
	if text, err := OpenMessage(key, b); err != nil || string(text) != `{"a":1}` {
		t.Errorf("%q, %v", text, err)
	}
}

func FuzzOpenMessage(f *testing.F) {
	v := readEphemeral(f)
	key := [32]byte(v.Secure[0].Key)
	for _, m := range v.DEP0000 {
		f.Add([]byte(m.Bytes))
	}
	for _, m := range v.Secure {
		f.Add([]byte(m.Message))
	}
	for _, m := range v.Bad.Messages {
		f.Add([]byte(m.Message))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		text, err := OpenMessage(key, message)
		if err != nil && (text != nil || !errors.Is(err, ErrMessage)) {
			t.Errorf("%q, %v", text, err)
		}
		if err == nil && !json.Valid(text) {
			t.Errorf("no JSON: %q", text)
		}
		// The bytes as the text of a message.
		sealed, err := SealMessage(key, message, reader{[]byte{1}})
		if err != nil {
			t.Fatal(err)
		}
		if text, err := OpenMessage(key, sealed); err == nil && !bytes.Equal(text, message) {
			t.Errorf("%q became %q", message, text)
		}
	})
}
