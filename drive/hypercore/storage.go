package hypercore

import (
	"errors"
	"fmt"
	"io"
)

// File is one file of a feed. WriteAt past the end fills the gap with zeros. Sync returns when everything written and
// truncated before is durable. Punch makes n bytes at off read as zeros and may free them; the size stays.
type File interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Size() (int64, error)
	Sync() error
	Punch(off, n int64) error
	Close() error
}

// Storage opens the files of one feed by name, creating those that are missing: data, tree, signatures, bitfield, head, and fork.
type Storage interface {
	Open(name string) (File, error)
	// Sync makes durable that the files opened so far exist.
	Sync() error
}

// The 32-byte headers of the 2019 layout: magic 05 02 57, type, version, entry size, name of the algorithm.
var (
	headerBitfield   = header(0, bitfieldEntry, "")
	headerSignatures = header(1, sizeSignature, "Ed25519")
	headerTree       = header(2, sizeNode, "BLAKE2b")
)

const (
	sizeHeader    = 32
	sizeNode      = 40 // hash, size
	sizeSignature = 64
	bitfieldEntry = 3 * pageBytes // 8192 data bits, 16384 tree bits
)

func header(kind byte, entry uint16, algorithm string) []byte {
	h := make([]byte, sizeHeader)
	copy(h, []byte{5, 2, 0x57, kind, 0, byte(entry >> 8), byte(entry), byte(len(algorithm))})
	copy(h[8:], algorithm)
	return h
}

// files are the open files of one feed.
type files struct{ data, tree, signatures, bitfield, head, fork File }

func openFiles(st Storage) (f files, err error) {
	for _, it := range []struct {
		name   string
		file   *File
		header []byte
	}{
		{"data", &f.data, nil}, {"tree", &f.tree, headerTree}, {"signatures", &f.signatures, headerSignatures},
		{"bitfield", &f.bitfield, headerBitfield}, {"head", &f.head, nil}, {"fork", &f.fork, nil},
	} {
		if *it.file, err = st.Open(it.name); err != nil {
			return f, errors.Join(fmt.Errorf("open %s: %w", it.name, err), f.close())
		}
		if it.header == nil {
			continue
		}
		if _, err = (*it.file).WriteAt(it.header, 0); err != nil {
			return f, errors.Join(fmt.Errorf("write header of %s: %w", it.name, err), f.close())
		}
	}
	if err := st.Sync(); err != nil {
		return f, errors.Join(fmt.Errorf("sync the names: %w", err), f.close())
	}
	return f, nil
}

func (f files) close() (err error) {
	for _, file := range []File{f.data, f.tree, f.signatures, f.bitfield, f.head, f.fork} {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
	}
	return err
}

// readFull reads len(p) bytes at off; what lies past the end of the file reads as zeros.
func readFull(f File, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		return nil
	}
	return err
}
