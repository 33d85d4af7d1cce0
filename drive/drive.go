package drive

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/hyperdb"
	"hyphafs.org/hyphafs/drive/journal"
	"hyphafs.org/hyphafs/drive/record"
	"hyphafs.org/hyphafs/drive/view"
)

// Drive is one node's Hypha: what its feeds say, and what this node changed and has not published. All methods may be called from
// many goroutines at once.
type Drive struct {
	cfg     Config
	kv      *view.Buffered
	view    *view.View
	feeds   *FeedSet
	db      *hyperdb.DB
	self    hypercore.Key   // this node's own feed; zero without one
	own     *hypercore.Feed // nil without one
	bytes   *hypercore.Feed // its content feed
	cache   *lru.Cache[blockAt, []byte]
	sealed  sync.Pool                      // *[]byte with room for maxBulk sealed blocks
	ahead   aheads                         // what was opened ahead of reads
	absent  *lru.Cache[blockAt, time.Time] // when a read gave a block up
	small   atomic.Int64                   // bytes of all small files
	granted atomic.Int64                   // bytes that changes may need before the disk is asked again what is free
	owed    atomic.Int64                   // bytes that publishing everything takes, about
	tight   atomic.Bool                    // a change found no room
	batch   int                            // batchRecords, but in tests
	inline  int                            // maxInline, but in tests
	perPage int                            // pageExtents, but in tests
	pace    pace

	writable atomic.Bool
	ending   atomic.Bool   // Close began: nothing may change any more
	welcomed bool          // Config.Authorised was told; of the goroutine of Run, and of Open before
	wake     chan struct{} // something arrived, or is to be told

	publishing sync.Mutex   // one Publish or Authorize at a time; taken before folding
	folding    sync.Mutex   // one fold at a time; taken before mu
	promising  sync.Mutex   // one syncPromised at a time; taken before owing, held over fsyncs
	owing      sync.RWMutex // read by renames that promise bytes; taken before mu, held over fsyncs

	mu       sync.RWMutex // the namespace: guards what follows; held over reads of the view and writes of the journal, never over an fsync or a peer
	overlay  overlay
	lastID   record.ID             // that an inode was made with here; zero: none yet
	renamed  uint64                // how often names changed
	folds    uint64                // how often the view changed
	journal  *journal.Journal      // changed only with every inode's mu held as well
	retired  *journal.Journal      // the one before, which a Sync may still be using
	promised map[record.ID]promise // renamed over others since the journal was synced, with bytes that are not durable
	doomed   []record.ID           // lost their last name since then: their bytes go when that is durable
	scratch  scratchNames
	clock    record.Stamp
	notices  []Change // what the kernel does not know yet; Run tells it
	urgent   bool     // something has to be published before anybody is told
	alarms   []string
	claim    claim
	doubt    *doubt // nil: none
	closed   bool
}

// blockAt names a block of a content feed.
type blockAt struct {
	feed hypercore.Key
	seq  uint64
}

// Open opens the drive, takes up what a crash left, and folds what its feeds hold.
func Open(ctx context.Context, cfg Config) (*Drive, error) {
	cfg.setDefaults()
	d := &Drive{cfg: cfg, kv: view.NewBuffered(cfg.View), batch: batchRecords, inline: maxInline, perPage: pageExtents, overlay: newOverlay(), promised: map[record.ID]promise{}, scratch: scratchNames(cfg.Scratch), wake: make(chan struct{}, 1)}
	d.sealed.New = func() any {
		b := make([]byte, 0, maxBulk*(record.BlockSize+record.SealOverhead))
		return &b
	}
	d.ahead.init()
	d.feeds = newFeedSet(cfg.Source, d.openFeed)
	if cfg.Doubt != "" {
		d.doubt = &doubt{why: cfg.Doubt, ends: map[hypercore.Key]uint64{}}
	}
	if err := d.start(ctx); err != nil {
		return nil, errors.Join(err, d.feeds.Close(), d.kv.Close())
	}
	return d, nil
}

func (c *Config) setDefaults() {
	if c.Spare == nil {
		c.Spare = func() (view.KV, error) { return view.NewMemory(), nil }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Quiet == 0 {
		c.Quiet = time.Second
	}
	if c.Overdue == 0 {
		c.Overdue = 10 * time.Second
	}
	if c.BlockCache == 0 {
		c.BlockCache = 32 << 20
	}
	if c.ReadTimeout == 0 {
		c.ReadTimeout = 30 * time.Second
	}
	if c.Scratch == nil {
		c.Scratch = DefaultScratch
	}
}

func (d *Drive) start(ctx context.Context) (err error) {
	if d.absent, err = lru.New[blockAt, time.Time](1024); err != nil {
		return err
	}
	if d.cache, err = lru.New[blockAt, []byte](max(d.cfg.BlockCache/record.BlockSize, 4)); err != nil {
		return err
	}
	if d.view, err = view.Open(d.kv, d.cfg.Keys, d.cfg.Local, d.past, d.cfg.Log); err != nil {
		return err
	}
	if err := d.openOwn(); err != nil {
		return err
	}
	known, err := d.view.Writers()
	if err != nil {
		return err
	}
	cfg := hyperdb.Config{Source: d.cfg.Source, Known: known, Log: d.cfg.Log, OnWriter: d.writer,
		Open: func(_ context.Context, key hypercore.Key) (hyperdb.Log, error) { return d.feeds.Get(key) }}
	if d.own != nil {
		cfg.Local, cfg.LocalContent = d.own, d.bytes.Key()
	}
	if d.db, err = hyperdb.Open(ctx, cfg); err != nil {
		return err
	}
	if err := d.fold(ctx); err != nil {
		return err
	}
	if err := d.readClocks(); err != nil {
		return err
	}
	d.notices = nil // nobody looked yet
	if d.cfg.Work != nil {
		if err := d.replay(ctx); err != nil {
			return err
		}
		if err := d.hasten(); err != nil {
			return err
		}
	}
	d.alarmForks()
	d.checkAuthorised()
	if d.writable.Load() {
		return d.introduce(ctx)
	}
	return nil
}

// openOwn opens this node's feeds.
func (d *Drive) openOwn() (err error) {
	if d.cfg.Writer == nil {
		return nil
	}
	content, err := hyperdb.DeriveContent(d.cfg.Writer)
	if err != nil {
		return err
	}
	d.self = hypercore.Key(d.cfg.Writer.Public().(ed25519.PublicKey))
	d.feeds.secrets = map[hypercore.Key]ed25519.PrivateKey{d.self: d.cfg.Writer, hypercore.Key(content.Public().(ed25519.PublicKey)): content}
	if d.own, err = d.feeds.Get(d.self); err != nil {
		return err
	}
	d.bytes, err = d.feeds.Get(hypercore.Key(content.Public().(ed25519.PublicKey)))
	return err
}

func (d *Drive) openFeed(key hypercore.Key, secret ed25519.PrivateKey) (*hypercore.Feed, error) {
	return hypercore.Open(d.cfg.Feeds(hypercore.DiscoveryKey(key).String()), key, hypercore.Options{Secret: secret})
}

// introduce puts the origin's own name into the database, once.
func (d *Drive) introduce(ctx context.Context) error {
	if d.self != d.cfg.Source || d.cfg.Name == "" {
		return nil
	}
	if _, ok, err := d.view.Writer(d.self); ok || err != nil {
		return err
	}
	d.publishing.Lock()
	defer d.publishing.Unlock()
	op, err := d.writerRecord(d.self, d.cfg.Name, hypercore.Key{})
	if err != nil {
		return err
	}
	if _, err := d.db.Batch(ctx, []hyperdb.Op{op}); err != nil {
		return err
	}
	return d.fold(ctx)
}

func (d *Drive) writerRecord(feed hypercore.Key, name string, by hypercore.Key) (hyperdb.Op, error) {
	w := record.Writer{Name: record.CleanName(name), ApprovedBy: by, Time: d.cfg.Now().UnixNano(), Stamp: d.stamp(record.Stamp{})}
	key := record.WriterKey(feed)
	sealed, err := d.cfg.Keys.Seal(d.self, key, w.Encode())
	return hyperdb.Op{Key: key, Value: sealed}, err
}

// Run publishes, folds and flushes until ctx ends. It must run while the drive is in use, once.
func (d *Drive) Run(ctx context.Context) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var flushed time.Time
	var failure, unflushed string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
		case <-tick.C:
		}
		if err := d.receive(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Log.Error("fold", "err", err)
		}
		if err := d.publish(ctx, false); err != nil && ctx.Err() == nil && err.Error() != failure {
			d.cfg.Log.Error("publish", "err", err) // once, not at every try
			failure = err.Error()
		} else if err == nil {
			failure = ""
		}
		if now := d.cfg.Now(); now.Sub(flushed) >= time.Second {
			flushed = now
			d.ahead.sweep()
			if err := d.flush(ctx); err != nil && ctx.Err() == nil && err.Error() != unflushed {
				d.cfg.Log.Error("flush", "err", err)
				unflushed = err.Error()
			} else if err == nil {
				unflushed = ""
			}
		}
	}
}

// receive folds what arrived and tells who listens.
func (d *Drive) receive(ctx context.Context) error {
	err := d.fold(ctx)
	if d.own != nil {
		err = errors.Join(err, d.settleDoubt())
	}
	d.mu.Lock()
	urgent := d.urgent
	d.urgent = false
	d.mu.Unlock()
	if urgent {
		err = errors.Join(err, d.publish(ctx, false))
	}
	d.mu.Lock()
	changes := d.notices
	d.notices = nil
	d.mu.Unlock()
	if len(changes) > 0 && d.cfg.Changed != nil {
		d.cfg.Changed(changes)
	}
	d.checkAuthorised()
	return err
}

// writer takes up what the database says of a writer. This node may write before it offers its feed: a peer that gets the feed knows that.
func (d *Drive) writer(w hyperdb.Writer) {
	if w.Key == d.self && d.db != nil { // while opening, forks are looked for first
		d.grant()
	}
	d.feeds.Add(w)
}

// grant lets this node write, unless an alarm stopped it or its store may be an older copy of itself.
func (d *Drive) grant() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.alarms) > 0 || d.doubt != nil {
		return false
	}
	d.writable.Store(true)
	return true
}

// checkAuthorised lets this node write as soon as the database lists its feed, and tells who waits for that.
func (d *Drive) checkAuthorised() {
	if d.self.IsZero() || d.welcomed || !d.db.Authorized(d.self) || !d.grant() {
		return
	}
	d.welcomed = true
	d.cfg.Log.Info("this node may write")
	if d.cfg.Authorised != nil {
		d.cfg.Authorised()
	}
}

// flush makes downloads and the view durable, and frees the bytes of files that are gone.
func (d *Drive) flush(ctx context.Context) error {
	err := d.feeds.Sync(ctx)
	d.mu.RLock()
	doomed := len(d.doomed) > 0
	d.mu.RUnlock()
	if doomed {
		err = errors.Join(err, d.syncJournal())
	}
	if err != nil {
		return err
	}
	return d.kv.Flush()
}

// Close publishes everything, makes it durable and releases all files. Changes fail with ErrClosed from its beginning on. It is idempotent.
func (d *Drive) Close(ctx context.Context) error {
	d.ending.Store(true)
	d.mu.Lock()
	closed := d.closed
	d.mu.Unlock()
	if closed {
		return nil
	}
	d.ahead.endAll()
	err := errors.Join(d.publish(ctx, true), d.syncJournal())
	d.publishing.Lock()
	defer d.publishing.Unlock()
	d.folding.Lock()
	defer d.folding.Unlock()
	err = errors.Join(err, d.flush(ctx))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return err
	}
	d.closed = true
	for _, in := range d.overlay.inodes {
		in.mu.Lock()
		if in.backing != nil {
			err = errors.Join(err, in.backing.Close())
			in.backing = nil
		}
		in.mu.Unlock()
	}
	for _, j := range []*journal.Journal{d.retired, d.journal} {
		if j != nil {
			err = errors.Join(err, j.Close())
		}
	}
	if err := errors.Join(err, d.feeds.Close(), d.kv.Close()); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// Writable reports whether this node may write. It can turn true at any time, and false by an alarm.
func (d *Drive) Writable() bool { return d.writable.Load() }

// mayChange is nil if this node may write.
func (d *Drive) mayChange() error {
	if d.ending.Load() {
		return ErrClosed
	}
	if d.writable.Load() {
		return nil
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	switch {
	case len(d.alarms) > 0:
		return ErrStopped
	case d.doubt != nil:
		return fmt.Errorf("%w: %s", ErrOldCopy, d.doubt.why)
	}
	return ErrNotAuthorised
}

// Authorized reports whether the writer with key is accepted by all nodes.
func (d *Drive) Authorized(key hypercore.Key) bool { return d.db.Authorized(key) }

// CanAuthorize reports whether this node may let others write.
func (d *Drive) CanAuthorize() bool { return d.writable.Load() }

// Authorize lets the writer with key write, and notes what it is called. It returns when that is durable in this node's feed. ErrNotAuthorised
// on a node that may not write itself; authorising again does nothing.
func (d *Drive) Authorize(ctx context.Context, key hypercore.Key, name string) error {
	if err := d.mayChange(); err != nil {
		return fmt.Errorf("authorise: %w", err)
	}
	if d.db.Authorized(key) {
		return nil
	}
	d.publishing.Lock()
	defer d.publishing.Unlock()
	op, err := d.writerRecord(key, name, d.self)
	if err != nil {
		return err
	}
	if err := d.db.Authorize(ctx, key, op); err != nil {
		return fmt.Errorf("authorise: %w", err)
	}
	return d.fold(ctx)
}

// nudge wakes Run. A change made here does not: it has to be quiet first, and looking through the overlay at each would cost more than the change.
func (d *Drive) nudge() {
	select {
	case d.wake <- struct{}{}:
	default: // it was woken already
	}
}

// notice lets Run tell of a change that the kernel did not make. Called with mu held.
func (d *Drive) notice(c Change) {
	d.notices = append(d.notices, c)
	d.nudge()
}
