// Package fs shows a drive as a file system of Linux through FUSE, and the drive's and node's controls as files in .hypha.
//
// It knows FUSE (github.com/hanwen/go-fuse/v2, v2.12.1) and what a person may do by touching a file. It does not know feeds, keys, peers or where
// bytes are: it sees a drive through Drive and File, requests through Pending, and texts through Control, all declared in drive.go. It keeps
// nothing of its own but the open handles.
//
// # Nodes
//
// A node of go-fuse is an inode id of the drive and nothing else (node). Inode number and FUSE node number are the same, made of the id
// (inoOf), so a change that a peer made is told to the kernel with no table of what the kernel knows; go-fuse's generation holds
// the bits of the id that have no room, but 63 bits of chance alone keep two files of one drive apart. A control file's number is a hash of its
// path with the top bit set. The drive is told by Forget when the kernel gives a node up; an inode without names lives until then.
//
// # Caches and invalidation
//
// The kernel answers names, attributes, absent names and pages by itself for an hour, and symlinks for ever: there is no other writer than
// itself and the peers, and what peers change the drive tells to Server.Changed. For a changed file attributes and pages are dropped, and its
// name stays, since dropping the name would end inotify watches on it; a name is dropped only if it means another inode, and a removal
// is told as one. The kernel's replies are ordered against this by its own locks: an invalidation of a name waits for the lookups
// that go on in the directory, one of pages for the reads that hold them, and one of attributes makes it ignore answers asked for
// before, but only of inodes that it knows: of another one it is told a second later again. Lists of directories are kept as well; a change in one drops its
// list behind the name, whose invalidation waits for those who read the directory, so that no list read before is kept after. Below .hypha all timeouts are 0 and files are read past the page cache.
//
// Pages are dropped only while nobody waits for bytes of the file (pages.go). The kernel locks a page for whoever reads or writes it until we answer, which may take until a peer does. A drop waits for
// that lock, in our thread, and cannot be killed there: a node that was killed then would stay, and its device with it, so that the connection never broke and the answer never came. Of a
// changed file attributes are told at once, and pages go when the last request for its bytes was answered. Who opens the file before that, or after it changed while nobody had it open, gets it
// without FOPEN_KEEP_CACHE, upon which the kernel drops the pages in the program that opens. That would wait as long as the others do; so, while others wait, who opens for reading reads past the
// pages (FOPEN_DIRECT_IO, and CAP_DIRECT_IO_ALLOW_MMAP, so that mapping goes on to work), and only who opens for writing waits. Two things can still meet a drop: a READ that the
// kernel sent just before we asked, if it needs a peer, and a change of names in the directory whose name is dropped, which needs none. Nothing more is told until they end, and a node that is killed meanwhile
// leaves a mount that hangs; the next one clears it.
//
// What a peer changed makes no event of inotify(7), since the kernel makes those of system calls on this machine alone: a program that watches a folder sees a remote change
// when it looks. A watch stays, and tells of what is done here.
//
// What the kernel knows costs memory here as well. Listings bring inodes along (readdirplus) up to a number; beyond another the kernel is asked to give the oldest up,
// if it can be asked (known.go).
//
// The first OPEN of a small file for reading brings its bytes along (FUSE_NOTIFY_STORE, store.go), if they are here and nobody else has the file open: the READ is not
// asked. They are never older than what the kernel has: a handle that may write begins, and a size changes, only when they are there, and if a change was told meanwhile they are
// dropped again.
//
// Writes go through: the writeback cache (FUSE_WRITEBACK_CACHE) is off. With it a writer of many small blocks is seven times
// faster, but the kernel then takes size and mtime of a regular file it knows from nobody but itself (fuse_get_cache_mask in
// fs/fuse/inode.c), so that a file that a peer made longer would stay short here until the kernel happened to forget it: wrong
// data for as long as the machine has memory. We tell programs a block size of 64 KiB instead, which makes stdio and coreutils write in such
// units. For mapped files the kernel sends pages at msync, close and munmap, and asks for the times again afterwards.
//
// Large writes are bound by copies: into the kernel's pages, to us, into the backing file. Handles that can only write could do without the first (FOPEN_DIRECT_IO; they are neither
// read nor mapped): 512 MiB then took 0.26 s instead of 0.42, before 0.15 s of fsync. They do not. What was just written is often what is read next (unpacked, then built), and would
// have to come back from us. And the kernel drops its pages of the range before it sends such a write but not after (fuse_direct_io), so that a page which another program reads
// meanwhile would stay old, and one that it changes through a mapping would later be written over the new bytes. Passthrough, which only root may use, saves the copy to us as well, but
// we see neither which bytes changed nor when: the reserve of a full disk, the bytes of small files, which are in the journal, and what is to be published
// would be known at the release only, and an open in the other mode meanwhile fails (EIO). With direct handles MaxWrite of 1 MiB was slower than 512 KiB. Telling the disk to begin early
// (sync_file_range) moves time from the fsync into the writes and saved nothing.
//
// A FUSE server may ask for 128 KiB of the kernel's read-ahead at most, so that who reads in sequence waits for one or two small requests at a time. Root may lengthen it in
// sysfs (readahead.go): with 2 MiB the kernel keeps four requests of 512 KiB under way, each of which is one read below and is opened on two processors: 512 MiB out of
// the page cache below take 0.33 to 0.35 s instead of 0.7 to 1.1, and the node 370 ms of processor time instead of 510. A random read asks
// for no more than before; of a mapping the kernel reads all that around each of the first hundred faults, 2 MiB instead of 128 KiB. For everybody else the drive reads ahead of the small requests, and
// lends us what it opened until the kernel has it (handle.go, lent).
//
// Answers hold bytes that we have in memory, so go-fuse may not splice (DisableSplice): it would put the header of each READ into a pipe, find that there is no file
// to splice from, and empty the pipe again, three system calls for nothing.
//
// An appending write goes to the end that the drive knows, see handle.Write. A close sends no FLUSH (FOPEN_NOFLUSH): there is nothing it could
// find out that the writes did not.
//
// # What a request costs
//
// Warm metadata costs no request. What does is bounded by them: each is two switches between processes. A small file that is made costs five that somebody waits for: GETATTR
// of the directory, since whatever changes a name in it makes the kernel forget its mode (fuse_dir_changed) and permissions are the kernel's to check; LOOKUP; CREATE;
// GETXATTR of security.capability, since the first write to an inode asks for it (cap_inode_need_killpriv); WRITE. RELEASE is waited for by nobody. A file that is
// removed costs GETATTR, UNLINK and a FORGET; a cold stat is one LOOKUP, so it cannot reach a file system in the kernel, which asks nobody. A small file that is read costs LOOKUP,
// unless a listing brought it, OPEN, and a RELEASE that nobody waits for. To see them:
//
//	cd /sys/kernel/tracing && echo 1 > events/fuse/fuse_request_send/enable && cat trace_pipe
//
// # Permissions
//
// The kernel checks owner, mode, sticky bit and group (default_permissions); we store what was set and make new files belong to the caller,
// their group coming from a setgid directory. The kernel has applied the umask. CAP_HANDLE_KILLPRIV_V2 is on, so that it need not ask for
// security.capability before each write; in turn suid and sgid end here, at the writes, truncations and changes of owner it marks, and
// at each fallocate by another user than root. ACLs and file capabilities are refused (xattr.go). What other nodes made belongs to who mounts.
// While the node may not write, every change is EROFS before anything is touched (errno.go); locks are the kernel's and always work.
//
// # Conformance
//
// Of go-fuse's posixtest all tests pass but FcntlFlockLocksFile, which no Linux file system passes (posix_test.go). pjdfstest (85a8aea, 2026) is run by hand as
// root on a mount with allow_other and default_permissions; all of its tests pass that it runs on FUSE. It does not run, and we do not do: rename/22.t, that
// rename(2) changes the ctime of what it moves, which POSIX leaves open. A rename here changes names alone; a new record of the file with each would be
// in conflict with whatever another node writes into it at the same time. Tests of chflags, birth times, NFSv4 ACLs and posix_fallocate are for other systems than Linux. fsx
// and fsstress of xfstests run clean; what they ask that we have not (collapse and insert range, reflinks, exchange range) is EOPNOTSUPP, and they leave it out.
//
// # Options of -o
//
// ro rw suid nosuid dev nodev exec noexec sync dirsync noatime nodiratime relatime, as mount(8) has them (default: rw,nosuid,nodev);
// allow_other; show_control lists .hypha in the root; fsname=TEXT; SELinux contexts. Words that are for fstab only are passed over: defaults, auto,
// noauto, user, users, nouser, owner, group, nofail, _netdev, async, atime, x-*, comment=*. Others are ErrOption.
//
// # .hypha
//
// Found by name in the root, listed only with show_control, never handed to the drive. What a node in it does is a function of its path alone,
// asked for anew at each use; nothing can be made or removed in it (EPERM).
//
//	link status status.json nodes/<node>        texts of Control
//	pending/<node>/request.json words           the request
//	pending/<node>/approve deny                 intents, see intentNode for what counts as one
//	conflicts/<path>/<node>-<time>              a kept head, to read; <time> is 20060102T150405Z
//	conflicts/<path>/keep drop                  intents for the head beside them; with several heads <node>-<time>.keep and .drop
//
// An answer to an intent is what the system call returns that meant it: utimensat(2), or close(2) after the word was written.
//
// # Life of a mount, goroutines and locks
//
// Mount finds out whether something is mounted on the directory. A mount of ours whose process was killed answers statfs(2) with
// ENOTCONN (stat(2) may still be answered from the cache) and is removed; any other mount is left alone. If the process cannot end, since the kernel waits in it for a page that a request to it
// holds, statfs hangs, and is given ten seconds: from here that looks like a server that is slow or stopped, so it is ErrSilent, unless the caller knows that the server was killed (ClearDead). Then
// the mount is cut off, with MNT_FORCE or, by who may not unmount, through fusectl, upon which the process ends. A Server owns two goroutines, one that
// serves (go-fuse starts one more for each request that waits) and one that passes invalidations on; Wait, Unmount and Close wait for both.
// Close cuts a mount that stays busy through fusectl, see there for when it cannot. The kernel lets a mount go only with the last mount namespace that has it, and those of
// containers and services may have it for ever: Unmount and Close wait for that three seconds, and then cut it off for them (HeldError).
//
// No lock is held while the drive, Pending, Control or the kernel is called, but for stores.changing: only opens and changes of the size
// take it, in which the kernel holds no page of the file, and whoever gives pages to the kernel does not wait for it. The locks of invalidations, pages, Server and intentHandle are
// leaves, but for the last, which is held while its one action runs. Server.Changed only adds to a queue: the kernel holds locks of its own while it
// waits for our answer, and the goroutine that invalidates may wait for these.
//
// Requests that change something run to their end although the caller is interrupted: they are local. Reads, which may wait for a peer,
// end with EINTR, and so does what has to read first: a write, truncation or fallocate that changes a part of a block that is not here.
// What the kernel reads ahead for a program it goes on waiting for when the program is gone, at most the drive's read timeout; until then it keeps
// these pages locked, so a write to one of them waits. An error without a number of its own is EIO and is logged once, with the path.
//
// # Sources
//
// Linux 6.18 fs/fuse/{dir,file,inode,dev}.c and Documentation/filesystems/fuse.rst; go-fuse v2.12.1 fs/api.go, fs/bridge.go, fs/identitytable.go.
package fs
