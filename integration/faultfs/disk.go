package faultfs

import (
	"maps"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
)

// Root is the number of the root directory.
const Root = 1

// Kind says what an Op does.
type Kind uint8

// The kinds of Op, and which fields they use beside.
const (
	Create   Kind = iota + 1 // Dir, Name, Ino, Mode: a new inode of any type
	Link                     // Dir, Name, Ino
	Unlink                   // Dir, Name; directories too
	Rename                   // Dir, Name, Ino, ToDir, ToName
	Write                    // Ino, Off, Data
	Truncate                 // Ino, Off: the new size
	Punch                    // Ino, Off, Size
	Sync                     // Ino: its bytes and size are durable
	SyncDir                  // Ino: its names are durable
	Drop                     // Ino: an fsync failed, and no later one stores the changes of bytes that it was to store
	Read                     // never recorded; for rules
)

// Op is one change of a Disk, or the end of an fsync, good or not.
type Op struct {
	Kind   Kind
	Ino    uint64
	Dir    uint64
	Name   string
	ToDir  uint64
	ToName string
	Mode   uint32
	Off    int64
	Size   int64
	Data   []byte
}

// Inode is a file or directory. Its bytes are shared between disks until they are changed.
type Inode struct {
	Mode  uint32 // with the type bits of stat(2)
	Data  []byte
	Names map[string]uint64 // of a directory
	owned atomic.Bool       // nobody shares Data; atomic, since several may clone a disk at once
}

func (in *Inode) isDir() bool { return in.Mode&syscall.S_IFMT == syscall.S_IFDIR }

// Disk is the state of a file system. It is not safe for concurrent use.
type Disk struct {
	Inodes map[uint64]*Inode
	Next   uint64 // number of the next inode
}

// NewDisk returns an empty disk.
func NewDisk() *Disk {
	return &Disk{Inodes: map[uint64]*Inode{Root: {Mode: syscall.S_IFDIR | 0o755, Names: map[string]uint64{}}}, Next: Root + 1}
}

// Clone returns a copy that shares the bytes of files, which both then copy before they change them.
func (d *Disk) Clone() *Disk {
	c := &Disk{Inodes: make(map[uint64]*Inode, len(d.Inodes)), Next: d.Next}
	for ino, in := range d.Inodes {
		in.owned.Store(false)
		c.Inodes[ino] = &Inode{Mode: in.Mode, Data: in.Data, Names: maps.Clone(in.Names)}
	}
	return c
}

// Apply carries out op, as far as what it speaks of is there.
func (d *Disk) Apply(op *Op) {
	switch op.Kind {
	case Create:
		in := &Inode{Mode: op.Mode}
		if in.isDir() {
			in.Names = map[string]uint64{}
		}
		d.Inodes[op.Ino] = in
		d.Next = max(d.Next, op.Ino+1)
		d.name(op.Dir, op.Name, op.Ino)
	case Link:
		d.name(op.Dir, op.Name, op.Ino)
	case Unlink:
		d.name(op.Dir, op.Name, 0)
	case Rename:
		if dir := d.Inodes[op.Dir]; dir != nil && dir.Names[op.Name] == op.Ino {
			delete(dir.Names, op.Name)
		}
		d.name(op.ToDir, op.ToName, op.Ino)
	case Write, Truncate, Punch:
		if in := d.Inodes[op.Ino]; in != nil {
			in.change(op)
		}
	}
}

// name lets name in dir mean ino, or nothing if that is 0.
func (d *Disk) name(dir uint64, name string, ino uint64) {
	in := d.Inodes[dir]
	if in == nil || in.Names == nil {
		return
	}
	if ino == 0 {
		delete(in.Names, name)
	} else {
		in.Names[name] = ino
	}
}

func (in *Inode) change(op *Op) {
	switch op.Kind {
	case Write:
		in.resize(max(int64(len(in.Data)), op.Off+int64(len(op.Data))))
		copy(in.Data[op.Off:], op.Data)
	case Truncate:
		in.resize(op.Off)
	case Punch:
		in.resize(int64(len(in.Data)))
		if end := min(op.Off+op.Size, int64(len(in.Data))); op.Off < end {
			clear(in.Data[op.Off:end])
		}
	}
}

// resize gives in bytes of its own, size of them.
func (in *Inode) resize(size int64) {
	switch old := in.Data; {
	case !in.owned.Load() || size > int64(cap(old)):
		in.Data = make([]byte, size, size+size/4)
		copy(in.Data, old)
		in.owned.Store(true)
	case size < int64(len(old)):
		clear(old[size:])
		in.Data = old[:size]
	default:
		in.Data = old[:size]
	}
}

// Used returns how many bytes the files of d hold.
func (d *Disk) Used() (n int64) {
	for _, in := range d.Inodes {
		n += int64(len(in.Data))
	}
	return n
}

// Materialise writes the files and directories of d into the folder path, which is empty. Whatever else there is is left out.
func (d *Disk) Materialise(path string) error { return d.materialise(Root, path) }

func (d *Disk) materialise(dir uint64, path string) error {
	for name, ino := range d.Inodes[dir].Names {
		in, at := d.Inodes[ino], filepath.Join(path, name)
		var err error
		switch {
		case in == nil:
		case in.isDir():
			if err = os.Mkdir(at, 0o700); err == nil {
				err = d.materialise(ino, at)
			}
		case in.Mode&syscall.S_IFMT == syscall.S_IFREG:
			err = os.WriteFile(at, in.Data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Path finds the inode at a path of names below the root; 0 if there is none.
func (d *Disk) Path(names ...string) uint64 {
	ino := uint64(Root)
	for _, name := range names {
		in := d.Inodes[ino]
		if in == nil {
			return 0
		}
		ino = in.Names[name]
	}
	return ino
}
