package hyperdb

import (
	"crypto/ed25519"
	"fmt"

	"hyphafs.org/hyphafs/drive/kdf"
)

// DeriveContent returns the key pair of the content feed that belongs to the writer with the given secret key (hyperdb 3.5.0,
// lib/derive.js): the Ed25519 pair of the seed crypto_kdf(1, "hyperdb1", secret key).
func DeriveContent(secret ed25519.PrivateKey) (ed25519.PrivateKey, error) {
	if len(secret) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("a secret key has %d bytes, not %d", ed25519.PrivateKeySize, len(secret))
	}
	seed, err := kdf.Key32([32]byte(secret.Seed()), 1, [8]byte([]byte("hyperdb1")))
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed[:]), nil
}
