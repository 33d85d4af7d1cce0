package record

import (
	"fmt"
	"log/slog"
)

// EpochKeys are the content keys of one epoch.
type EpochKeys struct {
	Meta   [32]byte // seals records
	Blocks [32]byte // seals blocks of files
}

// Keys are the content keys: who has them reads names and contents. They print as "redacted".
type Keys struct {
	Names   [32]byte // makes name tokens; the same in all epochs
	Current uint32   // the epoch that new values are sealed under
	Epochs  map[uint32]EpochKeys
}

// epoch returns the keys of epoch n.
func (k *Keys) epoch(n uint32) (EpochKeys, error) {
	e, ok := k.Epochs[n]
	if !ok {
		return e, fmt.Errorf("epoch %d: %w", n, ErrUnknownEpoch)
	}
	return e, nil
}

// Wipe overwrites the keys as far as Go allows it. They are useless afterwards.
func (k *Keys) Wipe() {
	clear(k.Names[:])
	clear(k.Epochs)
}

// String hides the keys.
func (k *Keys) String() string { return "redacted" }

// GoString hides the keys.
func (k *Keys) GoString() string { return "redacted" }

// Format hides the keys under every verb.
func (k *Keys) Format(f fmt.State, _ rune) { fmt.Fprint(f, "redacted") }

// LogValue hides the keys.
func (k *Keys) LogValue() slog.Value { return slog.StringValue("redacted") }

// MarshalText hides the keys.
func (k *Keys) MarshalText() ([]byte, error) { return []byte("redacted"), nil }
