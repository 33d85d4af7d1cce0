package hyperdb

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// ErrBadEntry says that a block is no entry a reader can use; the wrapping error says why. It hides no other entry.
var ErrBadEntry = errors.New("bad entry")

// Bounds of what an entry of a peer may hold. A block has 8 MiB at most, in a feed and on the wire. There is no bound of pointers under one value but that of all:
// npm hyperdb's tries grow by one a round where two write at once, and 65,536 rounds would be a feed of 8 GiB. The longest trie, of 65,536 pointers and 750 kB, costs a reader
// 1 ms and a put that comes by it another 10 (BenchmarkWorstEntry, on one busy core).
const (
	maxFeeds    = 4096    // writers in a list
	maxKey      = 4096    // bytes
	maxInteger  = 1 << 53 // JavaScript's safe integers
	maxTrie     = 1 << 20 // bytes; maxPointers fit in, however long: feed 2, block 8, a value of its own 4
	maxPointers = 1 << 16 // in one trie
)

// Version names an entry: block Seq of Feed.
type Version struct {
	Feed hypercore.Key
	Seq  uint64
}

// Entry is one decoded block of a writer's feed. Its slices and maps must not be changed.
type Entry struct {
	Version
	Key     string
	Value   []byte // nil: absent, which differs from empty
	Deleted bool
	Inflate uint64          // block of the same feed that holds the list in force
	Feeds   []hypercore.Key // the list itself; only in an inflated entry
	Content hypercore.Key   // the writer's content feed; only in an inflated entry, zero if it has none

	list    []hypercore.Key // the list in force
	clock   []uint64        // blocks seen of each feed of it, as far as it goes
	encoded []byte          // the trie as it stands in the block, checked

	way way // guarded by DB.writing
}

// way is what only a put needs of an entry, each part empty until a put comes by. Most entries are read and never walked.
type way struct {
	path []byte
	trie *trie
}

// digits returns e's path. Called with DB.writing held.
func (e *Entry) digits() []byte {
	if e.way.path == nil {
		e.way.path = path(e.Key, true)
	}
	return e.way.path
}

// trie returns e's trie. Called with DB.writing held.
func (e *Entry) trie() trie {
	if e.way.trie == nil {
		t, err := decodeTrie(e.encoded, len(e.list))
		if err != nil {
			panic(err) // resolve checked it
		}
		e.way.trie = &t
	}
	return *e.way.trie
}

// Clock returns how many blocks of feed the writer says it had seen.
func (e *Entry) Clock(feed hypercore.Key) uint64 {
	for i, n := range e.clock {
		if e.list[i] == feed {
			return n
		}
	}
	return 0
}

// rawEntry is the protobuf: numbers are relative to the list in force. Decoded, value, trie and content are parts of the block.
type rawEntry struct {
	key     string
	value   []byte
	deleted bool
	trie    []byte
	clock   []uint64
	inflate uint64
	feeds   []hypercore.Key
	content []byte
}

// header is block 0 of every feed: Header { required string protocol = 1 }.
var header = append([]byte{0x0a, 0x07}, "hyperdb"...)

// encode writes the fields in number order, as hyperdb's messages do.
func (e *rawEntry) encode() []byte {
	b := make([]byte, 0, len(e.key)+len(e.value)+len(e.trie)+8*len(e.clock)+40*len(e.feeds)+64)
	b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), e.key)
	if e.value != nil {
		b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), e.value)
	}
	if e.deleted {
		b = protowire.AppendVarint(protowire.AppendTag(b, 3, protowire.VarintType), 1)
	}
	b = protowire.AppendBytes(protowire.AppendTag(b, 4, protowire.BytesType), e.trie)
	for _, n := range e.clock {
		b = protowire.AppendVarint(protowire.AppendTag(b, 5, protowire.VarintType), n)
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, 6, protowire.VarintType), e.inflate)
	for _, k := range e.feeds {
		feed := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), k[:])
		b = protowire.AppendBytes(protowire.AppendTag(b, 7, protowire.BytesType), feed)
	}
	if e.content != nil {
		b = protowire.AppendBytes(protowire.AppendTag(b, 8, protowire.BytesType), e.content)
	}
	return b
}

// decodeEntry decodes one block, which the entry keeps. It checks what can be checked without the list in force.
func decodeEntry(b []byte) (e rawEntry, err error) {
	var hasKey, hasTrie bool
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return e, bad("field: %v", protowire.ParseError(n))
		}
		b = b[n:]
		var num uint64
		var data []byte
		switch kind {
		case protowire.VarintType:
			num, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			data, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return e, bad("field %d: %v", number, protowire.ParseError(n))
		}
		b = b[n:]
		hasKey = hasKey || number == 1 && kind == protowire.BytesType
		hasTrie = hasTrie || number == 4 && kind == protowire.BytesType
		if err := e.field(number, kind, num, data); err != nil {
			return e, err
		}
	}
	if !hasKey || !hasTrie || len(e.key) > maxKey || len(e.trie) > maxTrie {
		return e, bad("no key, no trie, or one that is too long")
	}
	return e, nil
}

func (e *rawEntry) field(number protowire.Number, kind protowire.Type, num uint64, data []byte) error {
	switch {
	case kind == protowire.VarintType && num > maxInteger:
		return bad("number %d", num)
	case number == 1 && kind == protowire.BytesType:
		e.key = string(data)
	case number == 2 && kind == protowire.BytesType:
		e.value = data[:len(data):len(data)]
	case number == 3 && kind == protowire.VarintType:
		e.deleted = num != 0
	case number == 4 && kind == protowire.BytesType:
		e.trie = data[:len(data):len(data)]
	case number == 5 && kind == protowire.VarintType:
		e.clock = append(e.clock, num)
	case number == 5 && kind == protowire.BytesType:
		for len(data) > 0 { // packed, as other protobuf libraries write it
			num, n := protowire.ConsumeVarint(data)
			if n < 0 || num > maxInteger {
				return bad("clock")
			}
			e.clock, data = append(e.clock, num), data[n:]
		}
	case number == 6 && kind == protowire.VarintType:
		e.inflate = num
	case number == 7 && kind == protowire.BytesType:
		return e.feed(data)
	case number == 8 && kind == protowire.BytesType:
		if len(data) != 32 {
			return bad("content feed of %d bytes", len(data))
		}
		e.content = data[:len(data):len(data)]
	}
	if len(e.clock) > maxFeeds || len(e.feeds) > maxFeeds {
		return bad("more than %d feeds", maxFeeds)
	}
	return nil
}

// feed decodes { required bytes key = 1 }.
func (e *rawEntry) feed(b []byte) error {
	var key []byte
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return bad("feed: %v", protowire.ParseError(n))
		}
		m := protowire.ConsumeFieldValue(number, kind, b[n:])
		if m < 0 {
			return bad("feed: %v", protowire.ParseError(m))
		}
		if number == 1 && kind == protowire.BytesType {
			key, _ = protowire.ConsumeBytes(b[n:])
		}
		b = b[n+m:]
	}
	if len(key) != 32 {
		return bad("feed key of %d bytes", len(key))
	}
	e.feeds = append(e.feeds, hypercore.Key(key))
	return nil
}

func bad(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrBadEntry)...)
}
