package wire

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

var errEnd = errors.New("end of the chunks")

func FuzzFrames(f *testing.F) {
	var v protocolVectors
	load(f, "protocol.json", &v)
	for _, c := range v.Conversations {
		var all []byte
		for _, m := range c.Messages {
			all = append(all, m.Plain...)
		}
		f.Add(all, 10)
	}
	f.Add([]byte{0x82, 0x80, 0, 2, 8}, 1)
	f.Fuzz(func(t *testing.T, stream []byte, chunk int) {
		if chunk <= 0 {
			chunk = 1
		}
		whole, pieces := frames(stream, len(stream)+1), frames(stream, chunk)
		if len(whole) != len(pieces) {
			t.Fatalf("%d frames at once, %d in pieces", len(whole), len(pieces))
		}
		for i := range whole {
			if whole[i].Channel != pieces[i].Channel || whole[i].Type != pieces[i].Type || !bytes.Equal(whole[i].Body, pieces[i].Body) {
				t.Fatalf("frame %d: %v, in pieces %v", i, whole[i], pieces[i])
			}
		}
	})
}

func frames(stream []byte, chunk int) (all []Frame) {
	r := NewReader(&chunked{stream, chunk})
	var b Batch
	for r.Read(&b) == nil {
		for _, f := range b.Frames {
			f.Body = bytes.Clone(f.Body)
			all = append(all, f)
		}
	}
	return all
}

// FuzzMessages checks that what decodes encodes to something that decodes to the same.
func FuzzMessages(f *testing.F) {
	var v protocolVectors
	load(f, "protocol.json", &v)
	for _, m := range v.Messages {
		if fr, _, ok, _, err := splitFrame(m.Framed); ok && err == nil {
			f.Add(uint8(fr.Type), []byte(m.Body))
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		once, err := recode(Frame{Type: Type(kind % 16), Body: body})
		if err != nil || once == nil {
			return
		}
		fr, rest, ok, _, err := splitFrame(once)
		if err != nil || len(rest) > 0 || !ok && len(once) > 2 {
			t.Fatalf("%x: %v", once, err)
		}
		if !ok {
			return
		}
		twice, err := recode(fr)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%x, then %x (%v)", once, twice, err)
		}
	})
}

func FuzzBits(f *testing.F) {
	f.Add([]byte{0x02, 0xf8}, []byte{0xff, 0xff, 0, 0, 1})
	f.Add([]byte{0xfd, 0x1f, 0x02, 0x01}, []byte{})
	f.Fuzz(func(t *testing.T, code, field []byte) {
		if out, err := DecodeBits(code, 1<<17); err == nil && len(out) > 1<<17 {
			t.Fatalf("%d bytes", len(out))
		}
		got, err := DecodeBits(EncodeBits(field), len(field))
		if err != nil || !bytes.Equal(got, bytes.TrimRight(field, "\x00")) {
			t.Fatalf("%x became %x (%v)", field, got, err)
		}
	})
}

// FuzzFirst: the frame that opens a stream is the same however it comes, and what follows it is all there.
func FuzzFirst(f *testing.F) {
	var v protocolVectors
	load(f, "protocol.json", &v)
	for _, e := range v.Emitted {
		var all []byte
		for _, m := range e.Messages {
			all = append(all, m.Wire...)
		}
		f.Add(all, 7)
	}
	f.Fuzz(func(t *testing.T, stream []byte, chunk int) {
		chunk = max(chunk, 1)
		whole, pieces := NewReader(&chunked{stream, len(stream) + 1}), NewReader(&chunked{stream, chunk})
		a, errA := whole.First()
		b, errB := pieces.First()
		if (errA == nil) != (errB == nil) {
			t.Fatalf("%v at once, %v in pieces", errA, errB)
		}
		if errA != nil || errB != nil {
			return
		}
		if a.Type != b.Type || a.Channel != b.Channel || !bytes.Equal(a.Body, b.Body) || len(a.Body) > maxFirst {
			t.Fatalf("%+v at once, %+v in pieces", a, b)
		}
		key, nonce := [32]byte{1}, [24]byte{2}
		first := bytes.Clone(a.Body)
		whole.Decrypt(NewCipher(&key, &nonce))
		pieces.Decrypt(NewCipher(&key, &nonce))
		if !bytes.Equal(a.Body, first) {
			t.Fatal("the first frame was decrypted")
		}
		if one, two := count(whole), count(pieces); one != two {
			t.Fatalf("%d frames follow at once, %d in pieces", one, two)
		}
	})
}

func count(r *Reader) (n int) {
	var b Batch
	for r.Read(&b) == nil {
		n += len(b.Frames)
	}
	return n
}

// FuzzExtensions: of whatever names a peer says it has, those that are ours are found where they are, if the list is sorted.
func FuzzExtensions(f *testing.F) {
	var v protocolVectors
	load(f, "protocol.json", &v)
	for _, m := range v.Messages {
		if m.Name == "Handshake" {
			f.Add([]byte(m.Body))
		}
	}
	f.Add(Handshake{Extensions: []string{"a", "b", "secure-ephemeral", "\xff"}}.Append(nil, 0))
	f.Fuzz(func(t *testing.T, body []byte) {
		var h Handshake
		if h.Decode(body) != nil {
			return
		}
		ours := []string{"b", "secure-ephemeral"}
		ids := MatchExtensions(ours, h.Extensions)
		if len(ids) != len(h.Extensions) {
			t.Fatalf("%d ids of %d names", len(ids), len(h.Extensions))
		}
		for i, id := range ids {
			if id >= 0 && ours[id] != h.Extensions[i] {
				t.Fatalf("%q was taken for %q", h.Extensions[i], ours[id])
			}
		}
		SortExtensions(h.Extensions)
		found := map[int]bool{}
		for _, id := range MatchExtensions(ours, h.Extensions) {
			found[id] = true
		}
		for i, name := range ours {
			if slices.Contains(h.Extensions, name) && !found[i] {
				t.Fatalf("%q is not found in %q", name, h.Extensions)
			}
		}
	})
}
