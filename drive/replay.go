package drive

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/journal"
	"hyphafs.org/hyphafs/drive/record"
)

// replay takes up what the journal says was changed and not published.
func (d *Drive) replay(ctx context.Context) error {
	name, err := d.cfg.Work.Current()
	if err != nil {
		return err
	}
	if name == "" {
		return d.compact("1")
	}
	file, err := d.cfg.Work.Journal(name)
	if err != nil {
		return err
	}
	r := replayer{d: d, boot: d.cfg.Work.Boot(), synced: map[record.ID]syncedState{}, written: map[record.ID]*written{}, needed: map[record.ID]uint64{}}
	j, err := journal.Open(file, d.cfg.Local, name, r.frame)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	if err := r.finish(); err != nil {
		return errors.Join(err, j.Close())
	}
	d.journal = j
	if err := r.trim(ctx); err != nil {
		return err
	}
	for id, in := range d.overlay.inodes {
		d.recount(in)
		d.revive(id)
	}
	if err := d.compactNext(); err != nil {
		return err
	}
	return r.removeStray()
}

// syncedState is what the last fsync of an inode made durable.
type syncedState struct {
	rec     record.Inode
	present blockset
	pages   blockset
	changes uint64 // of the inode until then
	durable uint64 // bytes that the backing file was long when it was synced: if it is shorter, the file was cut since
}

// without is s when some blocks became a hole.
func (s syncedState) without(r run) syncedState {
	s.present.remove(r)
	s.pages.remove(pagesOf(r))
	s.rec.Extents = cutExtents(s.rec.Extents, r)
	return s
}

// written is what the journal holds of a file's bytes: all of a small file's, else what was fsynced since its backing file was.
type written struct {
	small  bool
	whole  bool    // it began as a small file: what is not in the pieces is zeros, whatever a file of that name has, which may be an older one
	pieces []patch // in order
	end    uint64  // of the piece that reaches farthest, as far as it was not cut off again
}

// patch puts bytes at an offset, or, without bytes, zeros up to an end: a hole was made there, or the file cut.
type patch struct {
	off uint64
	b   []byte
	end uint64
}

// put notes that bytes were written.
func (w *written) put(off uint64, b []byte) {
	w.pieces, w.end = append(w.pieces, patch{off: off, b: b}), max(w.end, off+uint64(len(b)))
}

// clear notes that there are zeros from off up to end, where bytes were.
func (w *written) clear(off, end uint64) {
	switch {
	case off >= w.end:
		return
	case w.small && off == 0 && end >= w.end: // it had no other bytes
		w.pieces = nil
	default:
		w.pieces = append(w.pieces, patch{off: off, end: end})
	}
	if end >= w.end {
		w.end = off
	}
}

// apply puts the pieces into file as far as it is to be size bytes long. It makes the file no shorter, and no longer than that: its length says whether it was cut, also
// to a replay that follows one which was cut off here.
func (w *written) apply(file hypercore.File, size uint64) error {
	for _, p := range w.pieces {
		if p.off >= size {
			continue
		}
		if p.b == nil {
			if err := punch(file, p.off, p.end); err != nil {
				return err
			}
			continue
		}
		if _, err := file.WriteAt(p.b[:min(uint64(len(p.b)), size-p.off)], int64(p.off)); err != nil {
			return err
		}
	}
	return nil
}

// punch makes a hole from off up to end, as far as the file goes.
func punch(file hypercore.File, off, end uint64) error {
	size, err := file.Size()
	if end = min(end, uint64(size)); err != nil || off >= end {
		return err
	}
	return file.Punch(int64(off), int64(end-off))
}

// replayer is one replay. The drive is not in use yet: it takes no locks.
type replayer struct {
	d        *Drive
	boot     string
	sameBoot bool
	synced   map[record.ID]syncedState
	written  map[record.ID]*written
	intents  []*intent
	needed   map[record.ID]uint64 // inodes that the frames held need, as they were after so many changes
	held     [][]parsed           // frames that may not count
}

// intent is a batch that may or may not have reached the own feed.
type intent struct {
	first   uint64
	inodes  map[record.ID]uint64 // -> block of its record
	changes map[record.ID]uint64 // that the record has seen
	entries map[[2]string]uint64 // directory and name
	touched map[any]bool         // changed after it was picked
}

// frame takes up one frame, or holds it until the bytes that it needs are known to be durable.
func (r *replayer) frame(b []byte) error {
	var items []parsed
	if err := parseFrame(b, func(p parsed) error { items = append(items, p); return nil }); err != nil {
		return err
	}
	for _, p := range items {
		if err := r.weigh(p); err != nil {
			return err
		}
	}
	r.held = append(r.held, items)
	if len(r.needed) > 0 {
		return nil
	}
	for _, items := range r.held {
		for _, p := range items {
			if err := r.item(p); err != nil {
				return err
			}
		}
	}
	r.held = nil
	return nil
}

// weigh notes what an item needs, or says of the bytes that others need.
func (r *replayer) weigh(p parsed) error {
	switch p.kind {
	case itemBoot:
		r.sameBoot = r.boot != "" && r.boot == string(p.bytes[1])
	case itemNeeds, itemSynced, itemSyncedMore, itemInodeDone, itemAbsolved:
		id, err := p.id(1)
		if err != nil {
			return err
		}
		switch {
		case p.kind == itemNeeds && !r.sameBoot:
			r.needed[id] = p.nums[6]
		case p.kind == itemInodeDone || p.kind == itemAbsolved || p.nums[6] >= r.needed[id]:
			delete(r.needed, id)
		}
	}
	return nil
}

func (r *replayer) item(p parsed) error {
	o := &r.d.overlay
	switch p.kind {
	case itemBoot, itemNeeds, itemAbsolved:
		return nil
	case itemEntry, itemEntryDone:
		return r.entry(p)
	case itemIntent:
		return r.intent(p)
	case itemCarriedOut:
		r.intents = slices.DeleteFunc(r.intents, func(i *intent) bool { return i.first == p.nums[2] })
		return nil
	}
	id, err := p.id(1)
	if err != nil {
		return err
	}
	in := o.inodes[id]
	r.mark(id)
	switch p.kind {
	case itemInode:
		return r.inode(id, p)
	case itemInodeDone:
		delete(o.inodes, id)
		delete(r.synced, id)
		delete(r.written, id)
	case itemBlocks:
		if in != nil {
			in.add([]run{p.run()}, nil)
			in.unpublished.add(p.run())
		}
	case itemPages:
		if in != nil {
			in.add(nil, []run{p.run()})
			in.unpublished.add(blocksAround(p.run()))
		}
	case itemCut:
		if in != nil {
			in.cutBlocks(p.run())
			r.cutBytes(id, p.run())
		}
		if s, ok := r.synced[id]; ok { // what was cut off on purpose does not come back as zeros
			r.synced[id] = s.without(p.run())
		}
	case itemSynced:
		rec, err := record.DecodeInode(p.bytes[3])
		if err != nil {
			return err
		}
		s := syncedState{rec: *rec, changes: p.nums[6], durable: r.synced[id].durable}
		if s.present, err = p.runs(4); err == nil {
			s.pages, err = p.runs(7)
		}
		if p.nums[2]&flagDurable != 0 {
			s.durable = rec.Size
			delete(r.written, id)
		}
		r.synced[id] = s
		return err
	case itemSyncedMore:
		return r.syncedMore(id, p)
	case itemBytes:
		if in != nil {
			r.wrote(in, p)
		}
	case itemSpilled:
		if in == nil {
			return nil
		}
		r.synced[id] = syncedState{rec: in.rec, present: slices.Clone(in.present)}
		if w := r.written[id]; w != nil {
			w.small, w.whole = false, true
		}
	}
	return nil
}

// syncedMore takes up a synced more item.
func (r *replayer) syncedMore(id record.ID, p parsed) error {
	s, ok := r.synced[id]
	if !ok {
		return fmt.Errorf("journal: more of %s was synced, and it never was: %w", id, ErrDamaged)
	}
	blocks, err := p.runs(4)
	if err != nil {
		return err
	}
	pages, err := p.runs(7)
	if err != nil {
		return err
	}
	grow(&s.present, &s.pages, blocks, pages)
	s.rec.Size, s.rec.Mtime, s.changes = p.nums[2], int64(p.nums[8]), p.nums[6]
	r.synced[id] = s
	return nil
}

// wrote takes up a bytes item.
func (r *replayer) wrote(in *inode, p parsed) {
	w := r.written[in.id]
	if w == nil {
		w = &written{}
		r.written[in.id] = w
	}
	w.small = p.nums[5] != 0
	off, b := p.nums[2], p.bytes[3]
	w.put(off, b)
	if !w.small {
		return
	}
	delete(r.synced, in.id) // it is older, and the journal has all since
	if len(b) == 0 {
		return
	}
	in.rec.Size = max(in.rec.Size, off+uint64(len(b)))
	in.rec.Mtime, in.rec.Ctime = int64(p.nums[4]), int64(p.nums[4])
	blocks := run{off >> blockShift, (off+uint64(len(b))-1)>>blockShift + 1}
	in.present.add(blocks)
	in.unpublished.add(blocks)
}

// cutBytes takes from the journalled bytes what became a hole. A small file stays one without bytes.
func (r *replayer) cutBytes(id record.ID, cut run) {
	const most = record.MaxSize >> blockShift
	if w := r.written[id]; w != nil {
		w.clear(min(cut.first, most)<<blockShift, min(cut.end, most)<<blockShift)
	}
}

// mark notes that something changed after the intents so far.
func (r *replayer) mark(what any) {
	for _, i := range r.intents {
		i.touched[what] = true
	}
}

func (r *replayer) inode(id record.ID, p parsed) error {
	rec, err := record.DecodeInode(p.bytes[3])
	if err != nil {
		return err
	}
	if id == record.Root && rec.Kind != record.Dir {
		return fmt.Errorf("journal: the root is no directory: %w", ErrDamaged)
	}
	in := r.d.overlay.inodes[id]
	if in == nil {
		in = &inode{id: id, first: r.d.cfg.Now()}
		r.d.overlay.inodes[id] = in
	}
	if w := r.written[id]; w != nil {
		w.clear(rec.Size, math.MaxInt64)
	}
	if in.present, err = p.runs(4); err != nil {
		return err
	}
	if in.pages, err = p.runs(7); err != nil {
		return err
	}
	in.unpublished = in.held()
	in.rec, in.base = *rec, rec.Replaces
	in.rec.Replaces = nil
	in.last = r.d.cfg.Now()
	in.dirty, in.gone, in.published, in.lost = p.nums[2]&flagDirty != 0, p.nums[2]&flagGone != 0, p.nums[2]&flagPublished != 0, p.nums[2]&flagLost != 0
	if s, ok := r.synced[id]; ok && s.rec.Size > in.rec.Size { // an inode item has a smaller size only if the file was cut, which it alone tells if the journal had failed (lose)
		s.rec.Size = in.rec.Size
		r.synced[id] = s.without(run{blocksOf(in.rec.Size), 1 << 62})
	}
	return nil
}

func (r *replayer) entry(p parsed) error {
	dir, err := p.id(1)
	if err != nil {
		return err
	}
	name := string(p.bytes[2])
	r.mark([2]string{string(dir[:]), name})
	if p.kind == itemEntryDone {
		if e := r.d.overlay.entry(dir, name); e != nil {
			r.d.overlay.drop(e)
		}
		return nil
	}
	placeDir, err := p.id(3)
	if err != nil {
		return err
	}
	rec, err := record.DecodeDirent(placeDir, p.bytes[4])
	if err != nil {
		return err
	}
	now := r.d.cfg.Now()
	e := &entry{dir: dir, name: name, id: rec.Inode, kind: rec.Kind, gone: rec.Removed, place: record.Place{Dir: placeDir, Name: rec.Name},
		base: rec.Replaces, stamp: rec.Stamp, movedFrom: rec.MovedFrom, movedTo: rec.MovedTo, first: now, last: now}
	if s, err := r.d.view.Lookup(dir, name); err == nil {
		e.under, e.underAt, e.underKind = s.ID, record.Place{Dir: s.Dir, Name: s.Stored}, s.Kind
	}
	r.d.overlay.set(e)
	return nil
}

func (r *replayer) intent(p parsed) error {
	i := &intent{first: p.nums[2], inodes: map[record.ID]uint64{}, changes: map[record.ID]uint64{}, entries: map[[2]string]uint64{}, touched: map[any]bool{}}
	for k, b := range p.nested {
		it, err := parseItem(itemInode, b)
		if err != nil {
			return err
		}
		id, err := it.id(1)
		if err != nil {
			return err
		}
		if name, ok := it.bytes[2]; ok {
			i.entries[[2]string{string(id[:]), string(name)}] = i.first + uint64(k)
		} else {
			i.inodes[id], i.changes[id] = i.first+uint64(k), it.nums[2]
		}
	}
	r.intents = append(r.intents, i)
	return nil
}

// finish settles what the last batches came to, and what a power loss left of the bytes.
func (r *replayer) finish() error {
	for _, i := range r.intents {
		if r.d.own != nil && r.d.own.Len() > i.first {
			r.carryOut(i)
		}
	}
	for id, in := range r.d.overlay.inodes {
		if in.gone && !in.published || !in.dirty { // nameless, or only read
			delete(r.d.overlay.inodes, id)
			continue
		}
		if err := r.bytes(in); err != nil {
			return err
		}
	}
	for _, names := range r.d.overlay.entries {
		for _, e := range names {
			if !e.gone && r.d.overlay.inodes[e.id] == nil && !r.d.inView(e.id) {
				r.d.overlay.drop(e)
			}
		}
	}
	return nil
}

// removeStray frees bytes that nothing speaks of, now that the journal in force does not either.
func (r *replayer) removeStray() error {
	backings, err := r.d.cfg.Work.Backings()
	if err != nil {
		return err
	}
	for _, id := range backings {
		if in := r.d.overlay.inodes[id]; in == nil || in.backing == nil || in.isSmall() {
			if err := r.d.cfg.Work.RemoveBacking(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// carryOut does what Drive.finish did not come to, if the batch is in the feed. One that failed left an intent as well, and another batch or an
// authorisation may stand at its place: only what the feed has there counts.
func (r *replayer) carryOut(i *intent) {
	stands := func(seq uint64, key string) bool {
		e, err := r.d.db.Entry(r.d.self, seq)
		return err == nil && e.Key == key
	}
	for id, seq := range i.inodes {
		in := r.d.overlay.inodes[id]
		if in == nil || !stands(seq, record.InodeKey(id)) {
			continue
		}
		in.published = true
		in.base = []record.Version{{Feed: r.d.self, Seq: seq}}
		if s, ok := r.synced[id]; ok && s.changes <= i.changes[id] { // what was published is newer
			delete(r.synced, id)
		}
		small := r.written[id] != nil && r.written[id].small
		if !i.touched[id] && (!in.holds() || small) { // else bytes may have been written since without a frame
			delete(r.d.overlay.inodes, id)
		}
	}
	for k, seq := range i.entries {
		e := r.d.overlay.entry(record.ID([]byte(k[0])), k[1])
		if e == nil || !stands(seq, record.DirentKey(e.place.Dir, r.d.cfg.Keys.Token(e.place.Dir, e.place.Name))) {
			continue
		}
		e.base = []record.Version{{Feed: r.d.self, Seq: seq}}
		if !i.touched[k] {
			r.d.overlay.drop(e)
		}
	}
}

// bytes opens an inode's backing file and takes from it what can be trusted: everything if the system ran on since it was written, else what was synced.
func (r *replayer) bytes(in *inode) error {
	lost := in.lost && r.sameBoot
	in.lost = false
	if in.rec.Kind != record.File {
		if in.holds() {
			return fmt.Errorf("journal: %s has bytes and is no file: %w", in.id, ErrDamaged)
		}
		return nil
	}
	w := r.written[in.id]
	s, synced := r.synced[in.id]
	if !r.sameBoot && !in.holds() && !synced && (w == nil || w.small) { // holes and what is in a feed: the record says it all
		return nil
	}
	if w != nil && w.small { // what the journal says is all, and in order
		in.backing = newSmall(&r.d.small, 0)
		return errors.Join(w.apply(in.backing, in.rec.Size), in.backing.Truncate(int64(in.rec.Size)))
	}
	switch {
	case r.sameBoot:
	case synced:
		in.rec.Size, in.rec.Extents, in.rec.Mtime = s.rec.Size, cutExtents(s.rec.Extents, run{blocksOf(s.rec.Size), 1 << 62}), s.rec.Mtime
		in.present, in.pages = s.present, s.pages
		in.unpublished = in.held()
	case in.published:
		if v, err := r.d.view.Inode(in.id); err == nil { // the bytes that were not synced never were
			if err := r.d.unpage(in.id, &v.Inode); err != nil {
				return err
			}
			in.rec.Size, in.rec.Extents, in.rec.Pages, in.rec.Mtime = v.Size, v.Extents, v.Pages, v.Mtime
		}
		in.present, in.pages, in.unpublished = nil, nil, nil
	default:
		in.rec.Size, in.rec.Extents, in.present, in.pages, in.unpublished = 0, nil, nil, nil, nil
	}
	if !in.holds() && !r.sameBoot {
		return nil
	}
	backing, err := r.d.cfg.Work.Backing(in.id)
	if err != nil {
		return err
	}
	err = r.fit(in, backing, s.durable, lost)
	if err == nil && lost {
		err = in.rewrite(backing)
	}
	if err != nil {
		return errors.Join(err, backing.Close())
	}
	if !in.holds() {
		return backing.Close()
	}
	in.backing, in.unsynced = backing, unsynced{all: true}
	return nil
}

// fit makes an inode and its backing file as long as each other: as the file is, if the system ran on; else as long as what was synced, or shorter, if the
// file is shorter than the durable bytes that it had: then it was cut since. The bytes that the journal has go in, if those of the file are in doubt, and
// what is then not known to be there is made a hole: the file may have it still, and it would show when something is written beside it.
func (r *replayer) fit(in *inode, backing hypercore.File, durable uint64, lost bool) error {
	size, err := backing.Size()
	if err != nil {
		return err
	}
	if r.sameBoot && in.holds() || !r.sameBoot && uint64(size) < min(durable, in.rec.Size) {
		in.rec.Size = uint64(size)
		in.cutBlocks(run{blocksOf(in.rec.Size), 1 << 62})
	}
	if w := r.written[in.id]; w != nil && (!r.sameBoot || lost) {
		if w.whole && !r.sameBoot {
			if err := backing.Truncate(0); err != nil {
				return err
			}
		}
		if err := w.apply(backing, in.rec.Size); err != nil {
			return err
		}
	}
	if err := backing.Truncate(int64(in.rec.Size)); err != nil || r.sameBoot {
		return err
	}
	for _, gap := range in.held().missing(run{0, blocksOf(in.rec.Size)}) {
		if err := punch(backing, gap.first<<blockShift, gap.end<<blockShift); err != nil {
			return err
		}
	}
	return nil
}

// trim brings the last block of files that end within it, if a feed has it alone, and longer: such a file was cut, and what a power loss left of it says where its
// blocks were before. When it grows again, zeros have to follow.
func (r *replayer) trim(ctx context.Context) error {
	for _, in := range r.d.overlay.inodes {
		n, left := in.rec.Size>>blockShift, in.rec.Size&(blockSize-1)
		e := in.extent(n)
		if r.sameBoot || left == 0 || e == nil || in.present.has(n) {
			continue
		}
		feed, err := r.d.feeds.Get(e.Feed)
		if err != nil {
			return err
		}
		if !feed.Has(e.Seq + n - e.Block) { // cutting it had brought it; what is gone since is not waited for
			continue
		}
		plain, err := r.d.block(ctx, in.id, *e, n)
		if err != nil {
			return err
		}
		if uint64(len(plain)) <= left {
			continue
		}
		if err := r.d.hydrate(ctx, in, []uint64{n}); err != nil {
			return err
		}
		in.unpublished.add(run{n, n + 1})
	}
	return nil
}

// intend notes what a batch is about to publish, so that a crash behind it does not publish it twice. Called with mu held; the journal
// has to be synced then.
func (d *Drive) intend(c *cut, first uint64) error {
	records := []field{numField(2, first)}
	c.each(func(_ int, cand *candidate) {
		records = append(records, bytesField(5, numField(2, cand.changes).append(bytesField(1, cand.in.id[:]).append(nil))))
	}, func(_, _ int, e *entry) {
		records = append(records, bytesField(5, bytesField(2, []byte(e.name)).append(bytesField(1, e.dir[:]).append(nil))))
	})
	var failed error
	c.each(func(_ int, cand *candidate) { // an fsync of these is spared
		in := cand.in
		in.mu.Lock()
		defer in.mu.Unlock()
		if p, ok := d.promised[in.id]; ok && p.changes <= cand.changes && in.synced <= cand.changes {
			var f frame
			f.placed(cand)
			failed = errors.Join(failed, d.log(&f))
			in.unsynced, in.synced = unsynced{all: true}, cand.changes // what the journal had of the bytes is done
			delete(d.promised, in.id)
		}
	}, func(int, int, *entry) {})
	var f frame
	f.item(itemIntent, records...)
	if err := errors.Join(failed, d.log(&f)); err != nil {
		return err
	}
	c.each(func(_ int, cand *candidate) { // what changed since it was picked is marked as such by coming after
		in := cand.in
		in.mu.Lock()
		defer in.mu.Unlock()
		if in.changes != cand.changes {
			var f frame
			f.inode(in)
			failed = errors.Join(failed, d.log(&f))
		}
	}, func(int, int, *entry) {})
	return failed
}
