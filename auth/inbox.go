package auth

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// The answers that an approval can get.
var (
	ErrGone          = errors.New("no such request")
	ErrAnswered      = errors.New("the request was answered already")
	ErrNotAuthorised = errors.New("this node may not write itself")
)

// The bounds of an Inbox.
const (
	maxOpen     = 32               // requests at once
	maxAge      = 10 * time.Minute // of a request, and of an open one without a repeat
	maxFuture   = 2 * time.Minute  // a request's time may be ahead of ours
	maxNonces   = 4096             // remembered; older than any that would be taken
	maxPeers    = 1024             // whose rate is remembered
	maxAnswered = 256
	burst       = 4 // requests of one peer at once; then one a second
)

// Authorizer is what an Inbox needs of the drive.
type Authorizer interface {
	CanAuthorize() bool
	Authorized(key hypercore.Key) bool
	// Authorize returns when the writer is accepted for good.
	Authorize(ctx context.Context, key hypercore.Key, name string) error
}

// Store keeps an Inbox's refusals over restarts. Load returns nil at first; Save is durable when it returns. The bytes hold keys and names: seal them.
type Store interface {
	Load() ([]byte, error)
	Save([]byte) error
}

// InboxConfig of NewInbox. Store, Now and Log have defaults: memory, time.Now, none.
type InboxConfig struct {
	Identity   *Identity
	Authorizer Authorizer
	Store      Store
	Now        func() time.Time
	Log        *slog.Logger
}

// Request is one open request.
type Request struct {
	Key   hypercore.Key
	Dir   string // name of its directory: slug, dash, fingerprint
	Name  string // cleaned
	Words string // six words, one space between
	Proof string // ProofSignature or ProofNone
	Peer  string // through which it came first
	Asked time.Time
	Seen  time.Time // the last repeat
	JSON  []byte    // request.json
}

// Inbox takes requests for authorisation from peers and lets a person answer them. All methods may be called from many goroutines at once.
type Inbox struct {
	cfg InboxConfig

	saving sync.Mutex // held while the Store is called, so that the newest refusals are kept; taken before mu

	mu       sync.Mutex // guards what follows; not held while a writer is authorised or the Store is called
	open     map[hypercore.Key]*Request
	busy     map[hypercore.Key]bool // being answered
	denied   map[string]refusal     // by directory
	answered []string               // directories, the newest last
	nonces   map[string]time.Time   // -> when they may be forgotten
	rates    map[string]rate
	counters map[string]uint64
}

// refusal is a node that was refused. Older versions stored the key alone.
type refusal struct {
	Key  hypercore.Key
	Name string
}

// MarshalJSON writes {"writer": hex, "name": text}.
func (r refusal) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"writer": r.Key.String(), "name": r.Name})
}

// UnmarshalJSON is the reverse of MarshalJSON; it also takes the hex alone.
func (r *refusal) UnmarshalJSON(b []byte) (err error) {
	var said struct{ Writer, Name string }
	if err = json.Unmarshal(b, &said.Writer); err != nil {
		if err := json.Unmarshal(b, &said); err != nil {
			return err
		}
	}
	r.Name = said.Name
	r.Key, err = hypercore.ParseKey(said.Writer)
	return err
}

// rate is a token bucket.
type rate struct {
	left float64
	at   time.Time
}

// NewInbox returns an Inbox. Refusals that cannot be read are reported and begin anew.
func NewInbox(cfg InboxConfig) *Inbox {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	in := &Inbox{cfg: cfg, open: map[hypercore.Key]*Request{}, busy: map[hypercore.Key]bool{}, denied: map[string]refusal{},
		nonces: map[string]time.Time{}, rates: map[string]rate{}, counters: map[string]uint64{}}
	if cfg.Store != nil {
		if err := in.load(); err != nil {
			cfg.Log.Error("refused requests could not be read", "err", err)
		}
	}
	return in
}

func (in *Inbox) load() error {
	b, err := in.cfg.Store.Load()
	if err != nil || len(b) == 0 {
		return err
	}
	denied := map[string]refusal{}
	if err := json.Unmarshal(b, &denied); err != nil {
		return err
	}
	maps.Copy(in.denied, denied)
	return nil
}

// save keeps the refusals. Called without mu.
func (in *Inbox) save() error {
	if in.cfg.Store == nil {
		return nil
	}
	in.saving.Lock()
	defer in.saving.Unlock()
	in.mu.Lock()
	denied := maps.Clone(in.denied)
	in.mu.Unlock()
	b, err := json.Marshal(denied)
	if err != nil {
		return err
	}
	return in.cfg.Store.Save(b)
}

// Receive takes a secure-ephemeral message that came through peer. What is no request worth showing is dropped and counted.
func (in *Inbox) Receive(peer string, payload []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	reason := in.receive(peer, payload)
	in.counters[reason]++
	if reason != "shown" && reason != "repeated" {
		in.cfg.Log.Debug("message dropped", "peer", peer, "reason", reason)
	}
}

// receive returns what became of the message. Called with mu held.
func (in *Inbox) receive(peer string, payload []byte) string {
	now := in.cfg.Now()
	in.expire(now)
	if len(payload) > maxMessage {
		return "oversized"
	}
	text, err := OpenMessage(in.cfg.Identity.Ephemeral(), payload)
	if err != nil {
		return "unreadable" // free of charge: who lacks the key must not use up what a relay may pass on for those who have it
	}
	if !in.allow(peer, now) {
		return "flood"
	}
	a, err := parseRequest(in.cfg.Identity.Source, text)
	if err != nil {
		return "malformed"
	}
	switch {
	case now.Sub(a.time) > maxAge:
		return "old"
	case a.time.Sub(now) > maxFuture:
		return "future"
	case a.key == in.cfg.Identity.Source || in.cfg.Authorizer.Authorized(a.key):
		return "authorised"
	case in.isDenied(a.key):
		return "denied"
	}
	if a.nonce != "" {
		if _, seen := in.nonces[a.nonce]; seen {
			return "replay"
		}
		if len(in.nonces) >= maxNonces {
			return "flood"
		}
		in.nonces[a.nonce] = a.time.Add(maxAge + time.Minute)
	}
	return in.show(peer, a, now)
}

func (in *Inbox) isDenied(key hypercore.Key) bool {
	for _, r := range in.denied {
		if r.Key == key {
			return true
		}
	}
	return false
}

// allow takes one from the peer's bucket. Called with mu held.
func (in *Inbox) allow(peer string, now time.Time) bool {
	r, ok := in.rates[peer]
	if !ok {
		if len(in.rates) >= maxPeers {
			return false
		}
		r = rate{burst, now}
	}
	r.left = min(r.left+max(now.Sub(r.at).Seconds(), 0), burst)
	r.at = now
	ok = r.left >= 1
	if ok {
		r.left--
	}
	in.rates[peer] = r
	return ok
}

// show opens a request or refreshes the one that is open. What a person was shown never changes, but that a signature makes it certain who
// asks: a name that is not the signed one would be believed with it, so such a request is replaced, under another directory. Called with mu held.
func (in *Inbox) show(peer string, a asked, now time.Time) string {
	shown := in.open[a.key]
	if shown != nil {
		better := shown.Proof == ProofNone && a.proof == ProofSignature
		if !better || in.busy[a.key] || shown.Name == CleanName(a.name) {
			if better {
				shown.Proof = a.proof
				shown.describe()
			}
			if shown.Proof == a.proof {
				shown.Seen = now
			}
			return "repeated"
		}
	}
	r := &Request{Key: a.key, Name: CleanName(a.name), Words: Words(in.cfg.Identity.Source, a.key), Proof: a.proof, Peer: peer, Asked: a.time, Seen: now}
	r.Dir = record.NodeDir(r.Name, r.Key)
	for _, other := range in.open {
		if other.Dir == r.Dir && other.Key != r.Key {
			return "ambiguous"
		}
	}
	if _, taken := in.denied[r.Dir]; taken { // by another key: this one is not refused
		return "ambiguous"
	}
	if shown == nil && len(in.open) >= maxOpen && !in.makeRoom(a.proof) {
		return "full"
	}
	r.describe()
	in.open[a.key] = r
	in.cfg.Log.Info("a node asks to write", "node", r.Dir, "proof", r.Proof, "peer", peer)
	return "shown"
}

// makeRoom drops the oldest request without proof for one with proof. Called with mu held.
func (in *Inbox) makeRoom(proof string) bool {
	if proof != ProofSignature {
		return false
	}
	var oldest *Request
	for _, r := range in.open {
		if r.Proof == ProofNone && !in.busy[r.Key] && (oldest == nil || r.Seen.Before(oldest.Seen)) {
			oldest = r
		}
	}
	if oldest == nil {
		return false
	}
	delete(in.open, oldest.Key)
	return true
}

// describe makes request.json.
func (r *Request) describe() {
	said := struct {
		Name    string    `json:"name"`
		Key     string    `json:"writer"`
		Time    time.Time `json:"time"`
		Proof   string    `json:"proof"`
		Warning string    `json:"warning,omitempty"`
		Peer    string    `json:"peer"`
		Words   string    `json:"words"`
	}{r.Name, r.Key.String(), r.Asked.UTC(), r.Proof, "", r.Peer, r.Words}
	if r.Proof == ProofNone {
		said.Warning = "nothing proves that the sender holds this key; compare the words on the other screen before you approve"
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	if err := e.Encode(said); err != nil {
		panic(err) // strings and a time always encode
	}
	r.JSON = b.Bytes()
}

// expire forgets what is over. Called with mu held.
func (in *Inbox) expire(now time.Time) {
	for key, r := range in.open {
		if !in.busy[key] && (now.Sub(r.Seen) > maxAge || in.cfg.Authorizer.Authorized(key)) {
			delete(in.open, key)
		}
	}
	for nonce, until := range in.nonces {
		if now.After(until) {
			delete(in.nonces, nonce)
		}
	}
	for peer, r := range in.rates {
		if now.Sub(r.at) > burst*time.Second {
			delete(in.rates, peer)
		}
	}
}

// Requests returns the open requests, the oldest first. The caller owns the slice, not the bytes in it.
func (in *Inbox) Requests() []Request {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.expire(in.cfg.Now())
	out := make([]Request, 0, len(in.open))
	for _, r := range in.open {
		if !in.busy[r.Key] {
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b Request) int {
		if c := a.Asked.Compare(b.Asked); c != 0 {
			return c
		}
		return bytes.Compare(a.Key[:], b.Key[:])
	})
	return out
}

// Counters returns how many messages came to what end, by reason.
func (in *Inbox) Counters() map[string]uint64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	out := map[string]uint64{}
	for reason, n := range in.counters {
		if reason != "shown" && reason != "repeated" {
			out[reason] = n
		}
	}
	return out
}

// Approve lets the node that asked in dir write, exactly the key that was shown. It returns when that is durable. A refused node can be approved as
// well, by the name it had. ErrNotAuthorised, ErrGone, ErrAnswered.
func (in *Inbox) Approve(ctx context.Context, dir string) error {
	if !in.cfg.Authorizer.CanAuthorize() {
		return ErrNotAuthorised
	}
	key, name, err := in.take(dir, true)
	if err != nil {
		return err
	}
	err = in.cfg.Authorizer.Authorize(ctx, key, name)
	in.mu.Lock()
	delete(in.busy, key)
	_, denied := in.denied[dir]
	if err == nil {
		in.end(dir, key)
		delete(in.denied, dir)
	}
	in.mu.Unlock()
	if err != nil {
		return fmt.Errorf("approve %s: %w", dir, err)
	}
	in.cfg.Log.Info("approved", "node", dir)
	if denied {
		if err := in.save(); err != nil { // the approval is durable all the same
			in.cfg.Log.Error("the refusal could not be taken back", "node", dir, "err", err)
		}
	}
	return nil
}

// Deny refuses the node that asked in dir, for good: its requests are dropped until it is approved. ErrNotAuthorised, ErrGone, ErrAnswered.
func (in *Inbox) Deny(_ context.Context, dir string) error {
	if !in.cfg.Authorizer.CanAuthorize() {
		return ErrNotAuthorised
	}
	key, name, err := in.take(dir, false)
	if err != nil {
		return err
	}
	in.mu.Lock()
	delete(in.busy, key)
	in.end(dir, key)
	in.denied[dir] = refusal{key, name}
	in.mu.Unlock()
	in.cfg.Log.Info("refused", "node", dir)
	return in.save()
}

// take finds the request of dir and keeps others from answering it.
func (in *Inbox) take(dir string, orDenied bool) (hypercore.Key, string, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.expire(in.cfg.Now())
	for key, r := range in.open {
		if r.Dir != dir {
			continue
		}
		if in.busy[key] {
			return key, "", ErrAnswered
		}
		in.busy[key] = true
		return key, r.Name, nil
	}
	if r, ok := in.denied[dir]; ok {
		if !orDenied || in.busy[r.Key] {
			return r.Key, "", ErrAnswered
		}
		in.busy[r.Key] = true
		return r.Key, cmp.Or(r.Name, dir[:max(len(dir)-9, 0)]), nil
	}
	if slices.Contains(in.answered, dir) {
		return hypercore.Key{}, "", ErrAnswered
	}
	return hypercore.Key{}, "", ErrGone
}

// end closes a request. Called with mu held.
func (in *Inbox) end(dir string, key hypercore.Key) {
	delete(in.open, key)
	in.answered = append(in.answered, dir)
	if len(in.answered) > maxAnswered {
		in.answered = in.answered[1:]
	}
}
