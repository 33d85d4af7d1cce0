// Package faultfs is a file system in memory that fails as disks, quotas and power do. It is for tests: served through FUSE by a process of its own,
// it records what programs change on it, so that every instant of their run can be turned into the disk that a power loss there would have left.
//
// # Parts
//
//	disk.go    Disk: inodes, names, bytes; Op: one change of it
//	crash.go   Log.Crash: a disk after a power loss
//	serve.go   Disk as a FUSE file system
//	rule.go    Rule: which calls fail, and how
//	client.go  Start: the serving process, and what can be asked of it
//
// # What a power loss does
//
// A disk keeps what was fsynced: the bytes and size of a file whose fsync returned, the names in a directory whose fsync returned. Of every other
// change each is kept or lost on its own, whatever their order (Loss says with which chances): writes, or some bytes of one, or of one past the end of the file only that
// the file is longer, as file systems do that allocate before they write; truncations; names. With Loss.Ordered names behave as on a journalling file system: of all changes of
// names a beginning is kept, which reaches at least to the last one that was fsynced.
//
// An fsync of a file that fails, and stored nothing, drops what it was to store, as kernels do: the bytes can still be read, but no later fsync of the file makes them
// durable; only writing them again and an fsync behind that do. Of a directory whose fsync fails the next one makes all names durable, since file systems keep
// names in journals that end with their first failure.
//
// # The serving process
//
// Start runs the test binary again with an environment variable at which Serve, called first in TestMain, serves the mount and does not return. The two
// speak net/rpc over standard input and output; the process ends when its input does, so nothing outlives a test that dies.
//
// # Limits
//
// No permissions, times, extended attributes, or symbolic links. Files are kept whole in memory. A file that is mapped and changed at the same
// time by another process than the one that mapped it is not supported.
package faultfs
