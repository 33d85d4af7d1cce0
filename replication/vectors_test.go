package replication_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/replicationtest"
	"hyphafs.org/hyphafs/replication/wire"
)

type vectorMessage struct {
	From    string          `json:"from"`
	To      string          `json:"to"`
	Channel uint64          `json:"channel"`
	Name    string          `json:"name"`
	Fields  json.RawMessage `json:"fields"`
	Plain   hexBytes        `json:"plain"`
}

// TestVectorsSeeder plays the reader of the recorded conversations, frame by frame; the node must send the blocks, proofs and announcements that the
// npm package sent.
func TestVectorsSeeder(t *testing.T) {
	var v struct {
		Conversations []struct {
			Name    string `json:"name"`
			Options struct {
				Encrypt bool `json:"encrypt"`
				Live    bool `json:"live"`
			} `json:"options"`
			KeySeed hexBytes            `json:"keySeed"`
			Blocks  []hexBytes          `json:"blocks"`
			Before  int                 `json:"blocksBeforeConnecting"`
			Nonces  map[string]hexBytes `json:"nonces"`
			All     []vectorMessage     `json:"messages"`
		} `json:"conversations"`
	}
	load(t, "wire/testdata/protocol.json", &v)
	for _, c := range v.Conversations {
		t.Run(c.Name, func(t *testing.T) {
			secret := ed25519.NewKeyFromSeed(c.KeySeed)
			feed := replicationtest.Open(t, hypercore.NewMemory(), hypercore.Key(secret.Public().(ed25519.PublicKey)), secret)
			var blocks [][]byte
			for _, b := range c.Blocks {
				blocks = append(blocks, append([]byte{}, b...))
			}
			if c.Before > 0 {
				replicationtest.Append(t, feed, blocks[:c.Before]...)
			}
			n, _ := replicationtest.Node(t, replication.Config{AllowClear: true}, feed)
			var nonce *[24]byte
			if c.Options.Encrypt {
				nonce = (*[24]byte)(c.Nonces["b>a"])
			}
			s := play(t, n, feed.Key(), nonce)
			for _, m := range c.All {
				switch {
				case m.Plain == nil || m.Name == "Feed":
				case m.From == "b":
					s.write(m.Plain)
				case m.Name == "Have" || m.Name == "Data" || m.Name == "Info" && !c.Options.Live:
					var have struct{ Start uint64 }
					if err := json.Unmarshal(m.Fields, &have); err != nil {
						t.Fatal(err)
					}
					if m.Name == "Have" && have.Start > 0 && have.Start == feed.Len() || m.Name == "Have" && feed.Len() == 0 && len(m.Plain) == 4 {
						replicationtest.Append(t, feed, blocks[feed.Len()])
					}
					kind := map[string]wire.Type{"Have": wire.TypeHave, "Data": wire.TypeData, "Info": wire.TypeInfo}[m.Name]
					f := s.next(kind)
					if want := body(m.Plain); !bytes.Equal(f.Body, want) {
						t.Fatalf("%s %s\n got %x\nwant %x", m.Name, m.Fields, f.Body, want)
					}
				}
			}
		})
	}
}

// body is the body of a frame on a channel below 8.
func body(frame []byte) []byte {
	for i, b := range frame {
		if b < 0x80 {
			return frame[i+2:]
		}
	}
	return nil
}

// TestTolerance sends the odd bytes of the vectors through a session and compares whether it goes on.
func TestTolerance(t *testing.T) {
	var v struct {
		Cases []struct {
			Name    string   `json:"name"`
			Bytes   hexBytes `json:"bytes"`
			Outcome string   `json:"outcome"`
		} `json:"cases"`
	}
	var in struct {
		Cases []struct {
			Extensions []string `json:"extensions"`
		} `json:"cases"`
	}
	load(t, "wire/testdata/tolerance.json", &v)
	load(t, "wire/testdata/tolerance-inputs.json", &in)
	for i, c := range v.Cases {
		t.Run(c.Name, func(t *testing.T) {
			feed := replicationtest.Writer(t, 0, replicationtest.Blocks(3, 10)...)
			got := make(chan []byte, 10)
			n, _ := replicationtest.Node(t, replication.Config{AllowClear: true, Extension: func(_ replication.PeerID, p []byte) { got <- p }}, feed)
			s := play(t, n, feed.Key(), nil)
			extensions := in.Cases[i].Extensions
			if extensions == nil {
				extensions = []string{"secure-ephemeral"}
			}
			s.greet(true, extensions...)
			s.write(c.Bytes)
			switch c.Outcome {
			case "goes on":
				s.alive()
			case "closes the connection":
				if err := s.ended(); !errors.Is(err, replication.ErrProtocol) && !errors.Is(err, wire.ErrFrame) {
					t.Errorf("ended with %v", err)
				}
				return
			}
			wantExtension := c.Name == "Extension id 0, empty payload" || c.Name == "Extension lists sorted: remote declares aaa before secure-ephemeral"
			if wantExtension != (len(got) == 1) {
				t.Errorf("%d extension messages arrived", len(got))
			}
		})
	}
}

type attackVectors struct {
	PublicKey hexBytes `json:"publicKey"`
	Mutations struct {
		Index uint64 `json:"index"`
		Cases []struct {
			Name       string   `json:"name"`
			MustRefuse *bool    `json:"mustRefuse"`
			Body       hexBytes `json:"body"`
		} `json:"cases"`
	} `json:"mutations"`
	LyingSizes struct {
		First, Second, SecondWithFullProof hexBytes
	} `json:"lyingSizes"`
	Fork struct {
		First, Second, OtherBlockAtTheSameIndex hexBytes
	} `json:"fork"`
}

// data frames a Data body on channel 0.
func data(t testing.TB, body []byte) []byte {
	t.Helper()
	var m wire.Data
	if err := m.Decode(body); err != nil {
		t.Fatal(err)
	}
	return m.Append(nil, 0)
}

// victim is a reader with a scripted seeder that says it has the blocks given, and has been asked for the last of them.
func victim(t testing.TB, v *attackVectors, cfg replication.Config, last uint64) (*hypercore.Feed, *replication.Node, *script) {
	t.Helper()
	key := hypercore.Key(v.PublicKey)
	feed := replicationtest.Open(t, hypercore.NewMemory(), key, nil)
	n, _ := replicationtest.Node(t, cfg, feed)
	s := play(t, n, key, &[24]byte{7})
	s.greet(true)
	s.write(wire.Have{Start: last, Length: 1}.Append(nil, 0))
	s.asked(0, last)
	return feed, n, s
}

func TestAttackMutations(t *testing.T) {
	var v attackVectors
	load(t, "../drive/hypercore/testdata/attacks.json", &v)
	for _, c := range v.Mutations.Cases {
		t.Run(c.Name, func(t *testing.T) {
			feed, n, s := victim(t, &v, replication.Config{}, v.Mutations.Index)
			s.write(data(t, c.Body))
			refused := false
			if c.MustRefuse != nil && !*c.MustRefuse {
				replicationtest.WaitHave(t, feed, v.Mutations.Index)
			} else if c.MustRefuse != nil {
				err := s.ended()
				if refused = errors.Is(err, hypercore.ErrBadProof); !refused {
					t.Errorf("ended with %v", err)
				}
				if feed.Len() != 0 || feed.Have() != 0 || n.Counters().BadProofs != 1 {
					t.Errorf("%d of %d blocks, %+v", feed.Have(), feed.Len(), n.Counters())
				}
			}
		})
	}
}

func TestAttackLyingSizes(t *testing.T) {
	var v attackVectors
	load(t, "../drive/hypercore/testdata/attacks.json", &v)
	for _, second := range []hexBytes{v.LyingSizes.Second, v.LyingSizes.SecondWithFullProof} {
		feed, n, s := victim(t, &v, replication.Config{}, 1)
		s.write(data(t, v.LyingSizes.First)) // for block 0, which nobody asked for
		s.alive()
		if n.Counters().Unasked != 1 || feed.Len() != 0 {
			t.Errorf("%+v, length %d", n.Counters(), feed.Len())
		}
		s.write(data(t, second))
		if bytes.Equal(second, v.LyingSizes.Second) {
			continue // that proof builds on the first answer, which was not taken
		}
		replicationtest.WaitHave(t, feed, 1)
	}
}

// TestAttackFork sends two signed histories: the second is refused and reported, and the session goes on.
func TestAttackFork(t *testing.T) {
	var v attackVectors
	load(t, "../drive/hypercore/testdata/attacks.json", &v)
	forks := make(chan *hypercore.ForkError, 1)
	feed, n, s := victim(t, &v, replication.Config{OnFork: func(_ hypercore.Key, f *hypercore.ForkError) { forks <- f }}, 1)
	s.write(data(t, v.Fork.First))
	replicationtest.WaitHave(t, feed, 1)
	s.write(wire.Have{Start: 3, Length: 1}.Append(nil, 0))
	s.asked(0, 3)
	s.write(data(t, v.Fork.Second))
	if f := <-forks; f == nil || f.Ours.Length != 2 || f.Theirs.Length != 4 {
		t.Errorf("evidence %+v", f)
	}
	s.alive()
	if feed.Len() != 2 || n.Counters().Forks != 1 {
		t.Errorf("length %d, %+v", feed.Len(), n.Counters())
	}
}

// TestVectorsFlow plays, for each of the three nodes of a recorded sign-in, its peer: what the peer sends goes in, what the node has to announce, serve and
// relay must come out.
func TestVectorsFlow(t *testing.T) {
	var v struct {
		Flows []struct {
			Name        string                                       `json:"name"`
			DatabaseKey hexBytes                                     `json:"databaseKey"`
			Nonces      map[string]hexBytes                          `json:"nonces"`
			Nodes       []struct{ Name, LocalFeed, StreamID string } `json:"nodes"`
			Feeds       map[string][]hexBytes                        `json:"feeds"`
			All         []vectorMessage                              `json:"messages"`
		} `json:"flows"`
	}
	load(t, "testdata/ephemeral.json", &v)
	for _, c := range v.Flows {
		t.Run(c.Name, func(t *testing.T) {
			source := hypercore.Key(c.DatabaseKey)
			feed := replicationtest.Open(t, hypercore.NewMemory(), source, nil)
			heard := make(chan []byte, 10)
			relay, set := replicationtest.Node(t, replication.Config{AllowClear: true, Extension: func(_ replication.PeerID, p []byte) { heard <- p }}, feed)
			second := hypercore.Key(decode(t, c.Nodes[2].LocalFeed))
			peers := map[string]*script{}
			for _, name := range []string{"origin", "second"} {
				var nonce *[24]byte
				if b := c.Nonces[name+">relay"]; len(b) > 0 {
					nonce = (*[24]byte)(b)
				}
				peers[name] = play(t, relay, source, nonce)
			}
			local := replicationtest.Open(t, hypercore.NewMemory(), second, nil)
			playRelay(t, c.All, peers, map[uint64]*hypercore.Feed{0: feed, 1: local}, func() { set.Add(local) })
			if len(heard) != 1 {
				t.Errorf("%d payloads arrived", len(heard))
			}
			for key, blocks := range c.Feeds {
				for _, f := range []*hypercore.Feed{feed, local} {
					if f.Key().String() == key {
						check(t, f, blocks)
					}
				}
			}
		})
	}
}

// playRelay plays both peers of a relay. Requests are answered when the node makes them, with what the recording has.
func playRelay(t *testing.T, all []vectorMessage, peers map[string]*script, feeds map[uint64]*hypercore.Feed, open func()) {
	t.Helper()
	for _, m := range all {
		s := peers[m.From]
		switch {
		case m.Plain == nil || s != nil && m.Name == "Feed" && m.Channel == 0 || s != nil && m.Name == "Request":
		case s != nil && m.Name == "Data":
			s.asked(m.Channel, index(t, m))
			s.write(m.Plain)
			waitFor(t, feeds[m.Channel], m)
			if seq := index(t, m); m.Channel == 0 && seq == 3 {
				open() // the entry that authorises the second node
			}
		case s != nil:
			s.write(m.Plain)
		case m.Name == "Extension" && m.To == "origin": // to the other peer, and not back as the npm relay does
			f := peers["origin"].next(wire.TypeExtension)
			if !bytes.Equal(f.Body, body(m.Plain)) {
				t.Errorf("relayed %x, want %x", f.Body, body(m.Plain))
			}
		}
	}
}

func index(t *testing.T, m vectorMessage) uint64 {
	t.Helper()
	var d struct{ Index uint64 }
	if err := json.Unmarshal(m.Fields, &d); err != nil {
		t.Fatal(err)
	}
	return d.Index
}

func waitFor(t *testing.T, f *hypercore.Feed, m vectorMessage) {
	t.Helper()
	replicationtest.WaitHave(t, f, index(t, m))
}

func decode(t *testing.T, s string) []byte {
	t.Helper()
	var h hexBytes
	if err := h.UnmarshalJSON([]byte(fmt.Sprintf("%q", s))); err != nil {
		t.Fatal(err)
	}
	return h
}

func check(t *testing.T, f *hypercore.Feed, blocks []hexBytes) {
	t.Helper()
	if f.Len() != uint64(len(blocks)) {
		t.Errorf("feed %s has %d blocks, want %d", f.Key(), f.Len(), len(blocks))
	}
	for seq, want := range blocks {
		if got, err := f.Block(uint64(seq)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("feed %s block %d: %x %v", f.Key(), seq, got, err)
		}
	}
}
