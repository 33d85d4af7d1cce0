package faultfs

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// timeout is how long the kernel answers by itself, in seconds: nobody else changes the disk.
const timeout = 3600

// server shows a Disk through FUSE and records what changes. The kernel's node numbers are the disk's.
type server struct {
	fuse.RawFileSystem

	mu     sync.Mutex // guards what follows
	disk   *Disk
	ops    []Op
	rule   Rule
	quota  int64 // bytes of all files; 0: no limit
	used   int64
	opens  map[uint64]int
	parent map[uint64]place // of what has a name
}

type place struct {
	dir  uint64
	name string
}

func newServer(d *Disk) *server {
	s := &server{RawFileSystem: fuse.NewDefaultRawFileSystem(), disk: d, opens: map[uint64]int{}, parent: map[uint64]place{}, used: d.Used()}
	for dir, in := range d.Inodes {
		for name, ino := range in.Names {
			s.parent[ino] = place{dir, name}
		}
	}
	return s
}

// path is where ino is, without a leading slash.
func (s *server) path(ino uint64) string {
	var names []string
	for ino != Root {
		p, ok := s.parent[ino]
		if !ok {
			return "(unnamed)"
		}
		names, ino = append(names, p.name), p.dir
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// do carries out op and records it, unless a rule says otherwise. ino is the inode that the rule looks at. Called with mu held.
func (s *server) do(ino uint64, op Op) fuse.Status {
	failing := fuse.OK
	if s.rule.matches(op.Kind, s.path(ino)) {
		if r, ok := s.rule.hit(); ok && r.Errno != 0 {
			failing = fuse.Status(r.Errno)
			switch {
			case r.Stored:
			case op.Kind == Sync:
				op.Kind = Drop
			default:
				return failing
			}
		}
	}
	var before int64
	if in := s.disk.Inodes[op.Ino]; in != nil {
		before = int64(len(in.Data))
	}
	if op.Kind == Write && s.quota > 0 && s.used+op.Off+int64(len(op.Data))-before > s.quota && op.Off+int64(len(op.Data)) > before {
		return fuse.Status(syscall.ENOSPC)
	}
	s.disk.Apply(&op)
	s.ops = append(s.ops, op)
	if in := s.disk.Inodes[op.Ino]; in != nil {
		s.used += int64(len(in.Data)) - before
	}
	switch op.Kind {
	case Create, Link:
		s.parent[op.Ino] = place{op.Dir, op.Name}
	case Rename:
		s.parent[op.Ino] = place{op.ToDir, op.ToName}
	}
	return failing
}

// unnamed forgets ino if it has neither name nor handle. Called with mu held.
func (s *server) unnamed(ino uint64) {
	if p, ok := s.parent[ino]; ok && s.disk.Inodes[p.dir] != nil && s.disk.Inodes[p.dir].Names[p.name] == ino {
		return
	}
	delete(s.parent, ino)
	if in := s.disk.Inodes[ino]; in != nil && s.opens[ino] == 0 {
		s.used -= int64(len(in.Data))
		delete(s.disk.Inodes, ino)
	}
}

func (s *server) attr(ino uint64, out *fuse.Attr) bool {
	in := s.disk.Inodes[ino]
	if in == nil {
		return false
	}
	*out = fuse.Attr{Ino: ino, Mode: in.Mode, Size: uint64(len(in.Data)), Blocks: uint64(len(in.Data)+511) / 512, Nlink: 1, Blksize: 4096}
	return true
}

func (s *server) entry(ino uint64, out *fuse.EntryOut) fuse.Status {
	if !s.attr(ino, &out.Attr) {
		return fuse.ENOENT
	}
	out.NodeId, out.Generation, out.EntryValid, out.AttrValid = ino, 1, timeout, timeout
	return fuse.OK
}

// Lookup finds a name.
func (s *server) Lookup(_ <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if dir := s.disk.Inodes[header.NodeId]; dir != nil {
		return s.entry(dir.Names[name], out)
	}
	return fuse.ENOENT
}

// GetAttr tells type and size.
func (s *server) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out.AttrValid = timeout
	if !s.attr(in.NodeId, &out.Attr) {
		return fuse.ENOENT
	}
	return fuse.OK
}

// SetAttr changes mode and size; the rest is not kept.
func (s *server) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	node := s.disk.Inodes[in.NodeId]
	if node == nil {
		return fuse.ENOENT
	}
	if mode, ok := in.GetMode(); ok {
		node.Mode = node.Mode&syscall.S_IFMT | mode&0o7777
	}
	if size, ok := in.GetSize(); ok {
		if status := s.do(in.NodeId, Op{Kind: Truncate, Ino: in.NodeId, Off: int64(size)}); !status.Ok() {
			return status
		}
	}
	out.AttrValid = timeout
	s.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

// add makes an inode.
func (s *server) add(dir uint64, name string, mode uint32, out *fuse.EntryOut) fuse.Status {
	in := s.disk.Inodes[dir]
	if in == nil || in.Names == nil {
		return fuse.ENOENT
	}
	if in.Names[name] != 0 {
		return fuse.Status(syscall.EEXIST)
	}
	ino := s.disk.Next
	if status := s.do(dir, Op{Kind: Create, Dir: dir, Name: name, Ino: ino, Mode: mode}); !status.Ok() {
		return status
	}
	return s.entry(ino, out)
}

// Mknod makes a file, or a socket.
func (s *server) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(in.NodeId, name, in.Mode, out)
}

// Mkdir makes a directory.
func (s *server) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(in.NodeId, name, in.Mode&0o7777|syscall.S_IFDIR, out)
}

// Create makes and opens a file.
func (s *server) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.add(in.NodeId, name, in.Mode&0o7777|syscall.S_IFREG, &out.EntryOut)
	if status.Ok() {
		s.opens[out.NodeId]++
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	}
	return status
}

// Unlink removes a file's name.
func (s *server) Unlink(_ <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(header.NodeId, name)
}

// Rmdir removes an empty directory.
func (s *server) Rmdir(_ <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if dir := s.disk.Inodes[header.NodeId]; dir != nil && s.disk.Inodes[dir.Names[name]] != nil && len(s.disk.Inodes[dir.Names[name]].Names) > 0 {
		return fuse.Status(syscall.ENOTEMPTY)
	}
	return s.remove(header.NodeId, name)
}

func (s *server) remove(dir uint64, name string) fuse.Status {
	in := s.disk.Inodes[dir]
	if in == nil || in.Names[name] == 0 {
		return fuse.ENOENT
	}
	ino := in.Names[name]
	status := s.do(ino, Op{Kind: Unlink, Dir: dir, Name: name})
	s.unnamed(ino)
	return status
}

// Rename moves a name, over another if there is one.
func (s *server) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.Flags != 0 {
		return fuse.EINVAL
	}
	dir, target := s.disk.Inodes[in.NodeId], s.disk.Inodes[in.Newdir]
	if dir == nil || target == nil || dir.Names[from] == 0 {
		return fuse.ENOENT
	}
	over := target.Names[to]
	status := s.do(dir.Names[from], Op{Kind: Rename, Dir: in.NodeId, Name: from, Ino: dir.Names[from], ToDir: in.Newdir, ToName: to})
	if over != 0 {
		s.unnamed(over)
	}
	return status
}

// Open opens a file.
func (s *server) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disk.Inodes[in.NodeId] == nil {
		return fuse.ENOENT
	}
	s.opens[in.NodeId]++
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

// Release closes a file.
func (s *server) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens[in.NodeId]--
	s.unnamed(in.NodeId)
}

// Read reads bytes.
func (s *server) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	node := s.disk.Inodes[in.NodeId]
	if node == nil {
		return nil, fuse.ENOENT
	}
	if s.rule.matches(Read, s.path(in.NodeId)) {
		if r, ok := s.rule.hit(); ok {
			return nil, fuse.Status(r.Errno)
		}
	}
	from := min(in.Offset, uint64(len(node.Data)))
	to := min(from+uint64(in.Size), uint64(len(node.Data)))
	return fuse.ReadResultData(bytes.Clone(node.Data[from:to])), fuse.OK
}

// Write writes bytes, or half of them if a rule says so.
func (s *server) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disk.Inodes[in.NodeId] == nil {
		return 0, fuse.ENOENT
	}
	if s.rule.Short && len(data) > 1 && s.rule.matches(Write, s.path(in.NodeId)) {
		if _, ok := s.rule.hit(); ok {
			data = data[:len(data)/2]
		}
	}
	status := s.do(in.NodeId, Op{Kind: Write, Ino: in.NodeId, Off: int64(in.Offset), Data: bytes.Clone(data)})
	return uint32(len(data)), status
}

// Fallocate punches holes; reserving does nothing.
func (s *server) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch in.Mode {
	case 0, 1:
		return fuse.OK
	case 3:
		return s.do(in.NodeId, Op{Kind: Punch, Ino: in.NodeId, Off: int64(in.Offset), Size: int64(in.Length)})
	}
	return fuse.Status(syscall.EOPNOTSUPP)
}

// Flush does nothing: nothing is kept back.
func (s *server) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// Fsync makes a file durable.
func (s *server) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.do(in.NodeId, Op{Kind: Sync, Ino: in.NodeId})
}

// FsyncDir makes names durable.
func (s *server) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.do(in.NodeId, Op{Kind: SyncDir, Ino: in.NodeId})
}

// OpenDir opens a directory.
func (s *server) OpenDir(_ <-chan struct{}, _ *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	return fuse.OK
}

// ReadDir lists names, ascending. The offset is a position in that list.
func (s *server) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := s.disk.Inodes[in.NodeId]
	if dir == nil {
		return fuse.ENOENT
	}
	names := slices.Sorted(maps.Keys(dir.Names))
	for i := in.Offset; i < uint64(len(names)); i++ {
		e := fuse.DirEntry{Name: names[i], Ino: dir.Names[names[i]], Off: i + 1}
		if node := s.disk.Inodes[e.Ino]; node != nil {
			e.Mode = node.Mode
		}
		if !out.AddDirEntry(e) {
			break
		}
	}
	return fuse.OK
}

// StatFs tells what is free.
func (s *server) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := s.quota
	if size == 0 {
		size = 1 << 40
	}
	free := uint64(max(size-s.used, 0)) / 4096
	*out = fuse.StatfsOut{Bsize: 4096, Frsize: 4096, Blocks: uint64(size) / 4096, Bfree: free, Bavail: free, Files: 1 << 20, Ffree: 1 << 20, NameLen: 255}
	return fuse.OK
}

// String names the file system.
func (s *server) String() string { return fmt.Sprintf("faultfs of %d inodes", len(s.disk.Inodes)) }
