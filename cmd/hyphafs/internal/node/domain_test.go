package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication/datdns"
)

// says is a host that names key.
func says(key hypercore.Key, ttl time.Duration) lookup {
	return func(context.Context, string) (datdns.Record, error) { return datdns.Record{Key: key, TTL: ttl}, nil }
}

func fails(err error) lookup {
	return func(context.Context, string) (datdns.Record, error) { return datdns.Record{}, err }
}

func TestDiscover(t *testing.T) {
	ours, other := someKey(t), someKey(t)
	for name, c := range map[string]struct {
		domain string
		ask    lookup
		code   fault.Code
		peer   string // then it is pinned
		notice string
	}{
		"right":            {"Anna.example", says(ours, 0), fault.Done, "wss://anna.example", ""},
		"another key":      {"anna.example", says(other, 0), fault.WrongPassphrase, "", ""},
		"none":             {"anna.example", fails(datdns.ErrNone), fault.Done, "", "no always-on node found at anna.example (the host names no key): say --peer URL"},
		"not reached":      {"anna.example", fails(errors.New("no such\nhost")), fault.Done, "", "(no such, host)"},
		"no name of hosts": {"anna's files", func(context.Context, string) (datdns.Record, error) { panic("asked") }, fault.Done, "", "say --peer URL"},
	} {
		s := Settings{Config: state.Config{Domain: c.domain}}
		pin, notice, err := discover(t.Context(), c.ask, &s, ours)
		if fault.CodeOf(err) != c.code || !strings.Contains(notice, c.notice) || (notice == "") != (c.notice == "") || strings.Contains(notice, "\n") {
			t.Errorf("%s: %q, %v", name, notice, err)
		}
		if c.peer == "" && (pin != nil || len(s.Config.Peers) > 0) {
			t.Errorf("%s: learnt %v, %v", name, pin, s.Config.Peers)
		}
		if c.peer != "" && (pin == nil || "wss://"+pin.Host != c.peer || pin.Since.IsZero() || !slices.Equal(s.Config.Peers, []string{c.peer})) {
			t.Errorf("%s: learnt %v, %v", name, pin, s.Config.Peers)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := Settings{Config: state.Config{Domain: "anna.example"}}
	if _, _, err := discover(ctx, fails(errors.New("x")), &s, ours); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// host is a host whose answer a test changes, and what the watch of it did.
type host struct {
	mu     *sync.Mutex // guards what follows; the test holds it while no time passes
	answer lookup
	asked  []time.Time
	saved  []state.Pin
	found  int
}

// watched runs a watch of h until the test ends.
func watched(t *testing.T, h *host, source hypercore.Key, pin *state.Pin) *watch {
	t.Helper()
	w := &watch{
		host: "anna.example", source: source, pin: pin, log: slog.New(slog.DiscardHandler),
		ask: func(ctx context.Context, name string) (datdns.Record, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.asked = append(h.asked, time.Now())
			return h.answer(ctx, name)
		},
		save: func(p state.Pin) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.saved = append(h.saved, p)
			return nil
		},
		found: func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.found++
		},
	}
	w.judge()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }() // ends with cancel, received below
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return w
}

// after lets time pass until nothing happens any more.
func (h *host) after(d time.Duration) {
	h.mu.Unlock()
	time.Sleep(d)
	synctest.Wait()
	h.mu.Lock()
}

// newHost returns a host whose mutex the test holds.
func newHost(answer lookup) *host {
	h := &host{mu: new(sync.Mutex), answer: answer}
	h.mu.Lock()
	return h
}

// TestWatchPins: the first right answer is pinned and makes a peer; another key later is an alarm that survives a restart and ends when the right one is back.
func TestWatchPins(t *testing.T) {
	ours, other := someKey(t), someKey(t)
	synctest.Test(t, func(t *testing.T) {
		h := newHost(says(ours, 0))
		defer h.mu.Unlock()
		w := watched(t, h, ours, nil)
		h.after(domainFirst)
		if len(h.asked) != 1 || h.found != 1 || len(h.saved) != 1 || h.saved[0].Changed != nil || w.Alarm() != "" {
			t.Fatalf("%d asked, %d found, %v saved, alarm %q", len(h.asked), h.found, h.saved, w.Alarm())
		}
		h.answer = says(other, 0)
		h.after(2 * domainLeast)
		if len(h.saved) != 2 || h.saved[1].Changed == nil || !strings.Contains(w.Alarm(), "anna.example names another Hypha since ") || h.found != 1 {
			t.Fatalf("changed: %v saved, %q", h.saved, w.Alarm())
		}
		since := *h.saved[1].Changed
		again := &host{mu: h.mu, answer: fails(errors.New("not reached"))}
		pin := h.saved[1]
		w2 := watched(t, again, ours, &pin)
		h.after(0)
		if len(again.asked) > 0 || w2.Alarm() != w.Alarm() || again.found != 1 {
			t.Fatalf("after a restart: asked %v, alarm %q, %d found", again.asked, w2.Alarm(), again.found)
		}
		h.after(2 * domainLeast)
		if len(h.saved) != 2 || w.Alarm() == "" || w2.Alarm() == "" {
			t.Errorf("still another key: %v saved, alarms %q and %q", h.saved, w.Alarm(), w2.Alarm())
		}
		if len(again.saved) > 0 || !strings.Contains(w2.Alarm(), since.Local().Format(time.DateTime)) || len(again.asked) < 2 {
			t.Errorf("not reached: %v saved, alarm %q, asked %d times", again.saved, w2.Alarm(), len(again.asked))
		}
		again.answer = fails(datdns.ErrNone)
		h.after(2 * domainLeast)
		if w2.Alarm() == "" {
			t.Error("naming none ended the alarm")
		}
		h.answer, again.answer = says(ours, 0), says(ours, 0)
		h.after(2 * domainLeast)
		if len(h.saved) != 3 || h.saved[2].Changed != nil || w.Alarm() != "" || w2.Alarm() != "" || again.found != 1 {
			t.Errorf("the right key: %v saved, alarms %q and %q", h.saved, w.Alarm(), w2.Alarm())
		}
	})
}

// TestWatchKeepsOut: a host that names another Hypha from the beginning is none of ours: no pin, no peer, no alarm.
func TestWatchKeepsOut(t *testing.T) {
	ours, other := someKey(t), someKey(t)
	synctest.Test(t, func(t *testing.T) {
		h := newHost(says(other, 0))
		defer h.mu.Unlock()
		w := watched(t, h, ours, nil)
		h.after(10 * domainLeast)
		if len(h.asked) < 5 || h.found > 0 || len(h.saved) > 0 || w.Alarm() != "" {
			t.Errorf("%d asked, %d found, %v saved, alarm %q", len(h.asked), h.found, h.saved, w.Alarm())
		}
	})
}

// TestWatchTimes: a host is asked as often as it says, within bounds, and not in step with others.
func TestWatchTimes(t *testing.T) {
	ours := someKey(t)
	for name, c := range map[string]struct {
		answer lookup
		wait   time.Duration
	}{
		"no keeping":  {says(ours, 0), domainLeast},
		"three hours": {says(ours, 3*time.Hour), 3 * time.Hour},
		"a week":      {says(ours, datdns.MaxTTL), domainMost},
		"none":        {fails(datdns.ErrNone), domainLeast},
		"offline":     {fails(errors.New("x")), domainRetry},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(c.answer)
			defer h.mu.Unlock()
			begun := time.Now()
			watched(t, h, ours, nil)
			h.after(50 * c.wait)
			if first := h.asked[0].Sub(begun); first > domainFirst {
				t.Errorf("%s: first asked after %v", name, first)
			}
			gaps := map[time.Duration]bool{}
			for i, at := range h.asked[1:] {
				gap := at.Sub(h.asked[i])
				gaps[gap] = true
				if gap < c.wait*3/4 || gap > c.wait*5/4 {
					t.Errorf("%s: asked again after %v", name, gap)
				}
			}
			if len(gaps) < 10 {
				t.Errorf("%s: in step: %v", name, gaps)
			}
		})
	}
}
