package replication

import "hyphafs.org/hyphafs/drive/hypercore"

// Keeper is a Feed some of whose blocks are here, but not yet where they are kept for good. A peer that has such a block itself is not told of it before Node.Announce says
// that it is kept: it may rely on that. A peer that lacks it is told at once, so that what passes through does not wait.
type Keeper interface {
	Feed
	// Unkept returns a bit for each of the length blocks from start on, most significant first, 1 for one that Has and that is not kept; nil or short: no more of
	// them. The caller owns it.
	Unkept(start, length uint64) []byte
}

// Announce tells the peers of every session that the blocks of a feed from from up to to are here to stay: those that a Keeper had already, and those that came otherwise than
// from a peer. A feed that no session has is none of its business.
func (n *Node) Announce(feed hypercore.Key, from, to uint64) {
	n.fetch(feed).tell([]span{{from, to}})
}

// withhold clears in have, which is a bit for each block from start on, what the peer may not be told of yet.
func (c *channel) withhold(start uint64, have []byte) {
	keeper, ok := c.feed.(Keeper)
	if !ok {
		return
	}
	for i, unkept := range keeper.Unkept(start, 8*uint64(len(have))) {
		for bit := uint64(0); unkept != 0; bit, unkept = bit+1, unkept<<1 {
			if seq := start + 8*uint64(i) + bit; unkept&0x80 != 0 && !c.mayTell(seq) {
				have[i] &^= 0x80 >> bit
			}
		}
	}
}

// mayTell reports whether the peer may be told of a block that is not kept yet: it lacks it, as far as it said what it has.
func (c *channel) mayTell(seq uint64) bool {
	if !c.heardHave {
		c.withheld = true // until it does
	}
	return c.heardHave && !c.has.has(seq)
}

// tellable returns the parts of s that the peer may be told of.
func (c *channel) tellable(s span) []span {
	keeper, ok := c.feed.(Keeper)
	if !ok {
		return []span{s}
	}
	unkept := keeper.Unkept(s.start, s.end-s.start)
	var parts []span
	for seq := s.start; seq < s.end; seq++ {
		i := seq - s.start
		if i/8 < uint64(len(unkept)) && unkept[i/8]&(0x80>>(i%8)) != 0 && !c.mayTell(seq) {
			continue
		}
		if k := len(parts); k > 0 && parts[k-1].end == seq {
			parts[k-1].end++
		} else {
			parts = append(parts, span{seq, seq + 1})
		}
	}
	return parts
}

// tellWithheld tells what was withheld because the peer had not said what it has.
func (c *channel) tellWithheld() {
	if !c.withheld {
		return
	}
	c.withheld = false
	c.fetch.mu.Lock()
	c.renew = true
	c.fetch.mu.Unlock()
	c.wake()
}
