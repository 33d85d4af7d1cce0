package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/nacl/secretbox"
	"google.golang.org/protobuf/encoding/protowire"
)

// ErrMessage says that a secure-ephemeral message does not open, or holds no JSON object.
var ErrMessage = errors.New("not a message for this Hypha")

// maxMessage bounds a message, in bytes.
const maxMessage = 4 << 10

// SealMessage seals JSON text as a secure-ephemeral message: protobuf {1 nonce (24 random bytes), 2 crypto_secretbox(text)}. The caller owns it.
func SealMessage(key [32]byte, text []byte, rand io.Reader) ([]byte, error) {
	var nonce [24]byte
	if _, err := io.ReadFull(rand, nonce[:]); err != nil {
		return nil, fmt.Errorf("seal a message: %w", err)
	}
	b := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), nonce[:])
	return protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), secretbox.Seal(nil, text, &nonce, &key)), nil
}

// OpenMessage returns the JSON text of a message. ErrMessage for all that is too long, does not open, or is no JSON object.
func OpenMessage(key [32]byte, message []byte) ([]byte, error) {
	if len(message) > maxMessage {
		return nil, fmt.Errorf("%d bytes: %w", len(message), ErrMessage)
	}
	var nonce, box []byte
	for b := message; len(b) > 0; {
		n, kind, k := protowire.ConsumeTag(b)
		if k < 0 {
			return nil, ErrMessage
		}
		m := protowire.ConsumeFieldValue(n, kind, b[k:])
		if m < 0 {
			return nil, ErrMessage
		}
		if kind == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b[k:])
			switch n {
			case 1:
				nonce = v
			case 2:
				box = v
			}
		}
		b = b[k+m:]
	}
	if len(nonce) != 24 || len(box) < secretbox.Overhead {
		return nil, ErrMessage
	}
	text, ok := secretbox.Open(nil, box, (*[24]byte)(nonce), &key)
	var object map[string]json.RawMessage
	if !ok || json.Unmarshal(text, &object) != nil || object == nil {
		return nil, ErrMessage
	}
	return text, nil
}
