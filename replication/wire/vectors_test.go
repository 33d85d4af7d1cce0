package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

// The vectors are made by the real npm packages with the scripts beside them.

type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		*h = nil
		return err
	}
	out, err := hex.DecodeString(*s)
	*h = out
	return err
}

func load(t testing.TB, name string, into any) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

type protocolVectors struct {
	Messages []struct {
		Channel uint64          `json:"channel"`
		Name    string          `json:"name"`
		Fields  json.RawMessage `json:"fields"`
		Body    hexBytes        `json:"body"`
		Framed  hexBytes        `json:"framed"`
		Decoded json.RawMessage `json:"decoded"`
	} `json:"messages"`
	Emitted []struct {
		Name          string          `json:"name"`
		FeedPublicKey hexBytes        `json:"feedPublicKey"`
		Nonce         hexBytes        `json:"nonce"`
		Messages      []vectorMessage `json:"messages"`
	} `json:"emitted"`
	Conversations []struct {
		Name       string              `json:"name"`
		PublicKey  hexBytes            `json:"publicKey"`
		Nonces     map[string]hexBytes `json:"nonces"`
		WireSha256 map[string]hexBytes `json:"wireSha256"`
		Messages   []vectorMessage     `json:"messages"`
	} `json:"conversations"`
}

type vectorMessage struct {
	From    string          `json:"from"`
	To      string          `json:"to"`
	Channel uint64          `json:"channel"`
	Name    string          `json:"name"`
	Fields  json.RawMessage `json:"fields"`
	Plain   hexBytes        `json:"plain"`
	Wire    hexBytes        `json:"wire"`
}

// vectorFields are the fields of all messages together, in the names of the npm package.
type vectorFields struct {
	DiscoveryKey hexBytes `json:"discoveryKey"`
	Nonce        hexBytes `json:"nonce"`
	ID           any      `json:"id"`
	Live         bool     `json:"live"`
	UserData     hexBytes `json:"userData"`
	Extensions   []string `json:"extensions"`
	Ack          bool     `json:"ack"`
	Uploading    bool     `json:"uploading"`
	Downloading  bool     `json:"downloading"`
	Start        uint64   `json:"start"`
	Length       uint64   `json:"length"`
	Bitfield     hexBytes `json:"bitfield"`
	Index        uint64   `json:"index"`
	Bytes        uint64   `json:"bytes"`
	Hash         bool     `json:"hash"`
	NodesRaw     any      `json:"nodes"`
	Value        hexBytes `json:"value"`
	Signature    hexBytes `json:"signature"`
	Payload      hexBytes `json:"payload"`
}

// encode frames the message that fields describe.
func encode(t *testing.T, channel uint64, name string, raw json.RawMessage) []byte {
	t.Helper()
	var f vectorFields
	if name == "Keepalive" {
		return AppendKeepalive(nil)
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	switch name {
	case "Feed":
		return Feed{DiscoveryKey: [32]byte(f.DiscoveryKey), Nonce: f.Nonce}.Append(nil, channel)
	case "Handshake":
		id, _ := hex.DecodeString(f.ID.(string))
		return Handshake{ID: id, Live: f.Live, UserData: f.UserData, Extensions: f.Extensions, Ack: f.Ack}.Append(nil, channel)
	case "Info":
		return Info{f.Uploading, f.Downloading}.Append(nil, channel)
	case "Have":
		return Have{f.Start, f.Length, f.Bitfield, f.Ack}.Append(nil, channel)
	case "Unhave":
		return Range{f.Start, f.Length}.Append(nil, channel, TypeUnhave)
	case "Want":
		return Range{f.Start, f.Length}.Append(nil, channel, TypeWant)
	case "Unwant":
		return Range{f.Start, f.Length}.Append(nil, channel, TypeUnwant)
	case "Request", "Cancel":
		nodes, _ := f.NodesRaw.(float64)
		kind := TypeRequest
		if name == "Cancel" {
			kind = TypeCancel
		}
		return Request{f.Index, f.Bytes, f.Hash, uint64(nodes)}.Append(nil, channel, kind)
	case "Data":
		d := Data{Index: f.Index, Value: f.Value, Signature: f.Signature}
		nodes, _ := f.NodesRaw.([]any)
		for _, n := range nodes {
			m := n.(map[string]any)
			hash, _ := hex.DecodeString(m["hash"].(string))
			d.Nodes = append(d.Nodes, Node{uint64(m["index"].(float64)), [32]byte(hash), uint64(m["size"].(float64))})
		}
		return d.Append(nil, channel)
	case "Extension":
		return Extension{uint64(f.ID.(float64)), f.Payload}.Append(nil, channel)
	}
	t.Fatalf("message %s", name)
	return nil
}

// recode decodes a frame's body and encodes it again.
func recode(f Frame) ([]byte, error) {
	switch f.Type {
	case TypeFeed:
		var m Feed
		err := m.Decode(f.Body)
		return m.Append(nil, f.Channel), err
	case TypeHandshake:
		var m Handshake
		err := m.Decode(f.Body)
		return m.Append(nil, f.Channel), err
	case TypeInfo:
		var m Info
		err := m.Decode(f.Body)
		return m.Append(nil, f.Channel), err
	case TypeHave:
		var m Have
		err := m.Decode(f.Body)
		return m.Append(nil, f.Channel), err
	case TypeUnhave, TypeWant, TypeUnwant:
		var m Range
		err := m.Decode(f.Type, f.Body)
		return m.Append(nil, f.Channel, f.Type), err
	case TypeRequest, TypeCancel:
		var m Request
		err := m.Decode(f.Body)
		return m.Append(nil, f.Channel, f.Type), err
	case TypeData:
		var m Data
		err := m.Decode(f.Body)
		return m.Append(nil, f.Channel), err
	case TypeExtension:
		var m Extension
		err := m.Decode(f.Body)
		return m.Append(nil, f.Channel), err
	}
	return nil, nil
}

func TestVectorsMessages(t *testing.T) {
	var v protocolVectors
	load(t, "protocol.json", &v)
	for _, m := range v.Messages {
		if m.Name == "Handshake" && len(m.Body) == 0 {
			continue // a frame of one byte: must never be sent
		}
		if got := encode(t, m.Channel, m.Name, m.Decoded); !bytes.Equal(got, m.Framed) {
			t.Errorf("%s %s\n got %x\nwant %x", m.Name, m.Fields, got, m.Framed)
		}
		f, rest, ok, _, err := splitFrame(m.Framed)
		if err != nil || !ok || len(rest) > 0 || f.Channel != m.Channel || !bytes.Equal(f.Body, m.Body) {
			t.Errorf("%s %s: frame %+v %v", m.Name, m.Fields, f, err)
		}
	}
}

func TestVectorsEmitted(t *testing.T) {
	var v protocolVectors
	load(t, "protocol.json", &v)
	for _, c := range v.Emitted {
		var cipher *Cipher
		for _, m := range c.Messages {
			got := encode(t, m.Channel, m.Name, m.Fields)
			if !bytes.Equal(got, m.Plain) {
				t.Errorf("%s: %s %s\n got %x\nwant %x", c.Name, m.Name, m.Fields, got, m.Plain)
			}
			if cipher != nil {
				if cipher.XOR(got); !bytes.Equal(got, m.Wire) {
					t.Errorf("%s: %s encrypted\n got %x\nwant %x", c.Name, m.Name, got, m.Wire)
				}
			} else if len(c.Nonce) > 0 {
				cipher = NewCipher((*[32]byte)(c.FeedPublicKey), (*[24]byte)(c.Nonce))
			}
		}
	}
}

// TestVectorsConversations reads both directions of whole recorded replications, in chunks of several sizes, and writes them again.
func TestVectorsConversations(t *testing.T) {
	var v protocolVectors
	load(t, "protocol.json", &v)
	for _, c := range v.Conversations {
		for _, direction := range []string{"a>b", "b>a"} {
			var stream []byte
			var want [][]byte
			for _, m := range c.Messages {
				if m.From+">"+m.To != direction || m.Plain == nil {
					continue
				}
				want = append(want, m.Plain)
				if m.Wire != nil {
					stream = append(stream, m.Wire...)
				} else {
					stream = append(stream, m.Plain...)
				}
			}
			if sum := sha256.Sum256(stream); !bytes.Equal(sum[:], c.WireSha256[direction]) {
				t.Fatalf("%s %s: the vector contradicts itself", c.Name, direction)
			}
			for _, chunk := range []int{1, 7, 64, 61, 1000, len(stream)} {
				got := readAll(t, stream, chunk, c.PublicKey)
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s %s in chunks of %d:\n got %x\nwant %x", c.Name, direction, chunk, got, want)
				}
			}
		}
	}
}

// chunked hands out a stream in chunks.
type chunked struct {
	b    []byte
	size int
}

func (c *chunked) Read(p []byte) (int, error) {
	n := copy(p[:min(len(p), c.size)], c.b)
	c.b = c.b[n:]
	if n == 0 {
		return 0, errEnd
	}
	return n, nil
}

// readAll decodes a direction and encodes it again, frame by frame.
func readAll(t *testing.T, stream []byte, chunk int, key []byte) (frames [][]byte) {
	t.Helper()
	r := NewReader(&chunked{stream, chunk})
	first, err := r.First()
	if err != nil {
		t.Fatal(err)
	}
	var feed Feed
	if err := feed.Decode(first.Body); err != nil {
		t.Fatal(err)
	}
	frames = append(frames, feed.Append(nil, first.Channel))
	if feed.Nonce != nil {
		r.Decrypt(NewCipher((*[32]byte)(key), (*[24]byte)(feed.Nonce)))
	}
	var b Batch
	for {
		if err := r.Read(&b); err == errEnd {
			return frames
		} else if err != nil {
			t.Fatal(err)
		}
		for _, f := range b.Frames {
			out, err := recode(f)
			if err != nil {
				t.Fatal(err)
			}
			frames = append(frames, out)
		}
	}
}

func TestVectorsRLE(t *testing.T) {
	var cases []struct {
		Bytes         int      `json:"bytes"`
		SetBits       [][2]int `json:"setBits"`
		Encoded       hexBytes `json:"encoded"`
		DecodedLength int      `json:"decodedLength"`
	}
	load(t, "rle.json", &cases)
	for _, c := range cases {
		field := make([]byte, c.Bytes)
		for _, r := range c.SetBits {
			for i := r[0]; i < r[1]; i++ {
				field[i/8] |= 0x80 >> (i % 8)
			}
		}
		if got := EncodeBits(field); !bytes.Equal(got, c.Encoded) {
			t.Errorf("%v of %d bytes: %x, want %x", c.SetBits, c.Bytes, got, c.Encoded)
		}
		got, err := DecodeBits(c.Encoded, c.Bytes)
		if err != nil || len(got) != c.DecodedLength || !bytes.Equal(got, field[:len(got)]) {
			t.Errorf("decode %x: %x %v", c.Encoded, got, err)
		}
		if c.DecodedLength > 0 {
			if _, err := DecodeBits(c.Encoded, c.DecodedLength-1); err == nil {
				t.Errorf("decode %x: no bound", c.Encoded)
			}
		}
	}
}

// TestTolerance sends the odd bytes and compares what comes out with what the npm package made of them.
func TestTolerance(t *testing.T) {
	var v, in struct {
		Cases []struct {
			Name    string            `json:"name"`
			Bytes   json.RawMessage   `json:"bytes"`
			Parts   []json.RawMessage `json:"parts"`
			Outcome string            `json:"outcome"`
			Error   string            `json:"error"`
		} `json:"cases"`
	}
	load(t, "tolerance.json", &v)
	load(t, "tolerance-inputs.json", &in)
	if len(v.Cases) != 41 || len(in.Cases) != 41 {
		t.Fatalf("%d and %d cases", len(v.Cases), len(in.Cases))
	}
	for _, c := range v.Cases {
		var odd hexBytes
		if err := json.Unmarshal(c.Bytes, &odd); err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		r := NewReader(&chunked{append([]byte(odd), Range{8192, 8192}.Append(nil, 0, TypeWant)...), 1 << 20})
		alive, broken := false, false
		var b Batch
		for !broken {
			if err := r.Read(&b); err != nil {
				broken = strings.Contains(err.Error(), ErrFrame.Error())
				break
			}
			for _, f := range b.Frames {
				var w Range
				alive = alive || f.Type == TypeWant && w.Decode(TypeWant, f.Body) == nil && w.Start == 8192
				var feed Feed
				broken = broken || f.Type == TypeFeed && feed.Decode(f.Body) != nil
			}
		}
		switch {
		case c.Outcome == "closes the connection" && !strings.Contains(c.Name, "never opened") && !strings.Contains(c.Name, "18 messages"):
			if !broken { // the other two need a session
				t.Errorf("%s: goes on", c.Name)
			}
		case c.Outcome == "waits for more bytes":
			if alive || broken {
				t.Errorf("%s: does not wait", c.Name)
			}
		case !alive || broken:
			t.Errorf("%s: stops", c.Name)
		}
	}
}

func TestCipherIsContinuous(t *testing.T) {
	key, nonce := [32]byte{1}, [24]byte{2}
	want := make([]byte, 10000)
	NewCipher(&key, &nonce).XOR(want)
	for _, size := range []int{1, 63, 64, 65, 127, 128, 1000, 4097} {
		got := make([]byte, len(want))
		c := NewCipher(&key, &nonce)
		for i := 0; i < len(got); i += size {
			c.XOR(got[i:min(i+size, len(got))])
		}
		if !bytes.Equal(got, want) {
			t.Errorf("in pieces of %d: another key stream", size)
		}
	}
}

func TestMatchExtensions(t *testing.T) {
	for _, c := range []struct {
		ours, theirs []string
		want         []int
	}{
		{[]string{"secure-ephemeral"}, nil, []int{}},
		{[]string{"secure-ephemeral"}, []string{"secure-ephemeral"}, []int{0}},
		{[]string{"secure-ephemeral"}, []string{"aaa", "secure-ephemeral"}, []int{-1, 0}},
		{[]string{"secure-ephemeral"}, []string{"zzz", "secure-ephemeral"}, []int{-1, -1}},
		{[]string{"ephemeral", "secure-ephemeral"}, []string{"secure-ephemeral", "zzz"}, []int{1, -1}},
	} {
		if got := MatchExtensions(c.ours, c.theirs); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q %q: %v, want %v", c.ours, c.theirs, got, c.want)
		}
	}
	names := []string{"\U0001F600", "\uffee", "b", "a"} // U+1F600 is D83D DE00 in UTF-16, before FFEE
	if SortExtensions(names); !reflect.DeepEqual(names, []string{"a", "b", "\U0001F600", "\uffee"}) {
		t.Errorf("%q", names)
	}
}

// TestReaderIsBounded sends a length and nothing behind it: the memory must wait for the bytes.
func TestReaderIsBounded(t *testing.T) {
	r := NewReader(&chunked{binary.AppendUvarint(nil, MaxFrame), 1})
	var b Batch
	if err := r.Read(&b); err != errEnd || cap(b.buf) > 2*batchSize {
		t.Errorf("%v with %d bytes", err, cap(b.buf))
	}
	big := Data{Value: make([]byte, MaxFrame-100)}.Append(nil, 3)
	r = NewReader(&chunked{append(big, big...), 100000})
	for range 2 {
		if err := r.Read(&b); err != nil || len(b.Frames) != 1 || cap(b.buf) > 2*MaxFrame {
			t.Errorf("%v, %d frames, %d bytes", err, len(b.Frames), cap(b.buf))
		}
	}
}
