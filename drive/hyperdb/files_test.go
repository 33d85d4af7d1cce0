package hyperdb

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// stat is the value of a multiwriter hyperdrive of 2019 (pull request 204), by field number.
type stat map[protowire.Number]uint64

const (
	statSize   = 4
	statBlocks = 5
	statOffset = 6
)

func parseStat(t testing.TB, b []byte) stat {
	t.Helper()
	s := stat{}
	for len(b) > 0 {
		n, kind, k := protowire.ConsumeTag(b)
		v, m := protowire.ConsumeVarint(b[max(k, 0):])
		if k < 0 || m < 0 || kind != protowire.VarintType {
			t.Fatalf("stat %x", b)
		}
		s[n] = v
		b = b[k+m:]
	}
	return s
}

// TestVectorsFiles reads every file of the recorded hyperdrives: the entries that Index gives, and through them the blocks of the writers' content
// feeds, which learning the writers has to find.
func TestVectorsFiles(t *testing.T) {
	var v struct {
		Stats []struct {
			Bytes   hexBytes `json:"bytes"`
			Decoded struct{ Size, Blocks, Offset uint64 }
		} `json:"stats"`
		Scenarios []struct {
			vectorScenario
			ContentFeeds map[string][]hexBytes `json:"contentFeeds"`
			Views        []struct {
				Files map[string][]struct {
					Feed    hexBytes `json:"feed"`
					Seq     uint64   `json:"seq"`
					Deleted bool     `json:"deleted"`
					Content hexBytes `json:"contentFeed"`
					Size    uint64   `json:"size"`
					SHA256  hexBytes `json:"sha256"`
				} `json:"files"`
			} `json:"views"`
		} `json:"scenarios"`
	}
	load(t, "drive.json", &v)
	for _, c := range v.Stats {
		if s := parseStat(t, c.Bytes); s[statSize] != c.Decoded.Size || s[statBlocks] != c.Decoded.Blocks || s[statOffset] != c.Decoded.Offset {
			t.Errorf("%x: %v, want %+v", c.Bytes, s, c.Decoded)
		}
	}
	for _, sc := range v.Scenarios {
		n := &testNode{logs: map[hypercore.Key]*memoryLog{}}
		for name, blocks := range sc.Feeds {
			k, err := hypercore.ParseKey(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range blocks {
				n.log(k).blocks = append(n.log(k).blocks, b)
			}
			n.log(k).limit = uint64(len(blocks))
		}
		n.open(t, key(sc.DatabaseKey), hypercore.Key{})
		ix, err := n.db.Index(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		contents := map[hypercore.Key]hypercore.Key{}
		for _, w := range n.db.Writers() {
			contents[w.Key] = w.Content
		}
		for name, want := range sc.Views[0].Files {
			got := ix.Get(name)
			if len(got) != len(want) {
				t.Errorf("%s: %s: %d entries, want %d", sc.Name, name, len(got), len(want))
				continue
			}
			for i, w := range want {
				e := got[i]
				if e.Feed != key(w.Feed) || e.Seq != w.Seq || e.Deleted != w.Deleted {
					t.Errorf("%s: %s: %+v, want %+v", sc.Name, name, e.Version, w)
				}
				if w.Deleted {
					continue
				}
				s := parseStat(t, e.Value)
				var file []byte
				for at := s[statOffset]; at < s[statOffset]+s[statBlocks]; at++ {
					file = append(file, sc.ContentFeeds[contents[e.Feed].String()][at]...)
				}
				if sum := sha256.Sum256(file); contents[e.Feed] != key(w.Content) || uint64(len(file)) != w.Size || !bytes.Equal(sum[:], w.SHA256) {
					t.Errorf("%s: %s holds %d bytes, %x", sc.Name, name, len(file), sum)
				}
			}
		}
	}
}
