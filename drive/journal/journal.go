// Package journal is an append-only file of sealed frames: what a node changed and has not published yet. It knows frames and a
// file; what a frame means is its caller's matter.
//
// # Format
//
//	frame = length (4, big endian, of what follows) || sealed
//
// A frame is sealed under the node's local key, bound to the journal's name and the frame's number, so that a frame can neither be changed nor moved
// nor repeated. Replay stops at the first frame that is cut off or does not open: a crash leaves a prefix.
//
// # Durability
//
// Append writes one frame with one write: it survives the end of the process. Sync makes all frames so far durable; callers that wait at the
// same time share one fsync. The file is kept longer than what it holds, with zeros, which end a replay: a frame that replaces zeros is
// synced without the file system's own journal.
package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/drive/record"
)

// maxFrame bounds a frame, and maxRoom what is kept to make frames in, in bytes.
const (
	maxFrame = 64 << 20
	maxRoom  = 256 << 10
)

// Journal is an open journal. All methods may be called from many goroutines at once.
type Journal struct {
	file hypercore.File
	key  [32]byte
	name string

	mu       sync.Mutex // guards what follows; held over a write, not over a sync
	frames   uint64
	size     int64
	ready    int64 // length of the file
	broken   error
	replaced bool   // by another one, which has all of it
	room     []byte // for the next frame

	syncing sync.Mutex // one fsync at a time; taken before mu
	synced  int64      // bytes that are durable; guarded by syncing
}

// Open replays the journal in file and continues it. name binds the frames to their journal. replay gets each frame's plain bytes, which it may keep.
func Open(file hypercore.File, key [32]byte, name string, replay func(frame []byte) error) (*Journal, error) {
	j := &Journal{file: file, key: key, name: name}
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	for j.size+4 <= size {
		plain, length, err := j.read(size)
		if err != nil {
			return nil, err
		}
		if plain == nil {
			break
		}
		if err := replay(plain); err != nil {
			return nil, fmt.Errorf("frame %d of the journal: %w", j.frames, err)
		}
		j.frames++
		j.size += length
	}
	if j.size < size {
		if err := file.Truncate(j.size); err != nil {
			return nil, fmt.Errorf("cut the journal: %w", err)
		}
	}
	j.ready = j.size
	return j, nil
}

// read returns the next frame, or nil at the end of what holds.
func (j *Journal) read(size int64) (plain []byte, length int64, err error) {
	var head [4]byte
	if _, err := j.file.ReadAt(head[:], j.size); err != nil {
		return nil, 0, fmt.Errorf("read the journal: %w", err)
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n == 0 || n > maxFrame || j.size+4+n > size {
		return nil, 0, nil
	}
	sealed := make([]byte, n)
	if _, err := j.file.ReadAt(sealed, j.size+4); err != nil {
		return nil, 0, fmt.Errorf("read the journal: %w", err)
	}
	plain, err = record.OpenLocal(j.key, j.purpose(), sealed)
	if err != nil {
		return nil, 0, nil
	}
	if plain == nil {
		plain = []byte{}
	}
	return plain, 4 + n, nil
}

func (j *Journal) purpose() string { return fmt.Sprintf("journal %s %d", j.name, j.frames) }

// Append writes a frame. After a failed write, which may have left half a frame, the journal takes no more until it is opened again, unless the
// rest could be cut off.
func (j *Journal) Append(frame []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return j.broken
	}
	b, err := record.AppendLocal(append(j.room[:0], 0, 0, 0, 0), j.key, j.purpose(), frame)
	if err != nil {
		return err
	}
	n := len(b) - 4
	if n > maxFrame {
		return fmt.Errorf("journal frame of %d bytes", n)
	}
	binary.BigEndian.PutUint32(b, uint32(n))
	if n < maxRoom {
		j.room = b
	}
	if j.size+int64(len(b)) > j.ready {
		j.lengthen(int64(len(b)))
	}
	if _, err := j.file.WriteAt(b, j.size); err != nil {
		j.ready = j.size
		if cut := j.file.Truncate(j.size); cut != nil {
			j.broken = errors.Join(err, cut)
		}
		return fmt.Errorf("write the journal: %w", err)
	}
	j.frames++
	j.size += int64(len(b))
	return nil
}

// Note writes a frame even if the journal takes no more. It does not outlive the run of the system, but whoever replays the journal within that
// finds it.
func (j *Journal) Note(frame []byte) error {
	j.mu.Lock()
	broken := j.broken
	j.broken = nil
	j.mu.Unlock()
	err := j.Append(frame)
	j.mu.Lock()
	defer j.mu.Unlock()
	if broken != nil {
		j.broken = broken
	}
	return err
}

// Fail lets the journal take no more, because of err.
func (j *Journal) Fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.broken = err
}

// zeros is what a file is made longer with: a quarter of what it holds, but at least shortest and at most all of zeros.
var zeros [1 << 20]byte

const shortest = 64 << 10

// lengthen puts zeros behind the end, where n bytes are to be written. If that fails the frame will find out, or fit all the same. Called with mu held.
func (j *Journal) lengthen(n int64) {
	done, err := j.file.WriteAt(zeros[:min(max(j.size/4, shortest), int64(len(zeros)))], j.ready)
	if err == nil {
		j.ready += int64(done)
	}
	j.ready = max(j.ready, j.size+n)
}

// Sync makes every frame that was appended before the call durable. After one that failed all fail that have something to do: the journal takes no more.
func (j *Journal) Sync() error {
	j.mu.Lock()
	want := j.size
	j.mu.Unlock()
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced >= want {
		return nil
	}
	j.mu.Lock()
	reached, replaced, broken := j.size, j.replaced, j.broken
	j.mu.Unlock()
	if replaced {
		return nil
	}
	if broken != nil { // a sync that succeeds behind one that failed says nothing
		return broken
	}
	err := j.file.Sync()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil && !j.replaced {
		j.broken = fmt.Errorf("sync the journal: %w", err) // what the disk holds is unknown from here on
		return j.broken
	}
	j.synced = reached
	return nil
}

// Err returns why the journal takes no more, or nil.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.broken
}

// Size returns the journal's size in bytes.
func (j *Journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.size
}

// Discard frees the bytes of a journal that another one took the place of, in which all that this one says is durable: who still syncs it has nothing to wait for. It takes no more.
func (j *Journal) Discard() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.replaced = true
	if j.broken == nil {
		j.broken = errors.New("the journal was replaced")
	}
	_ = j.file.Truncate(0) // its name is gone: with the last who has it open the bytes go
}

// Close releases the file.
func (j *Journal) Close() error { return j.file.Close() }
