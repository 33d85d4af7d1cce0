// Compare measures hyphafs beside the file systems people would use instead: ext4 (the folder below, without FUSE), go-fuse's loopback example
// with passthrough (root only) and without, gocryptfs, and JuiceFS if a binary is given. integration/compare.sh builds what it needs and runs it:
//
//	integration/compare.sh                              everything, as root and as an ordinary user
//	AS=root integration/compare.sh -run 'random 4-KiB read, cold' -systems hyphafs,loopback -rounds 3 -size 256
//	JUICEFS=/usr/local/bin/juicefs TMPDIR=/mnt/disk integration/compare.sh -many 1000000 -entries 1000000 -run 'mount with|rename'
//
// # What is measured
//
// Each round runs every system in turn, beginning with another one each time; before each timed step everything written so far is flushed to the
// disk (sync). The table has the median of the rounds and, in brackets, how many times as fast hyphafs is: the median of the rounds'
// ratios, since what disturbs a round disturbs both. Every figure goes to standard error as it is taken. The targets are those of the issue "A
// file system that people and programs can trust"; a row is short if that ratio is below the target.
//
// The work is done by this process and the programs it runs, the servers are others. Files are opened by bare system calls: package os would
// ask FUSE to poll each of them. Everything lies below one folder, so on one disk. Contents cannot be compressed, but for the small files, which are text.
//
// Cold means: hyphafs has published everything, so that reads come out of its feeds; the mount is taken away; sync; drop_caches, also for the
// ordinary user, whose run is helped by the root process that started it; mounted again. Without root the pages of what lies below are dropped by
// fadvise instead, and the header says so. Warm means that the same was done once just before. Mounting is not in the figures.
//
// hyphafs publishes in the background, and lets that wait while much changes; the last column tells how long `hyphafs sync` took right behind the step. Random writes go to a file that is
// published and read once before; the figure holds no final fsync. The p99 is that of single pwrite calls.
//
// Behind the table come the rows that only hyphafs has.
//
// # What is out of reach, and what bounds it
//
// A cold stat is one FUSE request for each file, of about 40 us on two processors, of which the node works for less than 20: loopback and gocryptfs, which do no more than ask the disk
// below, make 13,000 to 20,000 a second here, hyphafs 16,000, and ext4, which asks nobody, 97,000. That holds for all rows in which each file
// takes a request: cold stat, reading and grep, unlink and rm -rf. A listing brings attributes with it, the first open of a small file its bytes. The requests of a step, and
// what the node does in them:
//
//	cat /sys/kernel/tracing/trace_pipe      with events/fuse/fuse_request_send/enable 1
//	perf record -g -p $(pidof hyphafs)
//	perf record -e cpu-clock:u -g -p $(pidof hyphafs)      its own code alone
//
// What that says of some rows:
//
//   - Cold lists: of 0.136 s for 10,000 names in 100 folders READDIRPLUS took 0.123, which is 12 us a name, and the disk has no part in it: with the view's pages in memory and only the
//     kernel's names dropped (drop_caches 2) it is the same 0.12 s. Half of the node's share is reading and opening what is known of each inode, a quarter the names; without it a
//     list would be faster, and the stat behind it a request for each. A loopback and gocryptfs take 22 to 24 us a name in all, ext4 3.4. That files made together stand together in the
//     view (package drive, Ids) changed that little, and what walks or removes very many of them much: a find over 120,000 files took 1.9 s and takes 1.1.
//   - rsync: a file takes 14 requests that it waits for, three each of LOOKUP, GETATTR and SETATTR, and CREATE, GETXATTR, OPEN, WRITE and RENAME; and two RELEASEs. A loopback with
//     passthrough has four LOOKUPs, two GETATTRs, no WRITE and two FLUSHes. Of 1.43 s for 2,000 files, traced, all requests took 0.80 s and what lies between them 0.61; of the loopback's
//     1.51 s 0.99 and 0.63. So the requests that are waited for take 350 us a file here; ext4 takes 150 for everything.
//   - New files: five requests that the program waits for (fs/doc.go), of which go-fuse's loopback has the same and a FLUSH. Nothing is published before 10 s of a burst have
//     passed. Of the node's own code CREATE takes 28 in 100 (the drive's part of it 18), WRITE 13, LOOKUP 5, and all writes of the journal together 6. The rest is go-fuse's
//     reading, writing and tables, and Go's threads and collector; an eighth was the runtime looking for free processors, until it was given two more (leaveProcessorsOver in
//     cmd/hyphafs/internal/node).
//   - Unlink and rm -rf: a removed file is two requests here and one on gocryptfs. Whatever changes a name in a directory makes the kernel forget the directory's mode, and as it checks
//     permissions for us it asks for that again before the next change (GETATTR). Of 1.47 s for 10,000 files UNLINK took 0.55 s, GETATTR 0.19, READDIRPLUS 0.18, and what lies between
//     requests (rm, the kernel, waking) 0.54. Of gocryptfs's 2.0 s UNLINK took 1.40, which is mostly ext4's, READDIRPLUS 0.19, and what lies between 0.38 (fuse_request_send and
//     fuse_request_end, one run each). Without default_permissions the second request would not be there. Then the node would have to check, and could not where the kernel has the
//     name already: a directory that lost its x would stay open to who has been in it. Of the node's code for UNLINK two thirds read the view, a fifth is the journal. A collector that runs a
//     third as often (GOGC=300) changed nothing that could be told from noise, and the node then takes 107 MiB instead of 68. All
//     this was seen when each file had a page of the view to itself; since files made together stand together, unlink is 1.66 times gocryptfs and 0.71 ext4 (1.45 and 0.64 before), rm -rf 1.28
//     and 0.63 (1.02 and 0.49).
//
// # How
//
//	main.go    flags; user.go  the run as an ordinary user, in a mount namespace in which /dev/fuse is everybody's
//	system.go  the file systems: made, mounted, cooled, unmounted
//	bench.go   groups of steps, run in rounds; work.go  the steps; alone.go  what only hyphafs has
//	table.go   medians, ratios, targets
//
// # What limits the data rows
//
// Where the time goes was seen with perf record -g -p PID of the node, or -a, while one row ran (-run), and with strace -c -f -p PID. Two processors, Linux 6.18.
//
//   - Sequential and mapped reads, warm: no request reaches the node. A quarter of the reader's time is filemap_get_read_batch, which does not show on ext4: the kernel
//     keeps the pages of a FUSE file one by one, and those of ext4 in large folios. 7 to 9 GiB/s against 17 to 18, mapped 5 against 14 to 18.
//   - Sequential write: copies. 512 MiB in 0.40 to 0.45 s and 0.13 to 0.17 s of fsync, on ext4 0.11 to 0.29 s and the same; the node's own code is 0.03 s of that. fs/doc.go
//     says what passthrough and direct writes would save, and at what price.
//   - Sequential read, cold: processor time. The kernel sends a FUSE server that cannot write to sysfs requests of 128 KiB, one or two at a time; the drive opens blocks ahead of them (drive/ahead.go). As
//     root the kernel reads 2 MiB ahead by itself (fs/readahead.go), and the drive's reading ahead changes nothing. 512 MiB then cost the node 0.45 to 0.60 s of processor time, of which ChaCha20-Poly1305
//     is 0.21 s, copying out of the disk's pages 0.05, into those of the mount 0.08, and the reader 0.2: with two processors that is 0.30 to 0.41 s (before, 0.44 to 0.54), when both are free. A loopback takes 0.25 + 0.2
//     of processor time and 0.23 to 0.30 s, gocryptfs 0.35 to 0.51 s. What cannot be saved, 0.54 s of two processors,
//     lets nobody who encrypts so be more than 1.3 to 1.9 times as fast as gocryptfs. With the disk's pages dropped as well, all three wait for the
//     disk: loopback 0.45 to 0.61 s, hyphafs 0.42 to 0.54, gocryptfs 0.66 to 0.97. Where other programs keep both processors busy nothing is gained: then the sum counts.
//   - Random 4-KiB read, cold: to open 4 KiB all 64 KiB of its block are read and verified, about half as many in a second as a loopback that reads 4. The disk is most of it:
//     pread(2) of such a block at random places of the data file takes 150 to 230 us, of 4 KiB 60 to 90, with O_DIRECT 120 to 135 and 60 to 75. POSIX_FADV_RANDOM, which keeps the
//     kernel from reading more than the block (60 KiB each instead of 70 to 80), gained nothing: 153 to 220 us for 157 to 194, in turn. Opening the block is a tenth of the
//     node's processor time.
//   - Random 4-KiB write: a round trip to the node of 23 to 28 us, of gocryptfs 38 to 44 and of a loopback with passthrough 17 to 35 (medians of single calls in turn; the machine was
//     busy, which makes the means of all three meaningless). fdatasync behind 32 of them is one write of 128 KiB to the journal and one sync, which is nearly all of it. That the
//     journal grows by 1 MiB at once for large frames, 9 times instead of 18 for 64 of them, changed nothing (1.9 and 2.1 ms, 12 rounds in turn); that it takes no list of the file's extents
//     any more, 65 KiB each time, made 13,700 a second of 11,800.
//     The p99 of the writes is 0.15 to 0.19 ms, of JuiceFS 1.3 ms (0.5 to 2.7 in single rounds), so 5 to 9 times; a tenth of it would be less than the 0.23 ms of a loopback, which does nothing
//     but pass them on, and what a write takes with passthrough (0.12), which asks no server. The bound is the round trip on a busy machine: of 8,192 writes, timed one by one, the median took 40 us and the
//     p99 0.12 to 0.15 ms, those right behind an fdatasync 75 to 85 us and 0.12 to 0.15 for one in ten; two thirds of the slowest 1 in 100 stood elsewhere, where the p99 is the same.
//     Without the fdatasync the p99 is 0.16 ms, of JuiceFS 26.
//   - Publishing behind 8,192 such writes: 512 MiB are read, opened, sealed, hashed and appended anew, 1.9 s of one processor (BLAKE2b a fifth, AEAD a seventh), and four syncs for
//     each 4 MiB. On a busy machine the syncs are more of it than that.
//   - Append 4 KiB + fsync: of the node's time for it three quarters are fdatasync, a tenth is our code. Medians 22 to 57 us for the write and 108 to 180 for the fsync, of
//     gocryptfs 60 to 73 and 219 to 270.
//
// The loopback without passthrough is the same program without CAP_SYS_ADMIN, on a mount that is made for it. JuiceFS keeps its metadata in
// SQLite and its objects in a folder. A binary was built from its sources at v1.2.5 with go build and the tags of its Makefile's juicefs.lite, without nosqlite; later releases need modules
// that not every proxy has.
package main
