package auth

import (
	"fmt"
	"log/slog"
)

const redacted = "redacted"

// Secret is bytes that must not be shown: it prints as "redacted" in every way fmt, slog and encoding know. Bytes gives them to who needs them.
type Secret struct{ b func() []byte } // a function, since fmt prints an unexported field, and what it points to, without asking Format

// NewSecret keeps b, which the caller gives away.
func NewSecret(b []byte) Secret { return Secret{func() []byte { return b }} }

// Bytes returns the secret itself, not a copy.
func (s Secret) Bytes() []byte {
	if s.b == nil {
		return nil
	}
	return s.b()
}

// Wipe overwrites the secret as far as Go allows it. It is zeros afterwards for all who hold it.
func (s Secret) Wipe() { clear(s.Bytes()) }

// String hides the secret.
func (s Secret) String() string { return redacted }

// GoString hides the secret.
func (s Secret) GoString() string { return redacted }

// Format hides the secret under every verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue hides the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
