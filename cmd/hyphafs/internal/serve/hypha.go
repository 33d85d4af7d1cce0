package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"hyphafs.org/hyphafs/drive"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/hyperdb"
	"hyphafs.org/hyphafs/replication"
)

// maxWriters bounds the writers of a Hypha that are kept: with their content feeds they are what one stream carries.
const maxWriters = 128

// syncTime is how long what arrived may wait for being made durable.
const syncTime = time.Second

// hypha is one Hypha that is kept: its feeds, who writes them, and the node that replicates them.
type hypha struct {
	source hypercore.Key
	feeds  *drive.Set[Feed]
	store  Store
	db     *hyperdb.DB
	node   *replication.Node
	room   *room
	log    *slog.Logger
	wake   chan struct{} // cap 1: blocks arrived
	opened int           // writers; of openWriter, which hyperdb calls one at a time
}

// openHypha opens the feeds of source that are in store and learns its writers from them. ctx is that of the feeds that are opened later, too.
func openHypha(ctx context.Context, source hypercore.Key, store Store, s Settings, log *slog.Logger) (*hypha, error) {
	h := &hypha{source: source, store: store, room: &room{max: s.MaxBytes}, wake: make(chan struct{}, 1)}
	h.log = log.With("hypha", hypercore.DiscoveryKey(source))
	h.feeds = drive.NewFeedSet(source, func(key hypercore.Key) (Feed, error) { return store.Open(ctx, source, key) })
	if err := h.start(ctx, s); err != nil {
		return nil, errors.Join(err, h.feeds.Close())
	}
	return h, nil
}

func (h *hypha) start(ctx context.Context, s Settings) (err error) {
	h.db, err = hyperdb.Open(ctx, hyperdb.Config{Source: h.source, Open: h.openWriter, OnWriter: h.feeds.Add, Cache: 64, Log: h.log})
	if err != nil {
		return err
	}
	h.recount()
	h.node, err = replication.New(replication.Config{
		Feeds: shown{h}, AllowClear: s.AllowClear, Limit: h.limit, Log: h.log,
		OnFork: func(feed hypercore.Key, evidence *hypercore.ForkError) {
			h.log.Error("a writer signed two histories; its feed is kept as it was", "feed", feed, "err", evidence)
		},
	})
	return err
}

// recount finds out how many bytes are stored.
func (h *hypha) recount() {
	var sum uint64
	for _, f := range h.feeds.All() {
		n, err := f.StoredBytes()
		if err != nil {
			h.log.Error("how much is stored cannot be found out", "feed", f.Key(), "err", err)
		}
		sum += n
	}
	h.room.set(sum)
}

// limit is replication's Config.Limit: of this Hypha, or of the store.
func (h *hypha) limit() (replication.Limit, bool) {
	if limit, full := h.store.Full(); full {
		return limit, true
	}
	return h.room.limit()
}

// openWriter opens a writer's feed. Whom there is no place for has an empty one that nobody sees.
func (h *hypha) openWriter(_ context.Context, key hypercore.Key) (hyperdb.Log, error) {
	if h.opened++; h.opened > maxWriters {
		h.log.Warn("a writer is left out: there are too many", "feed", key, "writers", maxWriters)
		return hypercore.Open(hypercore.NewMemory(), key, hypercore.Options{})
	}
	return h.feeds.Get(key)
}

// run folds what arrives and makes it durable, until ctx ends.
func (h *hypha) run(ctx context.Context) error {
	tick := time.NewTicker(syncTime)
	defer tick.Stop()
	arrived, failure := false, ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.wake:
			arrived = true
			h.tell(&failure, h.db.Update(ctx))
		case <-tick.C:
			if arrived {
				arrived = false
				h.tell(&failure, h.feeds.Sync(ctx))
			}
		}
	}
}

// tell logs err unless it is the last one again.
func (h *hypha) tell(last *string, err error) {
	switch {
	case err == nil || errors.Is(err, context.Canceled):
	case err.Error() != *last:
		*last = err.Error()
		h.log.Error("store", "err", err)
	}
}

// close makes everything durable and closes the feeds.
func (h *hypha) close(ctx context.Context) error {
	if err := errors.Join(h.feeds.Sync(ctx), h.feeds.Close()); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// shown is a hypha's feeds as replication sees them.
type shown struct{ *hypha }

// Source is the origin's feed.
func (s shown) Source() hypercore.Key { return s.source }

// Feeds lists the feeds of the authorised writers.
func (s shown) Feeds() []replication.Feed {
	list := s.feeds.List()
	out := make([]replication.Feed, len(list))
	for i, f := range list {
		out[i] = kept{f, s.room}
	}
	return out
}

// Watch tells when there are more.
func (s shown) Watch() (<-chan struct{}, func()) { return s.feeds.Watch() }

// Stored wakes the hypha.
func (s shown) Stored(replication.Feed) {
	select {
	case s.wake <- struct{}{}:
	default: // it has not looked since the last one
	}
}
