package drive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/hyperdb"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
)

// Status is what a person may want to know of a drive. Sizes are bytes.
type Status struct {
	Writable         bool
	Source           hypercore.Key
	Writer           hypercore.Key // this node's feed; zero without one
	Feeds            []FeedStatus
	UnpublishedFiles uint64
	UnpublishedBytes uint64
	MissingBlocks    uint64 // of all feeds
	MissingBytes     uint64 // estimated from the blocks that are here
	Conflicts        int
	Alarms           []string
	Skipped          uint64 // records that were passed over since the start
}

// FeedStatus is one feed of a writer.
type FeedStatus struct {
	Key     hypercore.Key
	Writer  hypercore.Key // whose it is
	Content bool          // a content feed
	Length  uint64        // blocks
	Have    uint64        // of these, those stored here
}

// Status returns the state of now.
func (d *Drive) Status() (Status, error) {
	s := Status{Writable: d.Writable(), Source: d.cfg.Source, Writer: d.self, Skipped: d.view.Skipped()}
	for _, w := range d.db.Writers() {
		for _, key := range []hypercore.Key{w.Key, w.Content} {
			if key.IsZero() {
				continue
			}
			f, err := d.feeds.Get(key)
			if err != nil {
				return s, err
			}
			fs := FeedStatus{Key: key, Writer: w.Key, Content: key == w.Content, Length: f.Len(), Have: f.Have()}
			s.Feeds = append(s.Feeds, fs)
			if missing := fs.Length - min(fs.Have, fs.Length); missing > 0 {
				s.MissingBlocks += missing
				s.MissingBytes += missing * (f.Bytes() / fs.Length)
			}
		}
	}
	conflicts, err := d.conflicts()
	s.Conflicts = len(conflicts)
	clocks, clockErr := d.clockAlarms()
	err = errors.Join(err, clockErr)
	d.mu.RLock()
	defer d.mu.RUnlock()
	s.Alarms = append(slices.Clone(d.alarms), clocks...)
	for id, in := range d.overlay.inodes {
		in.mu.RLock()
		if in.dirty && in.rec.Kind != record.Dir && (in.published || !in.gone && !d.onlyHere(id)) {
			s.UnpublishedFiles++
			s.UnpublishedBytes += min(in.unpublished.count()<<blockShift, in.rec.Size)
		}
		in.mu.RUnlock()
	}
	return s, err
}

// Node is a writer as people see it.
type Node struct {
	Feed       hypercore.Key
	Name       string        // cleaned; "" if nobody said
	ApprovedBy hypercore.Key // zero for the origin, or if nobody said
	Time       time.Time     // of the approval; zero if nobody said
	Self       bool
}

// Nodes lists the authorised writers, the origin first.
func (d *Drive) Nodes() ([]Node, error) {
	var out []Node
	for _, w := range d.db.Writers() {
		n := Node{Feed: w.Key, ApprovedBy: w.By, Self: w.Key == d.self}
		rec, ok, err := d.view.Writer(w.Key)
		if err != nil {
			return nil, err
		}
		if ok {
			n.Name, n.Time = record.CleanName(rec.Name), time.Unix(0, rec.Time)
			if !rec.ApprovedBy.IsZero() {
				n.ApprovedBy = rec.ApprovedBy
			}
		}
		out = append(out, n)
	}
	return out, nil
}

// Check verifies every signature, tree and stored block, folds all feeds into a fresh view, and compares it with the one in use. What is wrong comes joined,
// with ErrDamaged among it.
func (d *Drive) Check(ctx context.Context) error {
	var wrong []error
	for _, f := range d.feeds.All() {
		if err := f.Check(ctx); err != nil {
			wrong = append(wrong, err)
		}
	}
	if err := d.checkView(ctx); err != nil {
		wrong = append(wrong, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(wrong) > 0 {
		return errors.Join(append(wrong, ErrDamaged)...)
	}
	return nil
}

// checkView folds again, as far as the view has come.
func (d *Drive) checkView(ctx context.Context) (err error) {
	d.folding.Lock() // the view stands still meanwhile
	defer d.folding.Unlock()
	spare, err := d.cfg.Spare()
	if err != nil {
		return err
	}
	kv := view.NewBuffered(spare)
	defer func() { err = errors.Join(err, kv.Close()) }()
	fresh, err := view.Open(kv, d.cfg.Keys, d.cfg.Local, d.past, nil)
	if err != nil {
		return err
	}
	writers := d.db.Writers()
	slices.SortFunc(writers, func(a, b hyperdb.Writer) int { return cmp.Compare(string(b.Key[:]), string(a.Key[:])) }) // another order than the fold's
	for _, w := range writers {
		to, err := d.view.Position(w.Key)
		if err != nil {
			return err
		}
		for at := uint64(1); at < to; at += foldBatch {
			var entries []view.Entry
			next := min(at+foldBatch, to)
			for seq := at; seq < next; seq++ {
				if e, err := d.db.Entry(w.Key, seq); err == nil && e.Key != "" {
					entries = append(entries, view.Entry{Seq: e.Seq, Key: e.Key, Value: e.Value})
				}
			}
			if _, err := fresh.Fold(ctx, w.Key, next, entries); err != nil {
				return err
			}
			if kv.Pending() > maxPending {
				if err := kv.Flush(); err != nil {
					return err
				}
			}
		}
	}
	want, err := fresh.Digest()
	if err != nil {
		return err
	}
	got, err := d.view.Digest()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("the view is not what the feeds say: %w", ErrDamaged)
	}
	return nil
}
