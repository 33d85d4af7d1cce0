package auth

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// fakeDrive is an Authorizer in memory.
type fakeDrive struct {
	mu       sync.Mutex
	readOnly bool
	err      error
	entered  chan struct{} // if set, Authorize sends to it, and then
	wait     chan struct{} // waits for this
	names    map[hypercore.Key]string
}

func (d *fakeDrive) CanAuthorize() bool { return !d.readOnly }

func (d *fakeDrive) Authorized(key hypercore.Key) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.names[key]
	return ok
}

func (d *fakeDrive) Authorize(_ context.Context, key hypercore.Key, name string) error {
	if d.entered != nil {
		d.entered <- struct{}{}
		<-d.wait
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	d.names[key] = name
	return nil
}

// fakeStore is a Store in memory.
type fakeStore struct {
	mu    sync.Mutex
	b     []byte
	saves int
	err   error
}

func (s *fakeStore) Load() ([]byte, error) { return s.b, s.err }

func (s *fakeStore) Save(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.b = bytes.Clone(b)
	s.saves++
	return nil
}

// inboxTest is an Inbox with a clock of its own.
type inboxTest struct {
	*testing.T
	*Inbox
	id    *Identity
	drive *fakeDrive
	store *fakeStore
	now   time.Time
	peers int
}

func newInboxTest(t *testing.T) *inboxTest {
	it := &inboxTest{T: t, id: identityOf(t), drive: &fakeDrive{names: map[hypercore.Key]string{}}, store: &fakeStore{}, now: noon}
	it.restart()
	return it
}

func (it *inboxTest) restart() {
	it.Inbox = NewInbox(InboxConfig{Identity: it.id, Authorizer: it.drive, Store: it.store, Now: func() time.Time { return it.now }})
}

func (it *inboxTest) seal(text []byte) []byte {
	it.Helper()
	m, err := SealMessage(it.id.Ephemeral(), text, rand.Reader)
	if err != nil {
		it.Fatal(err)
	}
	return m
}

// signed is a message with a signed request.
func (it *inboxTest) signed(writer ed25519.PrivateKey, name string, at time.Time) []byte {
	it.Helper()
	text, err := NewRequest(it.id.Source, writer, name, at, rand.Reader)
	if err != nil {
		it.Fatal(err)
	}
	return it.seal(text)
}

// unsigned is a message as an original node sends it.
func (it *inboxTest) unsigned(key hypercore.Key, name string, at time.Time) []byte {
	it.Helper()
	text, err := encodeJSON(wireRequest{NodeName: name, Timestamp: at.UTC().Format(timeFormat), Action: actionAuthorise, ReadKey: key.String()})
	if err != nil {
		it.Fatal(err)
	}
	return it.seal(text)
}

// take gives a message to the Inbox through a peer of its own and expects what becomes of it.
func (it *inboxTest) take(what string, message []byte) {
	it.Helper()
	it.peers++
	it.takeFrom(fmt.Sprint("peer", it.peers), what, message)
}

func (it *inboxTest) takeFrom(peer, what string, message []byte) {
	it.Helper()
	before := maps.Clone(it.counters)
	it.Receive(peer, message)
	for reason, n := range it.counters {
		if n != before[reason] && (reason != what || n != before[reason]+1) {
			it.Errorf("the message is %s, want %s", reason, what)
		}
	}
	if it.counters[what] == before[what] {
		it.Errorf("the message is not counted as %s", what)
	}
	if counted := it.Counters(); what != "shown" && what != "repeated" && counted[what] != it.counters[what] || counted["shown"] != 0 || counted["repeated"] != 0 {
		it.Error(counted)
	}
}

// only returns the one open request.
func (it *inboxTest) only() Request {
	it.Helper()
	open := it.Requests()
	if len(open) != 1 {
		it.Fatalf("%d requests are open", len(open))
	}
	return open[0]
}

func (it *inboxTest) none() {
	it.Helper()
	if open := it.Requests(); len(open) != 0 {
		it.Errorf("%d requests are open", len(open))
	}
}

func (it *inboxTest) want(err, want error) {
	it.Helper()
	if !errors.Is(err, want) {
		it.Errorf("%v, want %v", err, want)
	}
}

func TestInboxShows(t *testing.T) {
	it := newInboxTest(t)
	writer := writerKey(1)
	key := keyOf(writer)
	it.none()
	it.takeFrom("tcp://a", "shown", it.signed(writer, "Anna's <b>Laptop</b>", noon.Add(-time.Second)))
	r := it.only()
	if r.Key != key || r.Name != "Anna's <b>Laptop<b>" || r.Dir != record.NodeDir(r.Name, key) || r.Words != Words(it.id.Source, key) ||
		r.Proof != ProofSignature || r.Peer != "tcp://a" || !r.Asked.Equal(noon.Add(-time.Second)) || !r.Seen.Equal(noon) {
		t.Errorf("%+v", r)
	}
	var said map[string]any
	if err := json.Unmarshal(r.JSON, &said); err != nil {
		t.Fatal(err)
	}
	if want := map[string]any{"name": r.Name, "writer": key.String(), "time": "2026-01-02T11:59:59.123Z", "proof": "signature", "peer": "tcp://a", "words": r.Words}; !maps.Equal(said, want) {
		t.Errorf("%v, want %v", said, want)
	}

	it.now = it.now.Add(time.Minute)
	it.take("shown", it.unsigned(keyOf(writerKey(2)), "Native node", it.now))
	open := it.Requests()
	if len(open) != 2 || open[0].Key != key || open[1].Proof != ProofNone || !strings.Contains(string(open[1].JSON), `"warning"`) {
		t.Errorf("%+v", open)
	}
}

func TestInboxDrops(t *testing.T) {
	it := newInboxTest(t)
	writer := writerKey(1)
	key := keyOf(writer)
	it.take("oversized", make([]byte, maxMessage+1))
	it.take("unreadable", nil)
	it.take("unreadable", make([]byte, maxMessage))
	for _, m := range readEphemeral(t).Secure { // another Hypha's
		it.take("unreadable", m.Message)
	}
	it.take("malformed", it.seal([]byte(`{"action":"wave"}`)))
	text, err := NewRequest(hypercore.Key{1}, writer, "x", noon, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	it.take("malformed", it.seal(text)) // for another Hypha
	for _, sealed := range []func(time.Time) []byte{
		func(at time.Time) []byte { return it.signed(writer, "x", at) },
		func(at time.Time) []byte { return it.unsigned(key, "x", at) },
	} {
		it.take("old", sealed(noon.Add(-maxAge-time.Millisecond)))
		it.take("old", sealed(time.Time{}))
		it.take("future", sealed(noon.Add(maxFuture+time.Millisecond)))
		it.take("future", sealed(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)))
	}
	it.take("authorised", it.unsigned(it.id.Source, "x", noon))
	it.take("authorised", it.signed(it.id.SourceSecret(), "x", noon))
	it.drive.names[keyOf(writerKey(2))] = "there"
	it.take("authorised", it.signed(writerKey(2), "x", noon))
	it.none()

	// At the edges of the time they are taken.
	it.take("shown", it.signed(writer, "x", noon.Add(-maxAge)))
	it.take("repeated", it.signed(writer, "x", noon.Add(maxFuture)))
	it.want(it.Deny(t.Context(), it.only().Dir), nil)
	it.take("denied", it.signed(writer, "x", noon))
	it.take("denied", it.signed(writer, "another name", noon))
	it.take("denied", it.unsigned(key, "x", noon))
	it.none()
}

func TestInboxReplay(t *testing.T) {
	it := newInboxTest(t)
	m := it.signed(writerKey(1), "x", noon)
	it.take("shown", m)
	it.take("replay", m)
	text, err := OpenMessage(it.id.Ephemeral(), m)
	if err != nil {
		t.Fatal(err)
	}
	it.take("replay", it.seal(text)) // other bytes, the same request
	var w wireRequest
	if err := json.Unmarshal(text, &w); err != nil {
		t.Fatal(err)
	}
	w.Nonce = strings.ToUpper(w.Nonce)
	if text, err = encodeJSON(w); err != nil {
		t.Fatal(err)
	}
	it.take("replay", it.seal(text))

	// As long as it is not too old it is remembered, also one from a clock that is ahead.
	ahead := it.signed(writerKey(2), "y", noon.Add(maxFuture))
	it.take("shown", ahead)
	for range 12 * 60 {
		it.now = it.now.Add(time.Second)
		before := it.counters["replay"] + it.counters["old"]
		it.Receive("p", m)
		it.Receive("q", ahead)
		if it.counters["replay"]+it.counters["old"] != before+2 {
			t.Fatalf("taken again after %v", it.now.Sub(noon))
		}
	}
	it.none()
	it.now = it.now.Add(time.Hour)
	it.none()
	if len(it.nonces) != 0 || len(it.rates) != 0 {
		t.Errorf("%d nonces and %d peers are remembered for ever", len(it.nonces), len(it.rates))
	}
}

func TestInboxExpires(t *testing.T) {
	it := newInboxTest(t)
	writer := writerKey(1)
	it.take("shown", it.signed(writer, "x", it.now))
	it.now = it.now.Add(maxAge)
	it.only()
	it.take("repeated", it.signed(writer, "x", it.now))
	it.take("repeated", it.unsigned(keyOf(writer), "x", it.now))
	it.now = it.now.Add(maxAge / 2)
	it.take("repeated", it.unsigned(keyOf(writer), "x", it.now)) // which keeps no signed one open
	r := it.only()
	if !r.Seen.Equal(noon.Add(maxAge)) || !r.Asked.Equal(noon) || r.Proof != ProofSignature {
		t.Errorf("%+v", r)
	}
	it.now = noon.Add(2*maxAge + 1)
	it.none()
	it.want(it.Approve(t.Context(), r.Dir), ErrGone)
	it.want(it.Deny(t.Context(), r.Dir), ErrGone)

	// Granted by another node.
	it.take("shown", it.signed(writer, "x", it.now))
	it.drive.names[keyOf(writer)] = "x"
	it.none()
	it.want(it.Approve(t.Context(), r.Dir), ErrGone)
}

func TestInboxFlood(t *testing.T) {
	it := newInboxTest(t)
	bad := it.seal([]byte(`{"action":"wave"}`))
	for range burst {
		it.takeFrom("a", "malformed", bad)
	}
	it.takeFrom("a", "flood", bad)
	it.takeFrom("a", "flood", it.signed(writerKey(1), "x", it.now))
	it.takeFrom("b", "malformed", bad)

	// Who lacks the key uses up nobody's share.
	for range 10 * burst {
		it.takeFrom("c", "unreadable", []byte("no message"))
	}
	it.takeFrom("c", "shown", it.signed(writerKey(2), "x", it.now))
	for range 5 {
		it.now = it.now.Add(time.Second)
		it.takeFrom("a", "malformed", bad)
		it.takeFrom("a", "flood", bad)
	}
	it.now = it.now.Add(-time.Hour) // the clock was set back
	it.takeFrom("a", "flood", bad)
	it.now = it.now.Add(time.Second)
	it.takeFrom("a", "malformed", bad)
	it.now = it.now.Add(time.Hour)
	for range burst {
		it.takeFrom("a", "malformed", bad)
	}
	it.takeFrom("a", "flood", bad)

	// Peers are bounded as well.
	it.now = it.now.Add(time.Hour)
	for n := range maxPeers {
		it.takeFrom(fmt.Sprint("many", n), "malformed", bad)
	}
	it.takeFrom("one more", "flood", bad)
	it.now = it.now.Add(time.Minute)
	it.takeFrom("one more", "malformed", bad)
}

func TestInboxNonces(t *testing.T) {
	it := newInboxTest(t)
	writer := writerKey(1)
	for n := range maxNonces {
		it.nonces[fmt.Sprint(n)] = it.now.Add(time.Minute)
	}
	it.take("flood", it.signed(writer, "x", it.now))
	it.now = it.now.Add(2 * time.Minute)
	it.take("shown", it.signed(writer, "x", it.now))
}

func TestInboxFull(t *testing.T) {
	it := newInboxTest(t)
	for n := range byte(maxOpen) {
		it.now = it.now.Add(time.Second)
		it.take("shown", it.unsigned(keyOf(writerKey(n)), "old node", it.now))
	}
	it.take("full", it.unsigned(keyOf(writerKey(100)), "old node", it.now))
	it.now = it.now.Add(time.Second)
	it.take("repeated", it.unsigned(keyOf(writerKey(0)), "old node", it.now)) // so number 1 is the oldest
	if len(it.Requests()) != maxOpen {
		t.Fatal(len(it.Requests()))
	}
	for n := range byte(maxOpen) {
		it.take("shown", it.signed(writerKey(100+n), "new node", it.now))
		open := it.Requests()
		if len(open) != maxOpen {
			t.Fatalf("%d are open", len(open))
		}
		for _, r := range open {
			if n < maxOpen-1 && r.Key == keyOf(writerKey(n+1)) {
				t.Errorf("not the oldest without proof gave way to number %d", n)
			}
		}
	}
	for _, r := range it.Requests() {
		if r.Proof != ProofSignature {
			t.Errorf("%+v", r)
		}
	}
	it.take("full", it.signed(writerKey(200), "new node", it.now))
	it.take("full", it.unsigned(keyOf(writerKey(201)), "old node", it.now))
	it.take("repeated", it.signed(writerKey(100), "new node", it.now))

	it.want(it.Deny(t.Context(), it.Requests()[0].Dir), nil)
	it.take("shown", it.signed(writerKey(200), "new node", it.now))
}

// TestInboxName: what a person was shown is what is approved.
func TestInboxName(t *testing.T) {
	it := newInboxTest(t)
	writer := writerKey(1)
	key := keyOf(writer)
	it.takeFrom("first", "shown", it.signed(writer, "Laptop", it.now))
	shown := it.only()
	it.now = it.now.Add(time.Second)
	it.take("repeated", it.signed(writer, "Desktop", it.now))
	it.take("repeated", it.unsigned(key, "Desktop", it.now))
	now := it.only()
	if now.Name != shown.Name || now.Dir != shown.Dir || now.Peer != "first" || now.Proof != ProofSignature || !bytes.Equal(now.JSON, shown.JSON) {
		t.Errorf("%+v", now)
	}
	it.want(it.Approve(t.Context(), shown.Dir), nil)
	if it.drive.names[key] != "Laptop" {
		t.Error(it.drive.names)
	}
}

// TestInboxProof: a signature makes a request without one certain, but never a name that was not signed.
func TestInboxProof(t *testing.T) {
	it := newInboxTest(t)
	writer := writerKey(1)
	key := keyOf(writer)
	it.take("shown", it.unsigned(key, "Laptop", it.now))
	without := it.only()
	it.take("repeated", it.signed(writer, "Laptop", it.now))
	with := it.only()
	if without.Proof != ProofNone || with.Proof != ProofSignature || with.Dir != without.Dir || bytes.Contains(with.JSON, []byte("warning")) || bytes.Equal(with.JSON, without.JSON) {
		t.Errorf("%+v, %+v", without, with)
	}
	it.want(it.Deny(t.Context(), with.Dir), nil)

	writer = writerKey(2)
	it.take("shown", it.unsigned(keyOf(writer), "Anna's Desktop", it.now))
	false1 := it.only()
	it.take("shown", it.signed(writer, "Mallory", it.now))
	r := it.only()
	if r.Name != "Mallory" || r.Proof != ProofSignature || r.Dir == false1.Dir {
		t.Errorf("%+v", r)
	}
	it.want(it.Approve(t.Context(), false1.Dir), ErrGone)
	it.take("repeated", it.unsigned(keyOf(writer), "Anna's Desktop", it.now))
	if it.only().Name != "Mallory" {
		t.Errorf("%+v", it.only())
	}
}

// TestInboxAmbiguous: two keys whose directories would be the same. A key like that takes 2^32 tries, so the directory is put in.
func TestInboxAmbiguous(t *testing.T) {
	it := newInboxTest(t)
	writer, other := writerKey(1), keyOf(writerKey(2))
	dir := record.NodeDir("Laptop", keyOf(writer))
	it.open[other] = &Request{Key: other, Dir: dir, Name: "Laptop", Seen: it.now}
	it.take("ambiguous", it.signed(writer, "Laptop", it.now))
	if it.only().Key != other {
		t.Error("the other one is gone")
	}
	it.want(it.Deny(t.Context(), dir), nil)
	it.take("ambiguous", it.signed(writer, "Laptop", it.now)) // else its refusal would lift the other's
	it.take("shown", it.signed(writer, "Desktop", it.now))
	it.take("denied", it.unsigned(other, "Laptop", it.now))
}

func TestInboxApprove(t *testing.T) {
	it := newInboxTest(t)
	writer := writerKey(1)
	it.take("shown", it.signed(writer, "Laptop", it.now))
	dir := it.only().Dir
	it.want(it.Approve(t.Context(), "laptop-00000000"), ErrGone)
	it.want(it.Approve(t.Context(), ""), ErrGone)
	it.want(it.Approve(t.Context(), dir), nil)
	if it.drive.names[keyOf(writer)] != "Laptop" || len(it.drive.names) != 1 {
		t.Error(it.drive.names)
	}
	it.none()
	it.want(it.Approve(t.Context(), dir), ErrAnswered)
	it.want(it.Deny(t.Context(), dir), ErrAnswered)
	it.take("authorised", it.signed(writer, "Laptop", it.now))
	if it.store.saves != 0 {
		t.Error("an approval changes no refusals")
	}
}

func TestInboxReadOnly(t *testing.T) {
	it := newInboxTest(t)
	it.drive.readOnly = true
	it.take("shown", it.signed(writerKey(1), "Laptop", it.now))
	dir := it.only().Dir
	it.want(it.Approve(t.Context(), dir), ErrNotAuthorised)
	it.want(it.Deny(t.Context(), dir), ErrNotAuthorised)
	if it.only().Dir != dir || len(it.drive.names) != 0 {
		t.Error("something changed")
	}
	it.drive.readOnly = false // it was authorised itself
	it.want(it.Approve(t.Context(), dir), nil)
}

func TestInboxAuthorizeFails(t *testing.T) {
	it := newInboxTest(t)
	it.take("shown", it.signed(writerKey(1), "Laptop", it.now))
	before := it.only()
	it.drive.err = errors.New("disk full")
	it.want(it.Approve(t.Context(), before.Dir), it.drive.err)
	if r := it.only(); r.Dir != before.Dir || !bytes.Equal(r.JSON, before.JSON) {
		t.Errorf("%+v", r)
	}
	it.drive.err = nil
	it.want(it.Approve(t.Context(), before.Dir), nil)

	// A refused one stays refused.
	it.take("shown", it.signed(writerKey(2), "Phone", it.now))
	dir := it.only().Dir
	it.want(it.Deny(t.Context(), dir), nil)
	it.drive.err = errors.New("disk full")
	it.want(it.Approve(t.Context(), dir), it.drive.err)
	it.take("denied", it.signed(writerKey(2), "Phone", it.now))
	it.drive.err = nil
	it.want(it.Approve(t.Context(), dir), nil)
}

func TestInboxConcurrentAnswers(t *testing.T) {
	for _, second := range []string{"approve", "deny"} {
		for _, denied := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, denied before %t", second, denied), func(t *testing.T) {
				it := newInboxTest(t)
				it.take("shown", it.signed(writerKey(1), "Laptop", it.now))
				dir := it.only().Dir
				if denied {
					it.want(it.Deny(t.Context(), dir), nil)
					it.restart()
				}
				it.drive.entered, it.drive.wait = make(chan struct{}), make(chan struct{})
				answer := it.Approve
				if second == "deny" {
					answer = it.Deny
				}
				errs := make(chan error, 2)
				go func() { errs <- it.Approve(t.Context(), dir) }()
				<-it.drive.entered
				it.now = it.now.Add(2 * maxAge) // it does not expire under the drive's hands
				it.none()
				go func() { errs <- answer(t.Context(), dir) }()
				it.want(<-errs, ErrAnswered)
				close(it.drive.wait)
				it.want(<-errs, nil)
				if len(it.drive.names) != 1 {
					t.Error(it.drive.names)
				}
			})
		}
	}
}

func TestInboxConcurrentApproves(t *testing.T) {
	for range 50 {
		it := newInboxTest(t)
		it.take("shown", it.signed(writerKey(1), "Laptop", it.now))
		dir := it.only().Dir
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- it.Approve(t.Context(), dir) }()
		}
		a, b := <-errs, <-errs
		if a != nil {
			a, b = b, a
		}
		if a != nil || !errors.Is(b, ErrAnswered) {
			t.Fatal(a, b)
		}
	}
}

func TestInboxDeny(t *testing.T) {
	it := newInboxTest(t)
	writer := writerKey(1)
	key := keyOf(writer)
	it.take("shown", it.signed(writer, "Laptop", it.now))
	dir := it.only().Dir
	it.want(it.Deny(t.Context(), dir), nil)
	it.none()
	it.want(it.Deny(t.Context(), dir), ErrAnswered)
	it.take("denied", it.signed(writer, "Laptop", it.now))

	for range 2 {
		it.restart()
		it.now = it.now.Add(365 * 24 * time.Hour)
		it.take("denied", it.signed(writer, "Laptop", it.now))
		it.none()
		it.want(it.Deny(t.Context(), dir), ErrAnswered)
	}
	it.want(it.Approve(t.Context(), dir), nil)
	if it.drive.names[key] != "Laptop" {
		t.Error(it.drive.names)
	}
	it.want(it.Approve(t.Context(), dir), ErrAnswered)
	delete(it.drive.names, key)
	it.restart()
	it.take("shown", it.signed(writer, "Laptop", it.now)) // nothing of the refusal is left
	it.want(it.Approve(t.Context(), dir), nil)
}

// TestInboxConcurrentDenies: each refusal is in the store when Deny returns, also when others are given at the same time.
func TestInboxConcurrentDenies(t *testing.T) {
	it := newInboxTest(t)
	for n := range byte(20) {
		it.take("shown", it.signed(writerKey(n), "Laptop", it.now))
	}
	var all sync.WaitGroup
	for _, r := range it.Requests() {
		all.Go(func() {
			if err := it.Deny(t.Context(), r.Dir); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	it.restart()
	if len(it.denied) != 20 {
		t.Errorf("%d refusals were kept", len(it.denied))
	}
}

func TestInboxStoreFails(t *testing.T) {
	it := newInboxTest(t)
	writer := writerKey(1)
	it.take("shown", it.signed(writer, "Laptop", it.now))
	it.store.err = errors.New("disk full")
	it.want(it.Deny(t.Context(), it.only().Dir), it.store.err)
	it.take("denied", it.signed(writer, "Laptop", it.now))
	it.restart()
	it.take("shown", it.signed(writer, "Laptop", it.now))

	for _, damaged := range []string{"x", "[]", `{"a":1}`, `{"a":"zz"}`} {
		it.store = &fakeStore{b: []byte(damaged)}
		it.restart()
		it.take("shown", it.signed(writer, "Laptop", it.now))
	}

	// Refusals of older versions have no names.
	it.store = &fakeStore{b: []byte(`{"laptop-00000000":"` + keyOf(writer).String() + `"}`)}
	it.restart()
	it.take("denied", it.signed(writer, "Laptop", it.now))
	it.want(it.Approve(t.Context(), "laptop-00000000"), nil)
	if it.drive.names[keyOf(writer)] != "laptop" {
		t.Error(it.drive.names)
	}
	delete(it.drive.names, keyOf(writer))

	// Without a store refusals are in memory.
	in := NewInbox(InboxConfig{Identity: it.id, Authorizer: it.drive})
	in.Receive("a", it.signed(writer, "Laptop", time.Now()))
	it.want(in.Deny(t.Context(), record.NodeDir("Laptop", keyOf(writer))), nil)
	in.Receive("a", it.signed(writer, "Laptop", time.Now()))
	if in.Counters()["denied"] != 1 {
		t.Error(in.Counters())
	}
}

// TestInboxConcurrently has nothing to say but to the race detector.
func TestInboxConcurrently(t *testing.T) {
	it := newInboxTest(t)
	var all sync.WaitGroup
	for n := range byte(8) {
		messages := [][]byte{it.signed(writerKey(n), "Laptop", it.now), it.unsigned(keyOf(writerKey(n)), "Laptop", it.now), []byte(hex.EncodeToString([]byte{n}))}
		all.Go(func() {
			for i := range 60 {
				it.Receive(fmt.Sprint(n, i), messages[i%len(messages)])
				for _, r := range it.Requests() {
					if i%20 == 10 && r.Key[0]%2 == 0 {
						_ = it.Approve(t.Context(), r.Dir)
					} else if i%20 == 10 {
						_ = it.Deny(t.Context(), r.Dir)
					}
				}
				it.Counters()
			}
		})
	}
	all.Wait()
}
