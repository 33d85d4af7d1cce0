package auth

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// The kinds of proof that a request can carry.
const (
	ProofSignature = "signature" // made by the writer key it asks for
	ProofNone      = "none"      // an original 2019 node: anybody with the passphrase could have sent it
)

// ErrRequest says that a message is no request for authorisation, or one with a false signature.
var ErrRequest = errors.New("not a request for authorisation")

// wireRequest is the JSON: the fields of 2019, and ours behind them.
type wireRequest struct {
	NodeName  string `json:"nodeName"`
	Timestamp string `json:"timestamp"` // UTC, milliseconds, Z
	Action    string `json:"action"`
	ReadKey   string `json:"readKey"` // of the sender's own feed
	Nonce     string `json:"nonce,omitempty"`
	Signature string `json:"signature,omitempty"`
}

const (
	actionAuthorise = "authorise"
	timeFormat      = "2006-01-02T15:04:05.000Z07:00" // Date.prototype.toJSON
	maxName         = 1024                            // bytes, before it is cleaned
	nonceSize       = 24
)

// asked is a request as it was received.
type asked struct {
	key   hypercore.Key
	name  string // as it was sent
	time  time.Time
	nonce string // hex; "" without one
	proof string
}

// signed is what the signature covers: a tag, the database, the writer, the nonce, and the name and the time with their lengths.
func signed(source, writer hypercore.Key, nonce []byte, name, timestamp string) []byte {
	b := append([]byte("hyphafs authorise 1\x00"), source[:]...)
	b = append(append(b, writer[:]...), nonce...)
	for _, s := range []string{name, timestamp} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return b
}

// NewRequest makes the JSON text of a signed request for the writer with the given secret key, with a fresh nonce.
func NewRequest(source hypercore.Key, writer ed25519.PrivateKey, name string, now time.Time, rand io.Reader) ([]byte, error) {
	nonce := make([]byte, nonceSize)
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	key := hypercore.Key(writer.Public().(ed25519.PublicKey))
	r := wireRequest{NodeName: CleanName(name), Timestamp: now.UTC().Format(timeFormat), Action: actionAuthorise, ReadKey: key.String(), Nonce: hex.EncodeToString(nonce)}
	r.Signature = hex.EncodeToString(ed25519.Sign(writer, signed(source, key, nonce, r.NodeName, r.Timestamp)))
	return encodeJSON(r)
}

// encodeJSON writes v as JavaScript's JSON.stringify would, without escapes for HTML.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// parseRequest reads the text of a message. A request with a nonce or a signature must have both, and they must fit: a false
// proof is none at all.
func parseRequest(source hypercore.Key, text []byte) (asked, error) {
	var w wireRequest
	if err := json.Unmarshal(text, &w); err != nil || w.Action != actionAuthorise || len(w.NodeName) > maxName {
		return asked{}, ErrRequest
	}
	key, err := hypercore.ParseKey(w.ReadKey)
	if err != nil {
		return asked{}, ErrRequest
	}
	at, err := time.Parse(time.RFC3339Nano, w.Timestamp)
	if err != nil {
		return asked{}, ErrRequest
	}
	a := asked{key: key, name: w.NodeName, time: at, proof: ProofNone}
	if w.Nonce == "" && w.Signature == "" {
		return a, nil
	}
	nonce, err1 := hex.DecodeString(w.Nonce)
	signature, err2 := hex.DecodeString(w.Signature)
	if err1 != nil || err2 != nil || len(nonce) != nonceSize || len(signature) != ed25519.SignatureSize ||
		!ed25519.Verify(key[:], signed(source, key, nonce, w.NodeName, w.Timestamp), signature) {
		return asked{}, fmt.Errorf("false signature: %w", ErrRequest)
	}
	a.nonce, a.proof = hex.EncodeToString(nonce), ProofSignature
	return a, nil
}
