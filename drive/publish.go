package drive

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"hyphafs.org/hyphafs/drive/hyperdb"
	"hyphafs.org/hyphafs/drive/record"
)

// candidate is an inode that is due: as it was when all its bytes were in the content feed.
type candidate struct {
	in      *inode
	first   time.Time // when it changed first
	rec     record.Inode
	base    []record.Version
	changes uint64
	present blockset // the blocks that were in the backing file then, as a whole or in part
	ready   bool     // rec is complete
	partial bool     // but for bytes that are not in the content feed, of an inode that is gone
	forced  bool     // it goes along with an entry in it
}

// cut is one batch of records: a consistent picture of part of the namespace.
type cut struct {
	inodes  []*candidate
	ahead   int // so many of the inodes are before the entries, the others behind
	entries []*entry
	changes []uint64 // of each entry when it was picked
	stamps  []record.Stamp
	ops     []hyperdb.Op
	paged   []int // ascending: the ops of inodes with pages
}

// batchRecords bounds a batch: about so many records, and with them the memory they take and how long the namespace is held.
const batchRecords = 4096

// Publish puts everything that may be published into the feeds, durably.
func (d *Drive) Publish(ctx context.Context) error { return d.publish(ctx, true) }

// publish puts what is due, or with all everything, into the feeds. Nothing is lost if it fails: it is due again.
func (d *Drive) publish(ctx context.Context, all bool) error {
	d.publishing.Lock()
	defer d.publishing.Unlock()
	for {
		if !d.writable.Load() || d.cfg.Work == nil || d.held() {
			return nil
		}
		d.pace.look(d.cfg.Now())
		if err := d.renew(); err != nil {
			return fmt.Errorf("a new journal: %w", err)
		}
		if err := d.complete(); err != nil {
			return err
		}
		due := d.due(all)
		if due == nil {
			d.pace.behind.Store(0)
			return errors.Join(d.shorten(), d.undone(all))
		}
		done, unread, err := d.publishDue(ctx, due, all)
		if errors.Is(err, ErrNoSpace) {
			d.tight.Store(true)
			err = errors.Join(err, d.shorten()) // it may be enough for the next time
		}
		if err != nil {
			return err
		}
		if err := d.compactIfDue(); err != nil {
			return errors.Join(unread, fmt.Errorf("a new journal: %w", err))
		}
		if done == 0 || !all && done < d.batch {
			return errors.Join(unread, d.shorten(), d.undone(all))
		}
	}
}

// undone is an error if everything was to be published and something cannot be.
func (d *Drive) undone(all bool) error {
	if !all {
		return nil
	}
	return d.allWhole()
}

// publishDue publishes the inodes due, first their bytes and then, with the names that go with them, their records. It returns how many records there were, and
// what could not be read.
func (d *Drive) publishDue(ctx context.Context, due map[record.ID]*candidate, all bool) (done int, unread, err error) {
	if unread, err = d.publishContent(ctx, due); err != nil {
		return 0, unread, fmt.Errorf("publish content: %w", noSpace(err))
	}
	if err := d.publishPages(ctx, due); err != nil {
		return 0, unread, fmt.Errorf("publish extents: %w", noSpace(err))
	}
	if done, err = d.publishRecords(ctx, due, all); err != nil {
		return 0, unread, fmt.Errorf("publish records: %w", noSpace(err))
	}
	return done, unread, nil
}

// dueness says what is to be published at an instant.
type dueness struct {
	now            time.Time
	quiet, overdue time.Duration
	waits          bool // what is quiet waits until it is overdue
	all            bool // everything is due
}

// dueness is that of now. Called with publishing held.
func (d *Drive) dueness(all bool) dueness {
	return dueness{now: d.cfg.Now(), quiet: d.cfg.Quiet, overdue: d.cfg.Overdue, waits: d.pace.fast && d.small.Load() < smallRoom/4*3, all: all}
}

// is reports whether something that changed between first and last is to be published.
func (u dueness) is(first, last time.Time) bool {
	return u.all || u.isOverdue(first) || !u.waits && u.now.Sub(last) >= u.quiet
}

func (u dueness) isOverdue(first time.Time) bool { return u.now.Sub(first) >= u.overdue }

// due lists inodes to publish, by id, as many as go into one batch, those that changed first; nil if nothing at all is due. Called with publishing held.
func (d *Drive) due(all bool) map[record.ID]*candidate {
	d.mu.RLock()
	defer d.mu.RUnlock()
	u := d.dueness(all)
	if !all && u.waits && d.pace.nothingDue(u.now) {
		return nil
	}
	chosen := oldest{most: d.batch}
	first := u.now // of all that waits
	for id, in := range d.overlay.inodes {
		in.mu.RLock()
		changed, since, unread := in.dirty, in.first, in.unread
		busy := in.writers > 0 && !in.gone && !all && !u.isOverdue(since)
		ready := changed && !busy && (in.published || !in.gone) && u.is(since, in.last) && in.whole() == nil
		in.mu.RUnlock()
		if changed && since.Before(first) {
			first = since
		}
		if ready && (in.published || !d.onlyHere(id)) {
			if unread {
				since = u.now
			}
			chosen.offer(in, since)
		}
	}
	if len(chosen.of) > 0 {
		return chosen.byID()
	}
	for _, names := range d.overlay.entries {
		for _, e := range names {
			if u.is(e.first, e.last) {
				return chosen.byID()
			}
			if e.first.Before(first) {
				first = e.first
			}
		}
	}
	d.pace.looked(first.Add(u.overdue))
	return nil
}

// oldest keeps those candidates that changed first: a heap with the last of them on top. Files that were made one after the other thereby stand side by side in the feed,
// where whoever reads a directory of them reads in order.
type oldest struct {
	most int
	of   []*candidate
}

func (o *oldest) Len() int           { return len(o.of) }
func (o *oldest) Less(i, j int) bool { return o.of[j].first.Before(o.of[i].first) }
func (o *oldest) Swap(i, j int)      { o.of[i], o.of[j] = o.of[j], o.of[i] }
func (o *oldest) Push(c any)         { o.of = append(o.of, c.(*candidate)) }

// Pop is heap.Interface's.
func (o *oldest) Pop() any {
	c := o.of[len(o.of)-1]
	o.of = o.of[:len(o.of)-1]
	return c
}

// offer keeps in, if it is among the oldest so far.
func (o *oldest) offer(in *inode, first time.Time) {
	switch {
	case len(o.of) < o.most:
		heap.Push(o, &candidate{in: in, first: first})
	case first.Before(o.of[0].first):
		o.of[0] = &candidate{in: in, first: first}
		heap.Fix(o, 0)
	}
}

func (o *oldest) byID() map[record.ID]*candidate {
	m := make(map[record.ID]*candidate, len(o.of))
	for _, c := range o.of {
		m[c.in.id] = c
	}
	return m
}

// inOrder lists candidates in the order in which they changed first.
func inOrder(due map[record.ID]*candidate) []*candidate {
	return slices.SortedFunc(maps.Values(due), func(a, b *candidate) int {
		return cmp.Or(a.first.Compare(b.first), bytes.Compare(a.in.id[:], b.in.id[:]))
	})
}

// onlyHere reports whether every name of an inode that was made here stays on this node. Called with mu held.
func (d *Drive) onlyHere(id record.ID) bool {
	for _, e := range d.overlay.naming[id] {
		if !e.gone && !d.staysHere(e.dir, e.name) {
			return false
		}
	}
	return true
}

// publishRecords writes the records of what is ready and due as one batch, folds it, and lets the overlay go of it. It
// returns how many there were.
func (d *Drive) publishRecords(ctx context.Context, due map[record.ID]*candidate, all bool) (int, error) {
	d.mu.Lock()
	c := d.pick(due, all)
	if len(c.ops) == 0 {
		d.mu.Unlock()
		return 0, nil
	}
	first := d.own.Len()
	err := d.intend(c, first)
	d.mu.Unlock()
	if err == nil {
		err = c.seal(d)
	}
	if err == nil {
		err = d.syncJournal()
	}
	if err != nil {
		d.abandon(c)
		return 0, err
	}
	at, err := d.db.Batch(ctx, c.ops)
	if err != nil {
		d.abandon(c)
		return 0, err
	}
	if at != first {
		d.abandon(c)
		return 0, fmt.Errorf("records at block %d, expected at %d", at, first)
	}
	err = d.fold(context.WithoutCancel(ctx)) // what is in the feed is not to be left half-way
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(c.ops), errors.Join(err, d.finish(c, first, err == nil))
}

// pick chooses what goes into one batch. Called with mu held.
func (d *Drive) pick(due map[record.ID]*candidate, all bool) *cut {
	p := picker{d: d, due: due, chosen: map[*entry]bool{}, visited: map[*entry]bool{}}
	u := d.dueness(all)
	for _, c := range due {
		c.ready = c.ready && c.in.wholeLocked() == nil // lost meanwhile
	}
	for _, names := range d.overlay.entries {
		for _, e := range names {
			if !e.gone && len(p.chosen) < d.batch && (u.is(e.first, e.last) || p.isReady(e.id)) {
				p.include(e, 0)
			}
		}
	}
	for _, names := range d.overlay.entries {
		for _, e := range names {
			if e.gone && (e.movedTo != nil || len(p.chosen) < d.batch && u.is(e.first, e.last)) {
				p.includeGone(e)
			}
		}
	}
	behind := 0
	if len(p.chosen) >= d.batch || len(due) >= d.batch {
		behind = d.overlay.count - len(p.chosen)
	}
	d.pace.behind.Store(int64(behind))
	return p.cut()
}

// picker chooses a consistent set: an entry goes with its inode and with the directory it is in, a move with both its ends.
type picker struct {
	d      *Drive
	due    map[record.ID]*candidate
	chosen map[*entry]bool
	// visited are the removed entries that were looked at: those not chosen wait for another batch.
	visited map[*entry]bool
}

func (p *picker) isReady(id record.ID) bool {
	c := p.due[id]
	return c != nil && c.ready
}

// include chooses a live entry, if everything that has to go with it can go.
func (p *picker) include(e *entry, depth int) bool {
	if p.chosen[e] {
		return true
	}
	if depth > maxLevels || p.d.staysHere(e.dir, e.name) {
		return false
	}
	if in := p.d.overlay.inodes[e.id]; in != nil && !in.published && !p.isReady(e.id) && !p.force(in) {
		return false
	}
	if dir := p.d.overlay.inodes[e.dir]; dir != nil && !dir.published && e.dir != record.Root {
		above := p.d.entryNaming(e.dir)
		if above == nil || !p.include(above, depth+1) {
			return false
		}
	}
	p.chosen[e] = true
	if e.under != e.id {
		p.account(e.under, depth)
	}
	return true
}

// account sees to an inode that loses a name which others know: it has to stay somewhere, or to be deleted with the name, for without that it would be shown there
// again.
func (p *picker) account(id record.ID, depth int) {
	if in := p.d.overlay.inodes[id]; in != nil && in.gone && in.isDirty() && !p.isReady(id) {
		p.force(in)
	}
	for _, other := range p.d.overlay.naming[id] {
		if !other.gone {
			p.include(other, depth+1)
		}
	}
}

// force makes an inode without bytes, a directory or a removed one, ready before its time.
func (p *picker) force(in *inode) bool {
	if in.gone != in.published || in.rec.Kind == record.File && !in.gone {
		return false
	}
	c := &candidate{in: in, forced: true}
	in.mu.RLock()
	c.take()
	in.mu.RUnlock()
	p.due[in.id] = c
	return true
}

// take copies the inode's record as it is now. Called with in.mu held.
func (c *candidate) take() {
	c.rec, c.base, c.changes, c.ready, c.partial = c.in.rec, c.in.base, c.in.changes, true, c.in.unpublished.count() > 0
	c.present = c.in.held()
}

// includeGone chooses a removed entry, and with it what becomes of its inode and of the one that others see there. The end of a move waits for the entry that the
// move made, the removal of a directory for what was removed in it: others, and this node when it lets go of the entry, would be shown the directory again (merge rule 5).
func (p *picker) includeGone(e *entry) {
	if p.chosen[e] || p.visited[e] || p.d.staysHere(e.dir, e.name) {
		return
	}
	p.visited[e] = true
	if e.kind == record.Dir {
		for _, in := range p.d.overlay.entries[e.id] {
			if !in.gone {
				continue // the directory was moved, and this goes with its inode
			}
			if len(p.chosen) < p.d.batch {
				p.includeGone(in)
			}
			if !p.chosen[in] && !p.d.staysHere(in.dir, in.name) {
				return
			}
		}
	}
	if e.movedTo != nil {
		for _, live := range p.d.overlay.naming[e.id] {
			if !live.gone && !p.chosen[live] {
				return
			}
		}
	}
	p.chosen[e] = true
	p.account(e.id, 0)
	if e.under != e.id {
		p.account(e.under, 0)
	}
}

// cut encodes what was chosen: inodes that are new, deletions of inodes, then entries, then the other inodes. So whoever has a part of it finds the inode of each name, and
// a fold on the way never takes a file for orphaned.
func (p *picker) cut() *cut {
	c := &cut{}
	var removed, known []*candidate
	for id, cand := range p.due {
		in := cand.in
		switch {
		case !cand.ready || !in.isDirty():
		case in.gone && in.published:
			cand.rec.Removed = true
			if s, err := p.d.view.Inode(id); cand.partial && err == nil && p.d.unpage(id, &s.Inode) == nil { // who moved it meanwhile gets the bytes that others know
				cand.rec.Size, cand.rec.Extents, cand.rec.Pages = s.Size, s.Extents, s.Pages
			}
			removed = append(removed, cand)
		case in.gone:
		case in.published || p.named(id):
			cand.rec.Removed = false // it was, and was moved meanwhile
			if len(cand.base) > 0 {
				known = append(known, cand)
			} else {
				c.inodes = append(c.inodes, cand)
			}
		}
	}
	c.inodes = append(c.inodes, removed...)
	c.ahead = len(c.inodes)
	c.inodes = append(c.inodes, known...)
	for _, cand := range c.inodes[:c.ahead] {
		p.inode(c, cand)
	}
	for e := range p.chosen {
		p.entry(c, e)
	}
	for _, cand := range known {
		p.inode(c, cand)
	}
	return c
}

// named reports whether an entry of inode id was chosen.
func (p *picker) named(id record.ID) bool {
	for _, e := range p.d.overlay.naming[id] {
		if p.chosen[e] && !e.gone {
			return true
		}
	}
	return false
}

func (p *picker) inode(c *cut, cand *candidate) {
	cand.in.inFlight = true
	cand.rec.Stamp = p.d.nextStamp(cand.rec.Stamp)
	cand.rec.Replaces = cand.base
	if len(cand.rec.Extents) <= p.d.inline {
		cand.rec.Pages = nil
	} else if len(cand.rec.Pages) > 0 {
		cand.rec.Extents = nil // they are there
		c.paged = append(c.paged, len(c.ops))
	}
	c.ops = append(c.ops, hyperdb.Op{Key: record.InodeKey(cand.in.id), Value: cand.rec.Encode(), Delete: cand.rec.Removed})
}

func (p *picker) entry(c *cut, e *entry) {
	e.inFlight = true
	stamp := p.d.nextStamp(e.stamp)
	c.entries = append(c.entries, e)
	c.changes = append(c.changes, e.changes)
	c.stamps = append(c.stamps, stamp)
	rec := record.Dirent{Name: e.place.Name, Inode: e.id, Kind: e.kind, Removed: e.gone, MovedFrom: e.movedFrom, MovedTo: e.movedTo, Stamp: stamp, Replaces: e.base}
	key := record.DirentKey(e.place.Dir, p.d.cfg.Keys.Token(e.place.Dir, e.place.Name))
	c.ops = append(c.ops, hyperdb.Op{Key: key, Value: rec.Encode(), Delete: e.gone})
}

// seal seals the records, which are plain until then.
func (c *cut) seal(d *Drive) error {
	for i, op := range c.ops {
		seal := d.cfg.Keys.Seal
		if _, paged := slices.BinarySearch(c.paged, i); paged {
			seal = d.cfg.Keys.SealPaged
		}
		sealed, err := seal(d.self, op.Key, op.Value)
		if err != nil {
			return err
		}
		c.ops[i].Value = sealed
	}
	return nil
}

// each calls fn for every record of the batch with its position.
func (c *cut) each(inode func(i int, cand *candidate), entry func(i, k int, e *entry)) {
	i := 0
	for _, cand := range c.inodes[:c.ahead] {
		inode(i, cand)
		i++
	}
	for k, e := range c.entries {
		entry(i, k, e)
		i++
	}
	for _, cand := range c.inodes[c.ahead:] {
		inode(i, cand)
		i++
	}
}

// abandon takes back that a batch is under way.
func (d *Drive) abandon(c *cut) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c.each(func(_ int, cand *candidate) { cand.in.inFlight = false }, func(_, _ int, e *entry) { d.landed(e) })
	for _, cand := range c.inodes {
		d.revive(cand.in.id)
	}
}

// landed notes that the record of e is no longer under way, and returns what its name means by now; nil for what the view says. Called with mu held.
func (d *Drive) landed(e *entry) *entry {
	now := d.overlay.entry(e.dir, e.name)
	if now != nil {
		now.inFlight = false
	}
	return now
}

// finish lets the overlay go of what was published and did not change since; what did change is based on what was published. So is all of it
// if the view could not take it: then the overlay has to go on showing it. Called with mu held.
func (d *Drive) finish(c *cut, first uint64, folded bool) error {
	var f frame
	var clean []*inode
	var uncovered []*entry
	var failed error
	version := func(i int) []record.Version {
		return []record.Version{{Feed: d.self, Seq: first + uint64(i)}}
	}
	c.each(func(i int, cand *candidate) {
		in := cand.in
		in.shown = in.shown || in.published // its name may be deleted later than it
		in.inFlight = false
		in.mu.Lock()
		in.published = !cand.rec.Removed // a deletion that changes once more has nothing to say to others
		in.base = version(i)
		in.rec.Stamp, in.rec.Owner, in.rec.Pages = cand.rec.Stamp, cand.rec.Owner, cand.rec.Pages
		in.dropPublished()
		if folded && in.changes == cand.changes {
			in.dirty = false
			d.owe(in, 0)
			clean = append(clean, in)
		}
		owed := d.promised[in.id]
		if owed.changes <= cand.changes {
			delete(d.promised, in.id)
		}
		if in.opens == 0 && (in.backing == nil || in.isSmall()) { // only who holds d.mu changes it, and nobody syncs it
			f.published(in, cand.changes, owed.changes)
		} else {
			var own frame
			own.published(in, cand.changes, owed.changes)
			failed = errors.Join(failed, d.log(&own))
		}
		in.mu.Unlock()
	}, func(i, k int, e *entry) {
		switch now := d.landed(e); {
		case folded && now == e && e.changes == c.changes[k]:
			d.overlay.drop(e)
			f.entryDone(e)
			uncovered = append(uncovered, e)
		case now != nil:
			now.base, now.stamp = version(i), c.stamps[k]
			f.entry(now)
		}
	})
	if failed != nil {
		return failed
	}
	f.carriedOut(first)
	if err := d.log(&f); err != nil {
		return err
	}
	for _, cand := range c.inodes {
		d.revive(cand.in.id)
	}
	for _, in := range clean {
		d.release(in)
	}
	for _, e := range uncovered {
		d.uncover(e)
	}
	return nil
}

// uncover tells what the view shows where e, which was dropped, said something else: a deletion or a move that the merge rules decided against. What e hid has a name again. Called with mu
// held.
func (d *Drive) uncover(e *entry) {
	said := e.id
	if e.gone {
		said = record.ID{}
	}
	if e.under != said {
		d.notice(Change{ID: e.under, Dir: e.dir, Name: e.name, Was: said})
	}
	d.revive(e.id)
	d.revive(e.under)
}
