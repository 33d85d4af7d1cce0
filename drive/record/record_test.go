package record

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"hyphafs.org/hyphafs/drive/hypercore"
)

func testKeys() *Keys {
	return &Keys{Names: [32]byte{1}, Epochs: map[uint32]EpochKeys{0: {Meta: [32]byte{2}, Blocks: [32]byte{3}}}}
}

func sampleInode() *Inode {
	return &Inode{
		Kind: File, Mode: 0o4755, UID: 1000, GID: 100, Owner: [8]byte{9}, Atime: -5, Mtime: 1, Ctime: 2, Btime: 3, Size: 5*BlockSize + 7,
		Extents: []Extent{{Block: 0, Count: 2, Feed: hypercore.Key{1}, Seq: 10}, {Block: 2, Count: 1, Feed: hypercore.Key{2}}, {Block: 5, Count: 1, Feed: hypercore.Key{1}, Seq: 12}},
		Xattrs:  []Xattr{{Name: "user.a", Value: []byte("x")}, {Name: "user.b", Value: []byte{}}},
		Stamp:   Stamp{Wall: 1234567890123, Logical: 4}, Replaces: []Version{{Feed: hypercore.Key{5}, Seq: 6}},
	}
}

func sampleDirent() *Dirent {
	return &Dirent{Name: "naïve name.txt", Inode: ID{7}, Kind: File, MovedFrom: &Place{Dir: ID{8}, Name: "old"}, Stamp: Stamp{Wall: 1, Logical: 2}, Replaces: []Version{{Seq: 1}}}
}

func TestRoundTrip(t *testing.T) {
	in := sampleInode()
	if out, err := DecodeInode(in.Encode()); err != nil || !reflect.DeepEqual(in, out) {
		t.Errorf("inode\n got %+v %v\nwant %+v", out, err, in)
	}
	de := sampleDirent()
	if out, err := DecodeDirent(Root, de.Encode()); err != nil || !reflect.DeepEqual(de, out) {
		t.Errorf("dirent\n got %+v %v\nwant %+v", out, err, de)
	}
	w := &Writer{Name: "Laptop", ApprovedBy: hypercore.Key{3}, Time: 77, Stamp: Stamp{Wall: 9}}
	if out, err := DecodeWriter(w.Encode()); err != nil || !reflect.DeepEqual(w, out) {
		t.Errorf("writer\n got %+v %v\nwant %+v", out, err, w)
	}
}

// TestUnknownFieldsSurvive: what a later version wrote is written again by this one.
func TestUnknownFieldsSurvive(t *testing.T) {
	later := appendBytes(appendNum(nil, 100, 5), 101, []byte("later"))
	n, err := DecodeInode(append(sampleInode().Encode(), later...))
	if err != nil || !bytes.HasSuffix(n.Encode(), later) {
		t.Errorf("inode: %v", err)
	}
	d, err := DecodeDirent(Root, append(sampleDirent().Encode(), later...))
	if err != nil || !bytes.HasSuffix(d.Encode(), later) {
		t.Errorf("dirent: %v", err)
	}
}

func TestRefused(t *testing.T) {
	inodes := map[string]func(*Inode){
		"no kind":          func(n *Inode) { n.Kind = 0 },
		"unknown kind":     func(n *Inode) { n.Kind = 99 },
		"mode":             func(n *Inode) { n.Mode = 0o10000 },
		"size":             func(n *Inode) { n.Size = MaxSize + 1 },
		"overlap":          func(n *Inode) { n.Extents[1].Block = 1 },
		"beyond the end":   func(n *Inode) { n.Extents[2].Block = 6 },
		"overflow":         func(n *Inode) { n.Extents[2].Seq = 1<<64 - 1 },
		"attributes twice": func(n *Inode) { n.Xattrs[1].Name = "user.a" },
		"extents of a dir": func(n *Inode) { n.Kind = Dir },
		"target":           func(n *Inode) { n.Target = strings.Repeat("x", MaxTarget+1) },
		"stamp":            func(n *Inode) { n.Stamp.Wall = 1 << 60 },
	}
	for why, change := range inodes {
		n := sampleInode()
		change(n)
		if _, err := DecodeInode(n.Encode()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", why, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "a\x00b", ".hypha", strings.Repeat("x", 256)} {
		d := sampleDirent()
		d.Name = name
		if _, err := DecodeDirent(Root, d.Encode()); !errors.Is(err, ErrInvalid) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	d := sampleDirent()
	d.Name = ".hypha"
	if _, err := DecodeDirent(ID{1}, d.Encode()); err != nil {
		t.Errorf(".hypha below the root: %v", err)
	}
}

func TestSealing(t *testing.T) {
	k, feed := testKeys(), hypercore.Key{1}
	sealed, err := k.Seal(feed, "f/x", []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := k.Open(feed, "f/x", sealed); err != nil || string(plain) != "plain" {
		t.Errorf("%q %v", plain, err)
	}
	again, err := k.Seal(feed, "f/x", []byte("plain"))
	if err != nil || bytes.Equal(sealed, again) {
		t.Errorf("two seals are equal (%v)", err)
	}
	flipped := bytes.Clone(sealed)
	flipped[len(flipped)-1] ^= 1
	later := append([]byte{3}, sealed[1:]...)
	paged := append([]byte{2}, sealed[1:]...)
	other := append([]byte{1, 7}, sealed[2:]...)
	for _, c := range []struct {
		why    string
		feed   hypercore.Key
		key    string
		sealed []byte
		want   error
	}{
		{"another feed", hypercore.Key{2}, "f/x", sealed, ErrSealed},
		{"another key", feed, "f/y", sealed, ErrSealed},
		{"flipped bit", feed, "f/x", flipped, ErrSealed},
		{"cut off", feed, "f/x", sealed[:20], ErrSealed},
		{"empty", feed, "f/x", nil, ErrSealed},
		{"version of pages", feed, "f/x", paged, ErrSealed},
		{"later version", feed, "f/x", later, ErrUnknownVersion},
		{"other epoch", feed, "f/x", other, ErrUnknownEpoch},
	} {
		if _, err := k.Open(c.feed, c.key, c.sealed); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.why, err)
		}
	}
	block, err := k.SealBlock(feed, ID{1}, 5, []byte("block"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := k.OpenBlock(feed, ID{1}, 5, bytes.Clone(block)); err != nil || string(plain) != "block" {
		t.Errorf("%q %v", plain, err)
	}
	if _, err := k.OpenBlock(feed, ID{1}, 6, bytes.Clone(block)); !errors.Is(err, ErrSealed) {
		t.Errorf("another block number: %v", err)
	}
	if _, err := k.OpenBlock(feed, ID{2}, 5, bytes.Clone(block)); !errors.Is(err, ErrSealed) {
		t.Errorf("another inode: %v", err)
	}
}

func TestKeysAreHidden(t *testing.T) {
	k := testKeys()
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s", k, k, k, k), fmt.Sprintf("%d %x %q", k, k, k)} {
		if strings.Contains(s, "[") || !strings.Contains(s, "redacted") {
			t.Error(s)
		}
	}
}

func TestNames(t *testing.T) {
	k := testKeys()
	if k.Token(ID{1}, "a") == k.Token(ID{2}, "a") || k.Token(ID{1}, "a") == k.Token(ID{1}, "b") {
		t.Error("tokens are not salted")
	}
	id := ID{1, 2, 3}
	for key, want := range map[string]KeyParts{
		DirentKey(id, k.Token(id, "a")): {Family: Dirents, ID: id, Token: k.Token(id, "a")},
		InodeKey(id):                    {Family: Inodes, ID: id},
		WriterKey(hypercore.Key{4}):     {Family: Writers, Feed: hypercore.Key{4}},
		PageKey(id, 1<<40):              {Family: Pages, ID: id, First: 1 << 40},
	} {
		if got, err := ParseKey(key); err != nil || got != want {
			t.Errorf("%s: %+v %v", key, got, err)
		}
	}
	for _, key := range []string{"", "d", "d/", "x/" + id.String(), "d/" + id.String(), "d/" + id.String() + "/a/b", "f/short", "n/zz", "e/" + id.String(), "e/" + id.String() + "/01", "e/" + id.String() + "/", "f/" + id.String() + "/"} {
		if _, err := ParseKey(key); err == nil {
			t.Errorf("%q was taken", key)
		}
	}
}

// TestEmptyExtents reads what an earlier version wrote: extents of no blocks beside the others.
func TestEmptyExtents(t *testing.T) {
	n := sampleInode()
	want := slices.Clone(n.Extents)
	n.Extents = slices.Insert(n.Extents, 1, Extent{Block: want[1].Block, Feed: hypercore.Key{77}, Seq: 5})
	got, err := DecodeInode(n.Encode())
	if err != nil || !reflect.DeepEqual(got.Extents, want) {
		t.Errorf("record: %v, %v", got, err)
	}
	if page, err := DecodePage(EncodePage(n.Extents)); err != nil || !reflect.DeepEqual(page, want) {
		t.Errorf("page: %v, %v", page, err)
	}
	if page, err := DecodePage(EncodePage(n.Extents[1:2])); err != nil || page != nil {
		t.Errorf("empty page: %v, %v", page, err)
	}
}

func FuzzDecodeInode(f *testing.F) {
	f.Add(sampleInode().Encode())
	empty := sampleInode()
	empty.Extents = []Extent{{Block: 1}}
	f.Add(empty.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := DecodeInode(b)
		if err != nil {
			return
		}
		again, err := DecodeInode(n.Encode())
		if err != nil || !reflect.DeepEqual(n, again) {
			t.Fatalf("%+v\n%+v %v", n, again, err)
		}
	})
}

// TestPaged seals the record of an inode with pages so that who does not know pages refuses it.
func TestPaged(t *testing.T) {
	k, feed := testKeys(), hypercore.Key{1}
	n := &Inode{Kind: File, Size: 1 << 40, Stamp: Stamp{Wall: 1}, Pages: []Page{{Feed: feed, Seq: 3, Blocks: 5}, {First: 100, Feed: feed, Seq: 4, Blocks: 6}}}
	sealed, err := k.SealPaged(feed, "f/x", n.Encode())
	if err != nil || sealed[0] != 2 {
		t.Fatalf("version %d, %v", sealed[0], err)
	}
	plain, err := k.Open(feed, "f/x", sealed)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeInode(plain); err != nil || !reflect.DeepEqual(got, n) {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := k.Open(feed, "f/x", append([]byte{1}, sealed[1:]...)); !errors.Is(err, ErrSealed) {
		t.Errorf("as version 1: %v", err)
	}
	for name, pages := range map[string][]Page{"twice": {{First: 5}, {First: 5}}, "descending": {{First: 5}, {First: 4}}, "beyond the end of all files": {{First: 1 << 60}}} {
		if _, err := DecodeInode((&Inode{Kind: File, Pages: pages}).Encode()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodePage(f *testing.F) {
	f.Add(EncodePage(sampleInode().Extents))
	f.Fuzz(func(t *testing.T, b []byte) {
		extents, err := DecodePage(b)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if again, err := DecodePage(EncodePage(extents)); err != nil || !reflect.DeepEqual(extents, again) {
			t.Fatalf("%+v\n%+v %v", extents, again, err)
		}
	})
}

func FuzzDecodeDirent(f *testing.F) {
	f.Add(sampleDirent().Encode())
	f.Add(protowire.AppendTag(nil, 5, protowire.StartGroupType))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := DecodeDirent(Root, b)
		if err != nil {
			return
		}
		again, err := DecodeDirent(Root, d.Encode())
		if err != nil || !reflect.DeepEqual(d, again) {
			t.Fatalf("%+v\n%+v %v", d, again, err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	sealed, err := testKeys().Seal(hypercore.Key{1}, "f/x", []byte("plain"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, b []byte) {
		if plain, err := testKeys().Open(hypercore.Key{1}, "f/x", b); err == nil && string(plain) != "plain" {
			t.Fatalf("%x opened to %x", b, plain)
		}
	})
}

func FuzzDecodeWriter(f *testing.F) {
	f.Add((&Writer{Name: "Laptop", ApprovedBy: hypercore.Key{3}, Time: 77, Stamp: Stamp{Wall: 9}, Replaces: []Version{{Seq: 1}}}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := DecodeWriter(b)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		again, err := DecodeWriter(w.Encode())
		if err != nil || !reflect.DeepEqual(w, again) {
			t.Fatalf("%+v\n%+v %v", w, again, err)
		}
	})
}

// FuzzParseKey: a key that is ours is written in one way only.
func FuzzParseKey(f *testing.F) {
	f.Add(DirentKey(ID{1}, testKeys().Token(ID{1}, "name")))
	f.Add(InodeKey(ID{2}))
	f.Add(WriterKey(hypercore.Key{3}))
	f.Add(PageKey(ID{4}, 5))
	f.Fuzz(func(t *testing.T, key string) {
		p, err := ParseKey(key)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		again := map[Family]string{Dirents: DirentKey(p.ID, p.Token), Inodes: InodeKey(p.ID), Writers: WriterKey(p.Feed), Pages: PageKey(p.ID, p.First)}[p.Family]
		if again != key {
			t.Fatalf("%q was taken for %q", key, again)
		}
	})
}

// FuzzOpenBlock: only what was sealed for its place opens, to what it was; the same for what stays on this node.
func FuzzOpenBlock(f *testing.F) {
	block, err := testKeys().SealBlock(hypercore.Key{1}, ID{2}, 3, []byte("plain"))
	if err != nil {
		f.Fatal(err)
	}
	local, err := SealLocal([32]byte{4}, "purpose", []byte("plain"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(block)
	f.Add(local)
	f.Fuzz(func(t *testing.T, b []byte) {
		if plain, err := testKeys().OpenBlock(hypercore.Key{1}, ID{2}, 3, bytes.Clone(b)); err == nil && string(plain) != "plain" {
			t.Fatalf("%x opened to %x", b, plain)
		}
		if plain, err := OpenLocal([32]byte{4}, "purpose", b); err == nil && string(plain) != "plain" {
			t.Fatalf("%x opened to %x", b, plain)
		}
	})
}
