package auth

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/scrypt"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/kdf"
	"hyphafs.org/hyphafs/drive/record"
)

// ErrWrongPassphrase says that a passphrase and a domain do not open what was sealed under them.
var ErrWrongPassphrase = errors.New("wrong passphrase or domain")

// Identity is what a passphrase and a domain derive. It prints as "redacted" and is never stored.
type Identity struct {
	Domain    string
	Source    hypercore.Key // the origin's feed: the database, the hyphalink
	Discovery hypercore.Key // its discovery key

	hidden func() *secrets // a function, since fmt prints an unexported field, and what it points to, without asking Format
}

// secrets are what an Identity hides.
type secrets struct {
	secret    ed25519.PrivateKey // of Source
	ephemeral [32]byte
	local     [32]byte
	content   *record.Keys
}

// The scrypt parameters of session25519 1.1.0.
const (
	scryptN = 1 << 17
	scryptR = 8
	scryptP = 1
)

// Derive computes the keys (session25519 1.1.0; spec in doc.go). It needs 128 MiB of memory and about a second. domain is used as it is: see CleanDomain.
// The passphrase stays the caller's.
func Derive(ctx context.Context, domain string, passphrase Secret) (*Identity, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	seed, err := scryptSeed(domain, passphrase.Bytes())
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	s := &secrets{secret: ed25519.NewKeyFromSeed(seed[32:64])}
	source := hypercore.Key(s.secret.Public().(ed25519.PublicKey))
	id := &Identity{Domain: domain, Source: source, Discovery: hypercore.DiscoveryKey(source), hidden: func() *secrets { return s }}
	if err := errors.Join(s.subkeys([32]byte(seed[:32]), [32]byte(seed[32:64])), ctx.Err()); err != nil {
		id.Wipe()
		return nil, err
	}
	return id, nil
}

// scryptSeed is the 64 bytes that everything follows from.
func scryptSeed(domain string, passphrase []byte) ([]byte, error) {
	pass := blake2s.Sum256(passphrase)
	defer clear(pass[:])
	seed, err := scrypt.Key(pass[:], cesu8(domain), scryptN, scryptR, scryptP, 64)
	if err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	return seed, nil
}

// cesu8 encodes each UTF-16 code unit by itself, as scrypt-async 2 does with a salt string.
func cesu8(s string) []byte {
	var out []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		switch {
		case unit < 0x80:
			out = append(out, byte(unit))
		case unit < 0x800:
			out = append(out, 0xc0|byte(unit>>6), 0x80|byte(unit&63))
		default:
			out = append(out, 0xe0|byte(unit>>12), 0x80|byte(unit>>6&63), 0x80|byte(unit&63))
		}
	}
	return out
}

// The contexts of the KDF; doc.go has the table.
var (
	contextEphemeral = [8]byte([]byte("ephemera"))
	contextContent   = [8]byte([]byte("hyphacon"))
	contextLocal     = [8]byte([]byte("hyphaloc"))
)

// subkeys derives the symmetric keys: the ephemeral one from the signing seed, as 2019 did, ours from the box seed, which nothing else uses.
func (s *secrets) subkeys(box, sign [32]byte) (err error) {
	if s.ephemeral, err = kdf.Key32(sign, 1, contextEphemeral); err != nil {
		return err
	}
	if s.local, err = kdf.Key32(box, 1, contextLocal); err != nil {
		return err
	}
	s.content = &record.Keys{Epochs: map[uint32]record.EpochKeys{}}
	if s.content.Names, err = kdf.Key32(box, 1, contextContent); err != nil {
		return err
	}
	const epoch = 0
	var e record.EpochKeys
	if e.Meta, err = kdf.Key32(box, 16*(epoch+1), contextContent); err != nil {
		return err
	}
	if e.Blocks, err = kdf.Key32(box, 16*(epoch+1)+1, contextContent); err != nil {
		return err
	}
	s.content.Epochs[epoch] = e
	return nil
}

// SourceSecret returns a copy of the origin's signing key. Only the origin node writes with it.
func (id *Identity) SourceSecret() ed25519.PrivateKey {
	return append(ed25519.PrivateKey(nil), id.hidden().secret...)
}

// Content returns the content keys, which Wipe overwrites.
func (id *Identity) Content() *record.Keys { return id.hidden().content }

// Local returns the key that seals what stays on this node.
func (id *Identity) Local() [32]byte { return id.hidden().local }

// Ephemeral returns the key of secure-ephemeral messages.
func (id *Identity) Ephemeral() [32]byte { return id.hidden().ephemeral }

// Wipe overwrites the secrets as far as Go allows it.
func (id *Identity) Wipe() {
	s := id.hidden()
	clear(s.secret)
	clear(s.ephemeral[:])
	clear(s.local[:])
	if s.content != nil {
		s.content.Wipe()
	}
}

// String hides the keys.
func (id Identity) String() string { return redacted }

// Format hides the keys under every verb.
func (id Identity) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue hides the keys.
func (id Identity) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the keys.
func (id Identity) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// The bounds of a domain, in characters.
const (
	minDomain = 3
	maxDomain = 253
)

// CleanDomain lower-cases a domain and refuses one that a person could not type again: shorter than 3 or longer than 253 characters, with
// spaces, '/' or control characters.
func CleanDomain(domain string) (string, error) {
	if !utf8.ValidString(domain) { // first, since ToLower replaces what is not
		return "", errors.New("the domain is not UTF-8")
	}
	domain = strings.ToLower(strings.TrimSpace(domain))
	if n := utf8.RuneCountInString(domain); n < minDomain || n > maxDomain {
		return "", fmt.Errorf("the domain has %d characters; it needs %d to %d", n, minDomain, maxDomain)
	}
	for _, r := range domain {
		if unicode.IsSpace(r) || unicode.IsControl(r) || r == '/' || !unicode.IsPrint(r) {
			return "", fmt.Errorf("the domain holds %q, which it may not", r)
		}
	}
	if strings.Trim(domain, ".") == "" {
		return "", errors.New("the domain is only dots")
	}
	return domain, nil
}

// CleanName makes a node's name fit to be shown: see record.CleanName.
func CleanName(name string) string { return record.CleanName(name) }

// NewWriterKey makes a random key pair for a node's own feed.
func NewWriterKey(rand io.Reader) (ed25519.PrivateKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	defer clear(seed)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, fmt.Errorf("make a writer key: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// SealLocal seals what stays on this node. purpose says what it is and must be said again to open it. The caller owns the result.
func SealLocal(id *Identity, purpose string, plain []byte) ([]byte, error) {
	return record.SealLocal(id.Local(), purpose, plain)
}

// OpenLocal opens what SealLocal sealed. ErrWrongPassphrase if id is another one than sealed it, or if it was changed.
func OpenLocal(id *Identity, purpose string, sealed []byte) ([]byte, error) {
	plain, err := record.OpenLocal(id.Local(), purpose, sealed)
	if errors.Is(err, record.ErrSealed) {
		return nil, ErrWrongPassphrase
	}
	return plain, err
}
