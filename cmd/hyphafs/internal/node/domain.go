package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication/datdns"
)

// When a running node asks its domain by Dat DNS: soon after its start, then as often as the answer's TTL says within these bounds, give or take a quarter.
const (
	domainFirst = 4 * time.Second // at most
	domainLeast = time.Hour
	domainMost  = 24 * time.Hour
	domainRetry = 10 * time.Minute // after it could not be asked
)

// lookup asks a host by Dat DNS. It is (*datdns.Resolver).Lookup.
type lookup func(ctx context.Context, host string) (datdns.Record, error)

// peerURL is the always-on node of a host.
func peerURL(host string) string { return "wss://" + host }

// discover asks the domain of a new node for its always-on node, which becomes its peer. A domain that names another Hypha than passphrase and domain give is
// WrongPassphrase. Where nothing is to be learnt, notice says so and what to do.
func discover(ctx context.Context, ask lookup, s *Settings, source hypercore.Key) (pin *state.Pin, notice string, err error) {
	domain := s.Config.Domain
	host, err := datdns.HostName(domain)
	if err != nil {
		return nil, fmt.Sprintf("%s is not the name of a host, so no always-on node can be found by it: say --peer URL when you mount, or let a node connect to this one", domain), nil
	}
	rec, err := ask(ctx, host)
	switch {
	case ctx.Err() != nil:
		return nil, "", ctx.Err()
	case err != nil:
		return nil, fmt.Sprintf("no always-on node found at %s (%s): say --peer URL when you mount, or let a node connect to this one", domain, fault.OneLine(err.Error())), nil
	case rec.Key != source:
		return nil, "", fault.New(fault.WrongPassphrase, "check the passphrase; if the host is not yours, say --no-discovery, and --peer URL of a node that is",
			"%s names another Hypha than this passphrase gives: the passphrase is wrong, or the host is an impostor", domain)
	}
	s.Config.Peers = []string{peerURL(host)}
	return &state.Pin{Host: host, Since: time.Now().UTC().Truncate(time.Second)}, "", nil
}

// watch is what a running node does about its domain. Only its goroutine uses it, but for Alarm.
type watch struct {
	host   string
	source hypercore.Key
	ask    lookup
	pin    *state.Pin // nil: the host never named this Hypha
	save   func(state.Pin) error
	found  func() // the host names this Hypha, or did so before; called once
	log    *slog.Logger

	mu    sync.Mutex // guards what follows, over nothing
	alarm string
}

// Alarm is what a person has to know of the domain; empty if all is well.
func (w *watch) Alarm() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.alarm
}

// Run asks now and then, until ctx ends.
func (w *watch) Run(ctx context.Context) error {
	if w.pin != nil {
		w.found()
	}
	for next := rand.N(domainFirst); ; {
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		wait, err := w.once(ctx)
		if err != nil {
			return err
		}
		next = wait*3/4 + rand.N(wait/2)
	}
}

// once asks and returns how long to wait before the next time.
func (w *watch) once(ctx context.Context) (time.Duration, error) {
	rec, err := w.ask(ctx, w.host)
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case errors.Is(err, datdns.ErrNone) && w.pin != nil:
		w.log.Warn("the domain names no Hypha any more", "op", "dat dns")
		return domainLeast, nil
	case errors.Is(err, datdns.ErrNone):
		return domainLeast, nil
	case err != nil:
		w.log.Debug("the domain was not asked", "op", "dat dns", "err", err)
		return domainRetry, nil
	}
	return min(max(rec.TTL, domainLeast), domainMost), w.heard(rec.Key)
}

// heard takes what the host says. What was pinned once stays: another key is an alarm until the right one is back.
func (w *watch) heard(key hypercore.Key) error {
	right, now := key == w.source, time.Now().UTC().Truncate(time.Second)
	switch {
	case w.pin == nil && !right:
		w.log.Warn("the domain names another Hypha; this node goes on without it", "op", "dat dns")
		return nil
	case w.pin == nil:
		w.pin = &state.Pin{Host: w.host, Since: now}
		w.log.Info("the domain names this Hypha", "op", "dat dns")
		defer w.found()
	case right == (w.pin.Changed == nil):
		return nil
	case right:
		w.log.Warn("the domain names this Hypha again", "op", "dat dns", "elapsed", now.Sub(*w.pin.Changed))
		w.pin.Changed = nil
	default:
		w.log.Warn("the domain names another Hypha than before", "op", "dat dns")
		w.pin.Changed = &now
	}
	if err := w.save(*w.pin); err != nil {
		return fmt.Errorf("keeping what the domain names: %w", err)
	}
	w.judge()
	return nil
}

// judge makes the alarm of what is pinned.
func (w *watch) judge() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alarm = ""
	if w.pin != nil && w.pin.Changed != nil {
		w.alarm = fmt.Sprintf("%s names another Hypha since %s: it may have been taken over; nothing here was changed, but do not sign in by it",
			w.pin.Host, w.pin.Changed.Local().Format(time.DateTime))
	}
}

// newWatch returns the watch of this node's domain; nil if there is nothing to ask. found runs the always-on node's connection.
func (n *Node) newWatch(found func(url string)) (*watch, error) {
	host, err := datdns.HostName(n.settings.Config.Domain)
	if n.settings.Config.NoDiscovery || err != nil {
		return nil, nil
	}
	pin, err := n.settings.State.Pin()
	if err != nil {
		return nil, damaged(err)
	}
	w := &watch{
		host: host, source: n.identity.Source, ask: datdns.NewResolver(nil).Lookup, pin: pin, save: n.settings.State.SetPin, log: n.log,
		found: func() {
			if url := peerURL(host); !slices.Contains(n.settings.Config.Peers, url) {
				found(url)
			}
		},
	}
	w.judge()
	return w, nil
}
