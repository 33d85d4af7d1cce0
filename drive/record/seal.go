package record

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/chacha20poly1305"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// The ways in which a sealed value can fail to open.
var (
	ErrSealed         = errors.New("sealed value does not open")
	ErrUnknownVersion = errors.New("sealed by a later version")
	ErrUnknownEpoch   = errors.New("no key for the epoch")
)

// The first byte of what is sealed. A record with pages is of a version of its own: whoever does not know them would take the file for a hole.
const (
	sealVersion  = 1
	pagedVersion = 2
)

// SealOverhead bounds the bytes that sealing adds.
const SealOverhead = 1 + binary.MaxVarintLen32 + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

// Token is the name token of name in directory dir: 22 characters of base64url.
func (k *Keys) Token(dir ID, name string) string {
	t := k.RawToken(dir, name)
	return base64.RawURLEncoding.EncodeToString(t[:])
}

// RawToken is the bytes that Token writes.
func (k *Keys) RawToken(dir ID, name string) (t [16]byte) {
	h, err := blake2b.New(len(t), k.Names[:])
	if err != nil {
		panic(err) // size and key length are constants that fit
	}
	h.Write(append(append(make([]byte, 0, len(dir)+len(name)), dir[:]...), name...))
	h.Sum(t[:0])
	return t
}

// Seal seals a record for its place: the database key key in the feed of writer. The caller owns the result.
func (k *Keys) Seal(writer hypercore.Key, key string, plain []byte) ([]byte, error) {
	e, err := k.epoch(k.Current)
	if err != nil {
		return nil, err
	}
	return seal(nil, e.Meta, sealVersion, k.Current, recordPlace(sealVersion, k.Current, writer, key), plain)
}

// SealPaged is Seal for the record of an inode with pages.
func (k *Keys) SealPaged(writer hypercore.Key, key string, plain []byte) ([]byte, error) {
	e, err := k.epoch(k.Current)
	if err != nil {
		return nil, err
	}
	return seal(nil, e.Meta, pagedVersion, k.Current, recordPlace(pagedVersion, k.Current, writer, key), plain)
}

// Open opens a sealed record that stands in the feed of writer under the database key key. The caller owns the result.
func (k *Keys) Open(writer hypercore.Key, key string, sealed []byte) ([]byte, error) {
	version, epoch, nonce, box, err := parseSealed(sealed, pagedVersion)
	if err != nil {
		return nil, err
	}
	e, err := k.epoch(epoch)
	if err != nil {
		return nil, err
	}
	return open(e.Meta, nil, nonce, box, recordPlace(version, epoch, writer, key))
}

// SealBlock seals block number of inode for the content feed feed. plain is at most BlockSize bytes.
func (k *Keys) SealBlock(feed hypercore.Key, inode ID, number uint64, plain []byte) ([]byte, error) {
	if len(plain) > BlockSize {
		return nil, fmt.Errorf("block of %d bytes", len(plain))
	}
	e, err := k.epoch(k.Current)
	if err != nil {
		return nil, err
	}
	return seal(nil, e.Blocks, sealVersion, k.Current, blockPlace(k.Current, feed, inode, number), plain)
}

// OpenBlock opens what SealBlock sealed, in its place: sealed is the plain bytes' from now on.
func (k *Keys) OpenBlock(feed hypercore.Key, inode ID, number uint64, sealed []byte) ([]byte, error) {
	_, epoch, nonce, box, err := parseSealed(sealed, sealVersion)
	if err != nil {
		return nil, err
	}
	e, err := k.epoch(epoch)
	if err != nil {
		return nil, err
	}
	plain, err := open(e.Blocks, box[:0], nonce, box, blockPlace(epoch, feed, inode, number))
	if err == nil && len(plain) > BlockSize {
		return nil, fmt.Errorf("block of %d bytes: %w", len(plain), ErrSealed)
	}
	return plain, err
}

// OpenBlockInto opens what SealBlock sealed into dst, which must not overlap it, and returns how many bytes there are: BlockSize at most, and no more than dst has room for.
func (k *Keys) OpenBlockInto(dst []byte, feed hypercore.Key, inode ID, number uint64, sealed []byte) (int, error) {
	_, epoch, nonce, box, err := parseSealed(sealed, sealVersion)
	if err != nil {
		return 0, err
	}
	e, err := k.epoch(epoch)
	if err != nil {
		return 0, err
	}
	if size := len(box) - chacha20poly1305.Overhead; size > min(len(dst), BlockSize) {
		return 0, fmt.Errorf("block of %d bytes: %w", size, ErrSealed)
	}
	plain, err := open(e.Blocks, dst[:0], nonce, box, blockPlace(epoch, feed, inode, number))
	return len(plain), err
}

func recordPlace(version byte, epoch uint32, writer hypercore.Key, key string) []byte {
	place := append([]byte("hyphafs record "), '0'+version)
	place = append(place, binary.BigEndian.AppendUint32(nil, epoch)...)
	return append(append(place, writer[:]...), key...)
}

func blockPlace(epoch uint32, feed hypercore.Key, inode ID, number uint64) []byte {
	place := append([]byte("hyphafs block 1"), binary.BigEndian.AppendUint32(nil, epoch)...)
	place = append(append(place, feed[:]...), inode[:]...)
	return binary.BigEndian.AppendUint64(place, number)
}

// seal appends to dst. It is shared with SealLocal: version, epoch, random nonce, box.
func seal(dst []byte, key [32]byte, version byte, epoch uint32, place, plain []byte) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, err
	}
	out := slices.Grow(dst, len(plain)+SealOverhead)
	out = binary.AppendUvarint(append(out, version), uint64(epoch))
	at := len(out)
	out = out[:at+chacha20poly1305.NonceSizeX]
	if _, err := rand.Read(out[at:]); err != nil {
		return nil, err
	}
	return aead.Seal(out, out[at:], plain, place), nil
}

// parseSealed takes a sealed value apart; newest is the last version that may be there.
func parseSealed(b []byte, newest byte) (version byte, epoch uint32, nonce, box []byte, err error) {
	if len(b) == 0 {
		return 0, 0, nil, nil, fmt.Errorf("empty: %w", ErrSealed)
	}
	if b[0] < sealVersion || b[0] > newest {
		return 0, 0, nil, nil, fmt.Errorf("version %d: %w", b[0], ErrUnknownVersion)
	}
	e, n := binary.Uvarint(b[1:])
	if n <= 0 || e > 1<<32-1 || len(b) < 1+n+chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead {
		return 0, 0, nil, nil, fmt.Errorf("cut off: %w", ErrSealed)
	}
	version, b = b[0], b[1+n:]
	return version, uint32(e), b[:chacha20poly1305.NonceSizeX], b[chacha20poly1305.NonceSizeX:], nil
}

// open appends the plain bytes to dst.
func open(key [32]byte, dst, nonce, box, place []byte) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(dst, nonce, box, place)
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

// SealLocal seals bytes that stay on this node (view, journal) under its local key. purpose says what they are and where they stand.
func SealLocal(key [32]byte, purpose string, plain []byte) ([]byte, error) {
	return AppendLocal(nil, key, purpose, plain)
}

// AppendLocal is SealLocal behind the bytes of dst.
func AppendLocal(dst []byte, key [32]byte, purpose string, plain []byte) ([]byte, error) {
	return seal(dst, key, sealVersion, 0, []byte("hyphafs local 1"+purpose), plain)
}

// OpenLocal opens what SealLocal sealed.
func OpenLocal(key [32]byte, purpose string, sealed []byte) ([]byte, error) {
	return OpenLocalAt(key, purpose, nil, sealed)
}

// OpenLocalAt opens what SealLocal sealed for the purpose that ends with the bytes of at.
func OpenLocalAt(key [32]byte, purpose string, at, sealed []byte) ([]byte, error) {
	_, epoch, nonce, box, err := parseSealed(sealed, sealVersion)
	if err != nil {
		return nil, err
	}
	if epoch != 0 {
		return nil, fmt.Errorf("epoch %d: %w", epoch, ErrSealed)
	}
	const local = "hyphafs local 1"
	place := append(append(append(make([]byte, 0, len(local)+len(purpose)+len(at)), local...), purpose...), at...)
	return open(key, nil, nonce, box, place)
}
