package record

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// ErrInvalid says that a record or key is none that a node of ours writes.
var ErrInvalid = errors.New("invalid record")

// tokenLength is the length of a name token in characters.
const tokenLength = 22

// DirentKey is the database key of the entry with token in dir.
func DirentKey(dir ID, token string) string { return "d/" + dir.String() + "/" + token }

// InodeKey is the database key of inode id.
func InodeKey(id ID) string { return "f/" + id.String() }

// PageKey is the database key of the page of inode id that begins at block first.
func PageKey(id ID, first uint64) string { return fmt.Sprintf("e/%s/%d", id, first) }

// WriterKey is the database key of what nodes call the writer of feed.
func WriterKey(feed hypercore.Key) string { return "n/" + feed.String() }

// Family says which kind of record a database key names.
type Family byte

// The families of keys.
const (
	Dirents Family = 'd'
	Inodes  Family = 'f'
	Writers Family = 'n'
	Pages   Family = 'e'
)

// Place of a record among the keys: ID is the directory or the inode, Token the name token, Feed the writer, First the block that a page begins at.
type KeyParts struct {
	Family Family
	ID     ID
	Token  string
	Feed   hypercore.Key
	First  uint64
}

// ParseKey takes a database key apart. ErrInvalid for all that is none of ours.
func ParseKey(key string) (p KeyParts, err error) {
	if len(key) < 3 || key[1] != '/' {
		return p, ErrInvalid
	}
	p.Family = Family(key[0])
	rest := key[2:]
	switch p.Family {
	case Dirents:
		dir, token, ok := strings.Cut(rest, "/")
		if !ok || len(token) != tokenLength || strings.Contains(token, "/") {
			return p, ErrInvalid
		}
		p.Token = token
		p.ID, err = ParseID(dir)
	case Inodes:
		p.ID, err = ParseID(rest)
	case Pages:
		id, n, ok := strings.Cut(rest, "/")
		first, badNumber := strconv.ParseUint(n, 10, 64)
		if !ok || badNumber != nil || strconv.FormatUint(first, 10) != n {
			return p, ErrInvalid
		}
		p.First = first
		p.ID, err = ParseID(id)
	case Writers:
		p.Feed, err = hypercore.ParseKey(rest)
		if err == nil && p.Feed.String() != rest {
			err = ErrInvalid
		}
	default:
		err = ErrInvalid
	}
	if err != nil {
		return p, ErrInvalid
	}
	return p, nil
}

// MaxName is the greatest length of a name, in bytes.
const MaxName = 255

// ValidName reports whether name can stand in directory dir: 1 to 255 bytes, no '/', no NUL, not "." or "..", and in the root not ".hypha".
func ValidName(dir ID, name string) bool {
	return name != "" && len(name) <= MaxName && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00") &&
		(dir != Root || name != ".hypha")
}
