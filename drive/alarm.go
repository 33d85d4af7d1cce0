package drive

import (
	"errors"
	"fmt"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// How long a peer's mere claim to have more of this node's own feed keeps it from publishing: each time, and in all, so that a liar
// stops nobody for good.
const (
	claimPause  = 10 * time.Second
	claimPauses = 6
)

// claim is what a peer says of this node's own feeds.
type claim struct {
	until  time.Time
	length uint64
	pauses int
}

// Alarm stops writing on this node for good: a fork or a rollback was seen. The message is kept for Status.
func (d *Drive) Alarm(err error) {
	d.mu.Lock()
	d.alarms = append(d.alarms, err.Error())
	d.writable.Store(false)
	d.mu.Unlock()
	d.cfg.Log.Error("writing stopped", "err", err)
}

// alarmForks stops writing if any feed was seen forked, in this run or an earlier one: the feeds keep the evidence.
func (d *Drive) alarmForks() {
	for _, f := range d.feeds.All() {
		if fork := f.Forked(); fork != nil {
			d.Alarm(fork)
		}
	}
}

// Ahead hears that a peer has, or with proved has shown to have, more of feed than was here. If it is this node's own, the store is an older copy of itself: what a
// peer has is taken over before anything is appended, since two blocks at one place would be a fork.
func (d *Drive) Ahead(feed hypercore.Key, length uint64, proved bool) {
	if d.own == nil || feed != d.self && feed != d.bytes.Key() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !proved && feed == d.self && d.claim.pauses < claimPauses {
		d.claim = claim{d.cfg.Now().Add(claimPause), length, d.claim.pauses + 1}
	}
	d.cfg.Log.Warn("a peer has more of this node's own feed", "feed", feed.String(), "length", length, "proved", proved)
}

// held reports whether publishing waits for the end of this node's own feed.
func (d *Drive) held() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.own.Len() < d.claim.length && d.cfg.Now().Before(d.claim.until)
}

// errIncomplete says that blocks of this node's own feed are still at its peers.
var errIncomplete = errors.New("the end of this node's own feed is not here yet")

// complete is nil if this node has the end of its own feed, which every append builds on.
func (d *Drive) complete() error {
	if n := d.own.Len(); n > 0 && !d.own.Has(n-1) {
		return fmt.Errorf("%w: block %d", errIncomplete, n-1)
	}
	return nil
}
