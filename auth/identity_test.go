package auth

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/crypto/blake2s"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/kdf"
)

func TestKeyVectors(t *testing.T) {
	var vectors struct {
		Keys []struct {
			Name                                       string
			Domain, Passphrase                         string
			DomainSaltBytes, PassphraseBytes           hexBytes
			Blake2s, Scrypt64                          hexBytes
			BoxPublicKey, BoxSecretKey                 hexBytes
			NodeReadKey, NodeWriteKey                  hexBytes
			DiscoveryKey, EphemeralKey                 hexBytes
			ContentFeedPublicKey, ContentFeedSecretKey hexBytes
		}
		Discovery []struct{ PublicKey, DiscoveryKey hexBytes }
		KDF       []struct {
			Master, Subkey hexBytes
			ID             uint64
			Context        string
			Length         int
		}
	}
	readVectors(t, "keys.json", &vectors)
	if len(vectors.Keys) == 0 || len(vectors.Discovery) == 0 || len(vectors.KDF) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range vectors.Keys {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel() // scrypt takes seconds under the race detector
			same := func(what string, got, want []byte) {
				t.Helper()
				if !bytes.Equal(got, want) {
					t.Errorf("%s is %x, want %x", what, got, want)
				}
			}
			same("the salt", cesu8(v.Domain), v.DomainSaltBytes)
			same("the passphrase", []byte(v.Passphrase), v.PassphraseBytes)
			pass := blake2s.Sum256([]byte(v.Passphrase))
			same("blake2s", pass[:], v.Blake2s)
			seed, err := scryptSeed(v.Domain, []byte(v.Passphrase))
			if err != nil {
				t.Fatal(err)
			}
			same("scrypt", seed, v.Scrypt64)
			same("the box key", seed[:32], v.BoxSecretKey)
			box, err := ecdh.X25519().NewPrivateKey(seed[:32])
			if err != nil {
				t.Fatal(err)
			}
			same("the public box key", box.PublicKey().Bytes(), v.BoxPublicKey)

			given := []byte(v.Passphrase)
			id, err := Derive(t.Context(), v.Domain, NewSecret(given))
			if err != nil {
				t.Fatal(err)
			}
			if string(given) != v.Passphrase || id.Domain != v.Domain {
				t.Error("the caller's strings changed")
			}
			same("the source", id.Source[:], v.NodeReadKey)
			same("the secret key", id.SourceSecret(), v.NodeWriteKey)
			same("the discovery key", id.Discovery[:], v.DiscoveryKey)
			ephemeral := id.Ephemeral()
			same("the ephemeral key", ephemeral[:], v.EphemeralKey)
			content, err := kdf.Key32([32]byte(id.SourceSecret()[:32]), 1, [8]byte([]byte("hyperdb1")))
			if err != nil {
				t.Fatal(err)
			}
			contentFeed := ed25519.NewKeyFromSeed(content[:])
			same("the content feed", contentFeed.Public().(ed25519.PublicKey), v.ContentFeedPublicKey)
			same("the secret of the content feed", contentFeed, v.ContentFeedSecretKey)

			// Our own keys, by the table in doc.go.
			sub := func(n uint64, context string) []byte {
				key, err := kdf.Key32([32]byte(v.BoxSecretKey), n, [8]byte([]byte(context)))
				if err != nil {
					t.Fatal(err)
				}
				return key[:]
			}
			local, keys := id.Local(), id.Content()
			epoch, ok := keys.Epochs[0]
			if !ok || keys.Current != 0 || len(keys.Epochs) != 1 {
				t.Fatal("not the one epoch 0")
			}
			same("the local key", local[:], sub(1, "hyphaloc"))
			same("the key of names", keys.Names[:], sub(1, "hyphacon"))
			same("the key of records", epoch.Meta[:], sub(16, "hyphacon"))
			same("the key of blocks", epoch.Blocks[:], sub(17, "hyphacon"))
		})
	}
	for _, v := range vectors.Discovery {
		if got := hypercore.DiscoveryKey(hypercore.Key(v.PublicKey)); !bytes.Equal(got[:], v.DiscoveryKey) {
			t.Errorf("discovery key of %x: %x", v.PublicKey, got)
		}
	}
	for _, v := range vectors.KDF {
		if v.Length != 32 {
			continue
		}
		got, err := kdf.Key32([32]byte(v.Master), v.ID, [8]byte([]byte(v.Context)))
		if err != nil || !bytes.Equal(got[:], v.Subkey) {
			t.Errorf("subkey %d of %s: %x, %v", v.ID, v.Context, got, err)
		}
	}
}

func TestDeriveCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if id, err := Derive(ctx, "anna.example", NewSecret([]byte("x"))); id != nil || !errors.Is(err, context.Canceled) {
		t.Error(id, err)
	}
}

func TestWipe(t *testing.T) {
	id, err := Derive(t.Context(), "wiped.example", NewSecret([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	kept := id.SourceSecret()
	id.Wipe()
	if !bytes.Equal(id.SourceSecret(), make([]byte, 64)) || id.Local() != [32]byte{} || id.Ephemeral() != [32]byte{} || id.Content().Names != [32]byte{} {
		t.Error("secrets are left")
	}
	if bytes.Equal(kept, make([]byte, 64)) {
		t.Error("SourceSecret is no copy")
	}
	s := NewSecret([]byte("abc"))
	s.Wipe()
	if string(s.Bytes()) != "\x00\x00\x00" {
		t.Error("the secret is left")
	}
	Secret{}.Wipe()
	if (Secret{}).Bytes() != nil {
		t.Error("an empty secret has bytes")
	}
}

func TestLocal(t *testing.T) {
	id := identityOf(t)
	sealed, err := SealLocal(id, "test", []byte("plain text"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := OpenLocal(id, "test", sealed); err != nil || string(plain) != "plain text" {
		t.Errorf("%q, %v", plain, err)
	}
	other, err := Derive(t.Context(), id.Domain, NewSecret([]byte("tesT")))
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-1] ^= 1
	for what, open := range map[string]func() ([]byte, error){
		"a wrong passphrase": func() ([]byte, error) { return OpenLocal(other, "test", sealed) },
		"another purpose":    func() ([]byte, error) { return OpenLocal(id, "other", sealed) },
		"a change":           func() ([]byte, error) { return OpenLocal(id, "test", changed) },
		"nothing":            func() ([]byte, error) { return OpenLocal(id, "test", nil) },
	} {
		if plain, err := open(); plain != nil || !errors.Is(err, ErrWrongPassphrase) {
			t.Errorf("%s: %q, %v", what, plain, err)
		}
	}
}

func TestNewWriterKey(t *testing.T) {
	a, err1 := NewWriterKey(rand.Reader)
	b, err2 := NewWriterKey(rand.Reader)
	if err1 != nil || err2 != nil || len(a) != ed25519.PrivateKeySize || a.Equal(b) {
		t.Error(err1, err2)
	}
	if key, err := NewWriterKey(reader{[]byte{7}}); err != nil || !key.Equal(writerKey(7)) {
		t.Error("not from the reader", err)
	}
	if _, err := NewWriterKey(iotest.ErrReader(errors.New("none"))); err == nil {
		t.Error("a key without randomness")
	}
}

func TestRedaction(t *testing.T) {
	id := identityOf(t)
	secret := NewSecret([]byte("hush hush"))
	ephemeral, local := id.Ephemeral(), id.Local()
	content := id.Content()
	var hidden []string
	for _, s := range [][]byte{secret.Bytes(), id.SourceSecret()[:8], ephemeral[:8], local[:8], content.Names[:8]} {
		decimal := strings.Trim(fmt.Sprint(s), "[]")
		hidden = append(hidden, string(s), hex.EncodeToString(s), decimal, strings.ReplaceAll(decimal, " ", ", "), fmt.Sprintf("% x", s), fmt.Sprintf("%#v", s)[7:])
	}
	check := func(how, printed string) {
		t.Helper()
		for _, h := range hidden {
			if strings.Contains(strings.ToLower(printed), strings.ToLower(h)) {
				t.Fatalf("%s shows a secret: %s", how, printed)
			}
		}
	}
	type outer struct {
		Shown  any
		hidden any
		secret Secret
		id     Identity
		p      *Identity
	}
	for what, v := range map[string]any{"secret": secret, "*secret": &secret, "identity": id, "identity value": *id} {
		for _, verb := range "vTtbcdoOqxXUeEfFgGspwz" {
			for _, flag := range []string{"", "+", "#", "-", " ", "0", "20", ".3"} {
				format := "%" + flag + string(verb)
				printed := fmt.Sprintf(format, v)
				check(what+" "+format, printed)
				if verb != 'T' && verb != 'p' && printed != redacted && verb != 'w' {
					t.Errorf("%s %s: %s", what, format, printed)
				}
				check("struct of "+what+" "+format, fmt.Sprintf(format, outer{Shown: v, hidden: v, secret: secret, id: *id, p: id}))
				check("slice of "+what+" "+format, fmt.Sprintf(format, []any{v}))
			}
		}
		check(what+" extra", fmt.Sprintf("%d", []any{1, v}...))
		check(what+" Println", fmt.Sprintln(v))
		check(what+" error", fmt.Errorf("bad %v", v).Error())
		b, err := json.Marshal(map[string]any{"x": v})
		if err != nil || string(b) != `{"x":"redacted"}` {
			t.Errorf("%s in json: %s, %v", what, b, err)
		}
		for _, h := range []func(*bytes.Buffer) slog.Handler{
			func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var b bytes.Buffer
			slog.New(h(&b)).Info("m", "direct", v, "inside", outer{Shown: v, hidden: v, secret: secret, id: *id, p: id}, slog.Group("g", "x", v))
			check(what+" in slog", b.String())
			if !strings.Contains(b.String(), redacted) {
				t.Errorf("%s in slog: %s", what, b.String())
			}
		}
	}
	if secret.String() != redacted || secret.GoString() != redacted || id.String() != redacted {
		t.Error("String shows something")
	}
}

func TestCleanDomain(t *testing.T) {
	for in, want := range map[string]string{
		"ar.al":                  "ar.al",
		"  Anna.Example\t\n":     "anna.example",
		"BÜCHER.example":         "bücher.example",
		"🐝.example":              "🐝.example",
		"abc":                    "abc",
		"...a":                   "...a",
		"user@example.com":       "user@example.com",
		strings.Repeat("ü", 253): strings.Repeat("ü", 253),
		"":                       "",
		"ab":                     "",
		"  ab  ":                 "",
		"...":                    "",
		"a b.c":                  "",
		"a\u00a0b.c":             "",
		"a/b":                    "",
		"../..":                  "",
		"a\x00b":                 "",
		"a\x1b[2Jb":              "",
		"a\nb.c":                 "",
		"a\u202eb.c":             "",
		"a\u200bb.c":             "",
		"\xff\xfe\xfd":           "",
		"abc\xff":                "",
		strings.Repeat("ü", 254): "",
	} {
		got, err := CleanDomain(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q became %q, %v", in, got, err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x1b\x00") {
			t.Errorf("%q: %q", in, err)
		}
		if again, err := CleanDomain(got); want != "" && (again != got || err != nil) {
			t.Errorf("%q is not clean yet: %q, %v", got, again, err)
		}
	}
}
