package view

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// Row keys: one letter, then fixed-size parts; what is known of one inode stands together, with the letter that says what behind the inode's id.
const (
	rowFormat   = '!' // the layout of the rows
	rowDirent   = 'd' // directory, token           -> slot, if it shows something
	rowDead     = 'D' // directory, token           -> slot, if it shows nothing: listing a directory costs what it shows
	rowAbout    = 'i' // inode, and one of these letters:
	rowInode    = 'f' //                            -> heads of the inode
	rowNamed    = 'r' // directory, token           -> named
	rowLive     = 'l' //                            -> number of keys where a live head names it
	rowHome     = 'h' // of a directory, or an inode that is shown where no live head names it -> home
	rowChildren = 's' // of a directory             -> number of entries shown in it
	rowSubdirs  = 'b' // of a directory             -> number of directories shown in it
	rowFallen   = 'x' // directory that fell out of a cycle
	rowAwaited  = 'a' // inode that an entry names and of which no record is here
	rowWriter   = 'n' // writer feed                -> heads of its description
	rowKept     = 'c' // inode with several live heads
	rowShared   = 'm' // directory, token           -> key that shows several entries
	rowPosition = 'p' // feed                       -> next block to fold
	rowClock    = 'k' // feed                       -> Clock
	rowWriters  = 'w' // the writers known, in order
	rowTotals   = 't' // inodes and bytes, keys with merged directories
)

// format numbers the layout of the rows and the rules that fill them: a view of another one is dropped and folded again.
const format = 5

// token is a name token as bytes.
type token [16]byte

func parseToken(s string) (t token, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(t) {
		return t, record.ErrInvalid
	}
	return token(b), nil
}

// String is the token as it stands in database keys.
func (t token) String() string { return base64.RawURLEncoding.EncodeToString(t[:]) }

// place is the key of an entry.
type place struct {
	dir   record.ID
	token token
}

func (p place) bytes() []byte { return append(append([]byte{}, p.dir[:]...), p.token[:]...) }

func (p place) row(letter byte) []byte {
	return append(append(append(make([]byte, 0, 1+placeLen), letter), p.dir[:]...), p.token[:]...)
}

func idRow(letter byte, id record.ID) []byte {
	return append(append(make([]byte, 0, 1+len(id)+1+placeLen), letter), id[:]...)
}

// aboutRow is the row of what letter says of id.
func aboutRow(letter byte, id record.ID) []byte { return append(idRow(rowAbout, id), letter) }

func namedRow(id record.ID, p place) []byte {
	return append(append(aboutRow(rowNamed, id), p.dir[:]...), p.token[:]...)
}

func feedRow(letter byte, feed hypercore.Key) []byte { return append([]byte{letter}, feed[:]...) }

// placeLen is the length of a place in rows, in bytes.
const placeLen = len(record.ID{}) + len(token{})

// parsePlace reads a place from the first placeLen bytes of b.
func parsePlace(b []byte) (p place) {
	copy(p.dir[:], b)
	copy(p.token[:], b[len(p.dir):])
	return p
}

// head is one version of a record that nobody replaced, or a deleted one that still is what the key says.
type head[R any] struct {
	version record.Version
	record  R
}

// claim says that by replaces version, which has not arrived yet.
type claim struct{ version, by record.Version }

// heads is the state of one database key.
type heads[R any] struct {
	heads  []head[R] // ascending by version
	claims []claim   // ascending
}

// history is what the fold needs of a record.
type history struct {
	stamp    record.Stamp
	replaces []record.Version
	removed  bool
}

// codec knows how a kind of record is written in a row.
type codec[R any] struct {
	encode  func(R) []byte
	decode  func(dir record.ID, b []byte) (R, error)
	history func(R) history
}

var (
	dirents = codec[*record.Dirent]{
		func(d *record.Dirent) []byte { return d.Encode() },
		record.DecodeDirent,
		func(d *record.Dirent) history { return history{d.Stamp, d.Replaces, d.Removed} },
	}
	inodes = codec[*record.Inode]{
		func(n *record.Inode) []byte { return n.Encode() },
		func(_ record.ID, b []byte) (*record.Inode, error) { return record.DecodeInode(b) },
		func(n *record.Inode) history { return history{n.Stamp, n.Replaces, n.Removed} },
	}
	writers = codec[*record.Writer]{
		func(w *record.Writer) []byte { return w.Encode() },
		func(_ record.ID, b []byte) (*record.Writer, error) { return record.DecodeWriter(b) },
		func(w *record.Writer) history { return history{w.Stamp, w.Replaces, false} },
	}
)

func compareVersions(a, b record.Version) int {
	if c := bytes.Compare(a.Feed[:], b.Feed[:]); c != 0 {
		return c
	}
	if a.Seq < b.Seq {
		return -1
	}
	if a.Seq > b.Seq {
		return 1
	}
	return 0
}

// arrive takes a record into the state of its key. arrived reports whether a version was folded before.
//
// A version is a head unless some other version of the key replaces it, where of two that replace each other neither claim counts: the
// result depends on the set of records alone, not on their order.
func (h *heads[R]) arrive(c codec[R], v record.Version, r R, arrived func(record.Version) bool) {
	replaces := c.history(r).replaces
	dead := false
	h.claims = slices.DeleteFunc(h.claims, func(cl claim) bool {
		if cl.version != v {
			return false
		}
		dead = dead || !slices.Contains(replaces, cl.by)
		return true
	})
	for _, x := range replaces {
		if x == v {
			continue
		}
		i := slices.IndexFunc(h.heads, func(o head[R]) bool { return o.version == x })
		switch {
		case i >= 0 && !slices.Contains(c.history(h.heads[i].record).replaces, v):
			h.heads = slices.Delete(h.heads, i, i+1)
		case i < 0 && !arrived(x):
			h.claims = append(h.claims, claim{x, v})
		}
	}
	if !dead {
		h.heads = append(h.heads, head[R]{v, r})
		slices.SortFunc(h.heads, func(a, b head[R]) int { return compareVersions(a.version, b.version) })
	}
	slices.SortFunc(h.claims, func(a, b claim) int {
		if x := compareVersions(a.version, b.version); x != 0 {
			return x
		}
		return compareVersions(a.by, b.by)
	})
}

// winner is the live head with the greatest stamp, or else the deleted one.
func (h *heads[R]) winner(c codec[R]) (best head[R], live, ok bool) {
	for _, o := range h.heads {
		oh := c.history(o.record)
		better := !ok || !oh.removed && !live
		if ok && live == !oh.removed {
			better = record.Less(c.history(best.record).stamp, best.version, oh.stamp, o.version)
		}
		if better {
			best, live, ok = o, !oh.removed, true
		}
	}
	return best, live, ok
}

// encode is the plain form of a row: 1 head {1 version, 2 record}, 2 claim {1 version, 2 by}; a version is feed and seq (8, big endian).
func (h *heads[R]) encode(c codec[R]) []byte {
	var b []byte
	for _, o := range h.heads {
		b = appendField(b, 1, encodeHead(c, o))
	}
	for _, cl := range h.claims {
		b = appendField(b, 2, appendField(appendField(nil, 1, encodeVersion(cl.version)), 2, encodeVersion(cl.by)))
	}
	return b
}

func encodeHead[R any](c codec[R], o head[R]) []byte {
	return appendField(appendField(nil, 1, encodeVersion(o.version)), 2, c.encode(o.record))
}

func decodeHead[R any](c codec[R], dir record.ID, b []byte) (o head[R], err error) {
	one, two, err := pair(b)
	if err != nil {
		return o, err
	}
	if o.version, err = decodeVersion(one); err != nil {
		return o, err
	}
	o.record, err = c.decode(dir, two)
	return o, err
}

// pair takes fields 1 and 2 of b.
func pair(b []byte) (one, two []byte, err error) {
	err = fields(b, func(n protowire.Number, b []byte) error {
		switch n {
		case 1:
			one = b
		case 2:
			two = b
		}
		return nil
	})
	return one, two, err
}

func decodeHeads[R any](c codec[R], dir record.ID, b []byte) (h heads[R], err error) {
	err = fields(b, func(n protowire.Number, b []byte) error { return h.field(c, dir, n, b) })
	return h, err
}

// field takes in one field of what encode wrote.
func (h *heads[R]) field(c codec[R], dir record.ID, n protowire.Number, b []byte) error {
	switch n {
	case 1:
		o, err := decodeHead(c, dir, b)
		h.heads = append(h.heads, o)
		return err
	case 2:
		one, two, err := pair(b)
		if err != nil {
			return err
		}
		v, err := decodeVersion(one)
		if err != nil {
			return err
		}
		by, err := decodeVersion(two)
		h.claims = append(h.claims, claim{v, by})
		return err
	}
	return nil
}

// withoutSpent is the row without the claims on versions that have been folded: of records that were passed over or stand at another key. They
// say nothing any more, and whether they are there depends on the order. nil if nothing else is in the row.
func (t *txn) withoutSpent(row, plain []byte) ([]byte, error) {
	switch row[0] {
	case rowDirent, rowDead:
		s, err := decodeSlot(parsePlace(row[1:]), plain)
		if err != nil || len(s.claims) == 0 {
			return plain, err
		}
		s.claims, err = t.unspent(s.claims)
		return s.encode(), err
	case rowAbout:
		if row[1+len(record.ID{})] == rowInode {
			return pruned(t, inodes, plain)
		}
	case rowWriter:
		return pruned(t, writers, plain)
	}
	return plain, nil
}

func pruned[R any](t *txn, c codec[R], plain []byte) ([]byte, error) {
	h, err := decodeHeads(c, record.Root, plain)
	if err != nil || len(h.claims) == 0 {
		return plain, err
	}
	h.claims, err = t.unspent(h.claims)
	return h.encode(c), err
}

func (t *txn) unspent(claims []claim) (kept []claim, err error) {
	for _, cl := range claims {
		position, err := t.count(feedRow(rowPosition, cl.version.Feed))
		if err != nil {
			return nil, err
		}
		if cl.version.Seq >= position {
			kept = append(kept, cl)
		}
	}
	return kept, nil
}

func encodeVersion(v record.Version) []byte {
	return binary.BigEndian.AppendUint64(append([]byte{}, v.Feed[:]...), v.Seq)
}

func decodeVersion(b []byte) (v record.Version, err error) {
	if len(b) != 40 {
		return v, fmt.Errorf("version of %d bytes: %w", len(b), ErrDamaged)
	}
	return record.Version{Feed: hypercore.Key(b[:32]), Seq: binary.BigEndian.Uint64(b[32:])}, nil
}

func appendField(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func fields(b []byte, each func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		n, kind, k := protowire.ConsumeTag(b)
		if k < 0 || kind != protowire.BytesType {
			return fmt.Errorf("row: %w", ErrDamaged)
		}
		v, m := protowire.ConsumeBytes(b[k:])
		if m < 0 {
			return fmt.Errorf("row: %w", ErrDamaged)
		}
		if err := each(n, v); err != nil {
			return err
		}
		b = b[k+m:]
	}
	return nil
}
