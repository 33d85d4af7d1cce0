package replication_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/replicationtest"
	"hyphafs.org/hyphafs/replication/wire"
)

// hyperdbNode is a node of a scenario in testdata/hyperdb-transcripts.json, an extract of the vectors' hyperdb.json.
type hyperdbNode struct {
	Name        string   `json:"name"`
	KeySeed     hexBytes `json:"keySeed"`
	LocalFeed   string   `json:"localFeed"`
	ContentFeed hexBytes `json:"contentFeed"`
}

// TestVectorsHyperdb puts our node in the place of the first node of each recorded replication of hyperdbs. It must open the same channels and
// send the same announcements, blocks and farewells.
func TestVectorsHyperdb(t *testing.T) {
	var v []struct {
		Name        string                `json:"name"`
		DatabaseKey hexBytes              `json:"databaseKey"`
		Nodes       []hyperdbNode         `json:"nodes"`
		Feeds       map[string][]hexBytes `json:"feeds"`
		Transcripts []struct {
			Before map[string]map[string]int `json:"lengthsBefore"`
			Nonces map[string]hexBytes       `json:"nonces"`
			All    []vectorMessage           `json:"messages"`
		} `json:"transcripts"`
	}
	load(t, "testdata/hyperdb-transcripts.json", &v)
	for _, c := range v {
		for i, r := range c.Transcripts {
			t.Run(fmt.Sprintf("%s %d", c.Name, i), func(t *testing.T) {
				var feeds []replication.Feed
				for _, node := range c.Nodes[:2] {
					feeds = append(feeds, holding(t, node, c.Feeds[node.LocalFeed][:r.Before["a"][node.LocalFeed]], node.Name == "a"))
					if node.ContentFeed != nil {
						feeds = append(feeds, replicationtest.Open(t, hypercore.NewMemory(), hypercore.Key(node.ContentFeed), nil))
					}
				}
				n, _ := replicationtest.Node(t, replication.Config{AllowClear: true}, feeds...)
				peer := "b"
				if r.Nonces["a>b"] == nil && r.Nonces["b>a"] == nil && r.Before["c"] != nil {
					peer = "c"
				}
				var nonce *[24]byte
				if b := r.Nonces[peer+">a"]; len(b) > 0 {
					nonce = (*[24]byte)(b)
				}
				s := play(t, n, hypercore.Key(c.DatabaseKey), nonce)
				for _, m := range r.All {
					if m.From != peer || m.Plain == nil || m.Name == "Feed" && m.Channel == 0 {
						continue
					}
					if m.Name == "Data" {
						s.asked(m.Channel, index(t, m))
					}
					s.write(m.Plain)
				}
				s.sends(r.All)
			})
		}
	}
}

// holding opens a node's feed, with blocks, each appended on its own.
func holding(t *testing.T, node hyperdbNode, blocks []hexBytes, write bool) replication.Feed {
	t.Helper()
	secret := ed25519.NewKeyFromSeed(node.KeySeed)
	key := hypercore.Key(secret.Public().(ed25519.PublicKey))
	w := replicationtest.Open(t, hypercore.NewMemory(), key, secret)
	for _, b := range blocks {
		replicationtest.Append(t, w, b)
	}
	if write {
		return w
	}
	r := replicationtest.Open(t, hypercore.NewMemory(), key, nil)
	copyBlocks(t, w, r, func(uint64) bool { return true })
	return r
}

// sends checks that the node sends every Feed, Have and Data that "a" sent, in any order and with others between.
func (s *script) sends(all []vectorMessage) {
	s.t.Helper()
	missing := map[string]string{}
	kinds := map[string]wire.Type{"Feed": wire.TypeFeed, "Have": wire.TypeHave, "Data": wire.TypeData}
	for _, m := range all {
		kind, ok := kinds[m.Name]
		if m.From == "a" && ok && (m.Name != "Feed" || m.Channel > 0) {
			missing[fmt.Sprint(m.Channel, kind, body(m.Plain))] = fmt.Sprintf("%s on %d: %s", m.Name, m.Channel, m.Fields)
		}
	}
	for timeout := time.After(10 * time.Second); len(missing) > 0; {
		select {
		case f, ok := <-s.early():
			if !ok {
				s.t.Fatalf("the node closed (%v) before it sent %v", s.ended(), missing)
			}
			delete(missing, fmt.Sprint(f.Channel, f.Type, bytes.Clone(f.Body)))
		case <-timeout:
			s.t.Fatalf("the node does not send %v", missing)
		}
	}
}
