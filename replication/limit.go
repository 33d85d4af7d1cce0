package replication

import (
	"encoding/binary"
	"errors"
	"fmt"

	"hyphafs.org/hyphafs/replication/wire"
)

// limitExtension names the extension by which a node tells that it stores no more. npm peers do not list it, so they are not told. It sorts behind secure-ephemeral, whose
// frames stay those of 2019 to the byte.
const limitExtension = "x-hyphafs-limit"

// ErrFull says that a node has no room for a block: Feed.Put returns it, and Synced, when every peer says so.
var ErrFull = errors.New("no room for more of this Hypha")

// Limit says how much a node stores of a Hypha, in bytes of blocks.
type Limit struct{ Max, Used uint64 }

// encode is the payload of a limitExtension message: varint max, varint used; zeros: there is room again.
func (l Limit) encode() []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, l.Max), l.Used)
}

// decodeLimit reads what encode wrote. wire.ErrMessage if it is anything else.
func decodeLimit(b []byte) (l Limit, err error) {
	rest := b
	for _, number := range []*uint64{&l.Max, &l.Used} {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > wire.MaxNumber {
			return Limit{}, fmt.Errorf("limit: %w", wire.ErrMessage)
		}
		*number, rest = n, rest[size:]
	}
	if len(rest) > 0 {
		return Limit{}, fmt.Errorf("limit: %w", wire.ErrMessage)
	}
	return l, nil
}

// full asks whether this node stores no more.
func (n *Node) full() (limit Limit, full bool) {
	if n.cfg.Limit == nil {
		return Limit{}, false
	}
	return n.cfg.Limit()
}

// sendLimit tells the peer when this node is full, and when it is not any more.
func (s *session) sendLimit() {
	limit, full := s.node.full()
	if s.full = full; full == s.toldFull || !s.tellsLimit {
		return
	}
	s.toldFull = full
	if !full {
		limit = Limit{}
	}
	s.out.add(func(b []byte) []byte {
		return wire.Extension{ID: idLimit, Payload: limit.encode()}.Append(b, 0)
	})
}

// onLimit notes that the peer stores no more, or does again.
func (s *session) onLimit(payload []byte) {
	limit, err := decodeLimit(payload)
	if err != nil {
		s.node.counts.malformed.Add(1)
		return
	}
	s.mu.Lock()
	s.info.Limit = limit
	s.mu.Unlock()
	s.node.progress()
	if limit != (Limit{}) {
		s.node.cfg.Log.Warn("peer stores no more", "peer", s.opts.URL, "max", limit.Max, "used", limit.Used)
	}
}

// allFull reports whether there are peers and none of them stores more.
func (n *Node) allFull() bool {
	peers := n.Peers()
	for _, p := range peers {
		if p.Limit == (Limit{}) {
			return false
		}
	}
	return len(peers) > 0
}
