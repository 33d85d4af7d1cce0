package archive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// note is what the cache remembers of a feed beside its blocks: the key, and the manifest as the bucket had it. It is written without a sync, since
// the bucket has it all: one that is torn or missing is read from there.
type note struct {
	key      hypercore.Key
	tag      Tag
	manifest *manifest
}

const (
	noteName = "archive"
	maxTag   = 1024
)

func (n note) encode() []byte {
	discovery := hypercore.DiscoveryKey(n.key)
	b := append([]byte(magicNote), n.key[:]...)
	b = append(b, byte(len(n.tag)>>8), byte(len(n.tag)))
	b = append(b, n.tag...)
	return seal(append(b, n.manifest.encode(discovery)...))
}

func decodeNote(b []byte) (note, error) {
	d := unseal(b, magicNote)
	n := note{key: d.hash("key")}
	if size := d.bytes("tag", 2); size != nil {
		n.tag = Tag(d.bytes("tag", uint64(size[0])<<8|uint64(size[1])))
	}
	if d.err != nil {
		return note{}, fmt.Errorf("note: %w", d.err)
	}
	var err error
	n.manifest, err = decodeManifest(d.rest, hypercore.DiscoveryKey(n.key))
	return n, err
}

func readNote(dir string) (note, error) {
	info, err := os.Stat(filepath.Join(dir, noteName))
	if err != nil {
		return note{}, err
	}
	if info.Size() > maxManifest+4096 {
		return note{}, ErrFormat
	}
	b, err := os.ReadFile(filepath.Join(dir, noteName))
	if err != nil {
		return note{}, err
	}
	return decodeNote(b)
}

func writeNote(dir string, n note) error {
	if len(n.tag) > maxTag {
		return fmt.Errorf("tag of %d bytes: %w", len(n.tag), ErrFormat)
	}
	path := filepath.Join(dir, noteName)
	if err := os.WriteFile(path+".new", n.encode(), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// openCache opens the cache's part of a feed. One that is damaged is set aside, over the one set aside before: what it has is in the bucket or at peers.
func (s *Store) openCache(key hypercore.Key, dir string) (*hypercore.Feed, error) {
	f, err := hypercore.Open(hypercore.Dir(dir), key, hypercore.Options{})
	if !errors.Is(err, hypercore.ErrDamaged) {
		return f, err
	}
	aside := filepath.Join(s.cfg.Dir, "damaged")
	s.cfg.Log.Error("a feed in the cache is damaged: set aside, to be read from the bucket", "feed", filepath.Base(dir), "path", aside, "err", err)
	if err := os.RemoveAll(aside); err != nil {
		return nil, err
	}
	if err := os.Rename(dir, aside); err != nil {
		return nil, err
	}
	return hypercore.Open(hypercore.Dir(dir), key, hypercore.Options{})
}

// usage returns how many bytes of disk the files in dir take.
func usage(dir string) (n int64) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, d := range files {
		if info, err := d.Info(); err == nil {
			n += allocated(info)
		}
	}
	return n
}
