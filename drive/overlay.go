package drive

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
)

// inode is an inode that was changed here and not published yet, or that is open, or that lost its last name while the
// kernel still knows it. All others are in the view alone.
type inode struct {
	id record.ID

	// Guarded by Drive.mu.
	opens     int  // handles
	writers   int  // of these, those that may write
	known     bool // the kernel may ask for it: keep it after its last name is gone
	published bool // the view has a record of it; changed only with the inode's mu held as well
	shown     bool // the view has a name of it, or one in it; its record may be in the next step of the fold
	inFlight  bool // a record of it is being published

	counts     atomic.Pointer[counts] // what the view shows of it, or nil
	journalled atomic.Bool            // the journal speaks of it
	syncing    sync.Mutex             // one fsync at a time; taken before Drive.mu

	mu          sync.RWMutex // guards what follows; taken after Drive.mu, held over I/O on backing
	rec         record.Inode // as it is now; Extents say where bytes are that backing does not have
	base        []record.Version
	dirty       bool // to be published
	gone        bool // it has no name any more
	stale       bool // a peer changed it: what the kernel has of it may be wrong when the overlay lets go
	changes     uint64
	first, last time.Time // first and last change since it was published
	backing     hypercore.File
	present     blockset // blocks whose bytes are in backing
	pages       blockset // pages of other blocks whose bytes are in backing; the rest of these blocks is where Extents say
	unpublished blockset // blocks that have bytes in backing and changed since they went into the content feed
	unsynced    unsynced // what of backing is not durable
	named       bool     // backing's name is
	synced      uint64   // changes, when it was last fsynced
	grown       *grown   // since the journal's last synced item of it; nil if the next one has to say everything, as behind any other item that says what it is
	lost        bool     // an fsync of backing failed: what the disk has may not be what was written, and a later fsync would not tell
	owed        int64    // its part of Drive.owed
	unread      bool     // what it needs to be published could not be read: others are tried first
	// Invariant: backing, if there is one, is as long as the file; a block of pages is not in present, and has an extent; unpublished is part of held.
}

// grown is what a backing file has that it did not have before. Writes alone changed it.
type grown struct{ present, pages blockset }

// grow adds blocks, and pages of blocks that are not present.
func grow(present, pages *blockset, blocks, more []run) {
	for _, r := range blocks {
		present.add(r)
		pages.remove(pagesOf(r))
	}
	for _, r := range more {
		pages.add(r)
	}
}

// touch notes a change. Called with mu held.
func (in *inode) touch(now time.Time) {
	if !in.dirty {
		in.first = now
	}
	in.dirty, in.last = true, now
	in.changes++
}

func (in *inode) isDirty() bool {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.dirty
}

// entry is a name that was changed here and not published yet: it hides what the view shows there.
type entry struct {
	dir  record.ID
	name string // as it is shown
	id   record.ID
	kind record.Kind // of the inode it names, or named
	gone bool        // the name was removed; id is what it named

	place       record.Place // where the record stands: for a conflict copy not dir and name
	base        []record.Version
	stamp       record.Stamp // of what base says, as far as known
	movedFrom   *record.Place
	movedTo     *record.Place
	under       record.ID    // what the view shows there; zero for nothing
	underAt     record.Place // where the record of that stands
	underKind   record.Kind
	changes     uint64
	inFlight    bool // a record of the name, of this entry or of one before it, is being published
	first, last time.Time
}

// overlay is what this node changed and has not published. Guarded by Drive.mu.
type overlay struct {
	inodes  map[record.ID]*inode
	entries map[record.ID]map[string]*entry // by directory, then by name
	count   int                             // entries
	parents map[record.ID]*entry            // the entry that names a directory made here
	naming  map[record.ID][]*entry          // the entries of each inode, removed ones among them
	links   map[record.ID]int               // entries here that name an inode, less those of the view that are hidden
	hides   map[hidden]int                  // entries here that hide a name of the view
	subdirs map[record.ID]int               // by directory: those named in it here, less those of the view that are hidden
}

// hidden is a name of the view that an entry hides. In directories that are shown as one it stands in one of them, and is hidden in all.
type hidden struct {
	id record.ID
	at record.Place
}

func newOverlay() overlay {
	return overlay{hides: map[hidden]int{}, inodes: map[record.ID]*inode{}, entries: map[record.ID]map[string]*entry{}, parents: map[record.ID]*entry{}, links: map[record.ID]int{}, subdirs: map[record.ID]int{}, naming: map[record.ID][]*entry{}}
}

func (o *overlay) entry(dir record.ID, name string) *entry { return o.entries[dir][name] }

// set puts e in, in the place of the one with its name.
func (o *overlay) set(e *entry) {
	names := o.entries[e.dir]
	if names == nil {
		names = map[string]*entry{}
		o.entries[e.dir] = names
	}
	if old := names[e.name]; old != nil {
		o.account(old, -1)
		o.unname(old)
	} else {
		o.count++
	}
	names[e.name] = e
	o.account(e, 1)
	o.naming[e.id] = append(o.naming[e.id], e)
	if e.kind == record.Dir && !e.gone {
		o.parents[e.id] = e
	}
}

// drop takes e out.
func (o *overlay) drop(e *entry) {
	names := o.entries[e.dir]
	if names[e.name] != e {
		return
	}
	o.account(e, -1)
	o.unname(e)
	delete(names, e.name)
	o.count--
	if o.parents[e.id] == e {
		delete(o.parents, e.id)
	}
	if len(names) == 0 {
		delete(o.entries, e.dir)
	}
}

// account keeps the link counts right: e names its inode, and hides what the view shows.
func (o *overlay) account(e *entry, by int) {
	if !e.gone {
		add(o.links, e.id, by)
		if e.kind == record.Dir {
			add(o.subdirs, e.dir, by)
		}
	}
	if e.under == (record.ID{}) {
		return
	}
	if e.underKind == record.Dir {
		add(o.subdirs, e.dir, -by)
	}
	h := hidden{e.under, e.underAt}
	was := o.hides[h]
	add(o.hides, h, by)
	if was == 0 || was+by == 0 { // else another entry hides it as well
		add(o.links, e.under, -by)
	}
}

// isHidden reports whether an entry, of whatever directory, hides what the view shows.
func (o *overlay) isHidden(s view.EntryState) bool {
	return o.hides[hidden{s.ID, record.Place{Dir: s.Dir, Name: s.Stored}}] > 0
}

// add changes a counter; at zero it goes.
func add[K comparable](counts map[K]int, k K, by int) {
	if n := counts[k] + by; n != 0 {
		counts[k] = n
	} else {
		delete(counts, k)
	}
}

func (o *overlay) unname(e *entry) {
	if o.naming[e.id] = slices.DeleteFunc(o.naming[e.id], func(x *entry) bool { return x == e }); len(o.naming[e.id]) == 0 {
		delete(o.naming, e.id)
	}
}
