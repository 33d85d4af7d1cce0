// Package drive is one node's Hypha: what its feeds say, and what this node changed and has not published yet. It assembles hypercore feeds, the
// hyperdb over them and the view, and gives a file system's calls. It knows no FUSE, socket, command line or browser, and builds for
// GOOS=js GOARCH=wasm; disk space comes in through Config.
//
// # Parts
//
//	kernel -> names.go rename.go inode.go            the calls: overlay over view
//	          file.go content.go small.go patch.go whole.go ahead.go
//	          overlay.go frame.go compact.go         the overlay, its journal, and when that begins anew
//	          replay.go                              the way back after a crash
//	          sync.go durable.go lost.go             what is durable, and what cannot be
//	          publish.go contentpub.go pages.go      overlay -> blocks and records in this node's feeds
//	          pace.go                                when that is done
//	          fold.go feedset.go                     feeds -> view; which feeds there are
//	          conflicts.go status.go alarm.go        what a person is told, and asked
//
// The feeds are the truth, the view (package view) a pure fold of them, the overlay this node's alone. A call looks into the overlay first and then into
// the view. It never waits for a signature, the trie or a peer; only reading a block that is not here does (Config.ReadTimeout, then ErrUnavailable),
// and so changing a part of one.
//
// # Ids
//
// DESIGN 3 has the id of an inode random. The first that a node makes after its start is; of the next ones the first eight bytes, a number, are each one more than of the last
// (newID). The view is ordered by id: with random ones each file that is made, listed or removed has a page of it to itself, and what a thousand files change is a thousand pages. So
// what is made together stands together. Ids stay unique, as inode numbers do, which are these eight bytes: that two of a million starts, of a thousand files
// each, come upon the same ones is less likely than that two of a billion random ones are the same. A relay learns in which order a node made the inodes of one batch, where
// else it knows only that of the batches, and how many came between them that were never published.
//
// # Overlay and journal
//
// The overlay holds inodes (changed, open, or nameless but known to the kernel) and entries (names made or removed here). Each keeps the versions it is based on:
// what the person had in front of them when the change began. They become the record's replaces, so a change of a peer that arrives
// meanwhile is not superseded: the two are merged (package view), and what both changed stays as a kept head or a conflict copy. Where directories are shown as one, what an entry
// hides is hidden in all of them; what it names is seen in its own alone until it is published.
//
// Every change is one frame of a sealed journal (package journal, items in frame.go), written with one write before anything is seen: a rename is all
// or nothing, and the end of the process loses nothing.
//
// Bytes of a file of one block (64 KiB) at most are in memory and in the journal (small.go), since making, syncing and removing a file on the disk would
// take longer than all else. A larger file's lie in plain in one sparse file an inode, in blocks of 64 KiB. Whole pages of 4 KiB that are written to a block which is
// only in a feed stand there alone until the block is published (patch.go); any other write to part of such a block brings that block first. fsync puts up to
// 256 KiB of what was written since the last one into the journal, with where that is, and syncs that alone; the first of them says all that the file is, which is long when it has many
// extents. More of it, or another change of the file's length, syncs the file and then the journal (sync.go). Callers share the journal's fsync.
//
// After a crash the journal says what the overlay was. If the operating system ran on (same boot id), every frame and byte is there. After a power loss what the journal
// has of a small file counts, in order; of a larger one only what was fsynced, and the rest comes from what was published, so zeros never take the place
// of good bytes.
//
// A program that saves by renaming a new file over the old one, without fsync, gets the old content or the new one after a power loss: the frame of such a rename
// names the file (itemNeeds) and counts, with all behind it, only if a later item says that its bytes, as they were then, are durable. Whoever syncs the journal sees to that first
// (syncJournal), so what was acknowledged is never held back by it. The rename itself waits for a disk only while somebody else's fsync sees to the last of these
// (syncPromised): no such rename may stand between theirs and the item that says that their bytes are durable. In turn the bytes of a file that lost its last name are freed only when that is durable.
//
// What a peer changes in a file that is open or changed here is shown when the overlay lets go of it: after the last close, and when ours is published. All who open it
// until then see the same version, since one inode has one page cache. The kernel is told then (forget), whichever version won.
//
// A journal that the disk failed takes no more; the next publish, of which Run does four a second, begins another one with what is in memory (renew). When an fsync of a
// larger file fails, the kernel drops what it was to store, and a later fsync would succeed all the same: such a file can neither be fsynced nor published until it is
// cut to nothing, removed or replaced, or the node starts again (lost.go).
//
// A peer's change may contradict a move that is not published yet: the same directory moved elsewhere, or a cycle. Only records can be settled by the
// merge rules, so such a move is published at once, before the kernel is told of the peer's change (hasten).
//
// # Reading ahead
//
// The kernel of an ordinary user asks for 128 KiB at a time and has one or two such requests under way: each would wait until its blocks are read and opened, by processors that had nothing to
// do before. So a read that goes on where the last one of its handle ended has what is behind it opened (ahead.go), in chunks of four blocks by a goroutine each, no further than the sequence has
// come, 2 MiB at most, and 16 MiB for all handles together. Whoever reads that waits for the chunk at most, and is lent its memory (File.Read). A chunk is known by its
// place in a feed, where nothing ever changes, and a read looks for the place where the block stands now: what was opened may be in vain, never old. Chunks are let go when they were read, when
// the handle reads elsewhere or is closed, at the next read when the inode changed, and when nothing is read for one to two seconds. They go past the cache of blocks, like all that is read in bulk: the kernel keeps it.
//
// A block that is not here is left to the read. Before that waits for the first, peers are asked for all that the read is about, and for the 32 blocks behind it if it is a sequential one.
//
// A read of more than a chunk is opened on two processors as it is, and whoever asks for so much has several under way (root's mount, fs/readahead.go): there reading ahead gained nothing.
//
// # Publishing
//
// Run publishes what was quiet for a second, or was first changed ten seconds ago; Publish and Close at once. While a program changes much (pace.go) it has the
// processor to itself: what is quiet waits until that ends, or is overdue. Who changes names faster than they are published, for long, is slowed down. The bytes go into the content feed first, in
// appends of 4 MiB, each file as it was at an instant, what changed first first; then a batch of records, some thousands at most, that is consistent: an entry goes with its inode and with the directory it is in, a
// move with both its ends, the removal of an inode's last name with its deletion. Before the batch the journal notes the intent, so that a crash behind it publishes nothing twice. Then the own feed is folded and the overlay lets go of
// what did not change meanwhile; what did is based on what was published, and all of it is if the view could not take the batch. What was made and removed in between leaves no record. A deletion of an inode keeps the
// whole record, so that a concurrent move loses nothing.
//
// Stamps are a hybrid logical clock (clock.go): that of a record is greater than all that was folded before, also over restarts, since the view keeps the greatest of each feed. A
// peer's clock is followed however wrong it is, and the status says whose is a day or more ahead.
//
// The extents of a file in very many pieces go ahead of the batch, in pages of their own (pages.go), of which a change writes those that it touches: they need no place in
// the batch, since nobody looks at them but through the file's record.
//
// Scratch names (DefaultScratch) are never published, nor is anything in a directory that has one; moving what other nodes know there is ErrCrossDevice, upon which programs
// copy and delete.
//
// # Power loss and the view
//
// The view is written behind (view.Buffered): a fold is seen at once and flushed once a second, or when many rows wait. A crash loses the tail of the view, which is folded again.
//
// # Goroutines and locks
//
// The caller runs Run. A large read has its second half opened beside the first. The goroutines that read ahead belong to the handle, and whoever closes it, or the drive, waits for them; they wait for the disk alone.
// No other outlives a call. Locks, in this order; none is held over a callback:
//
//	publishing   one Publish or Authorize; held over appends
//	folding      one fold
//	promising    one sync of files renamed over others; held over fsyncs
//	owing        the last part of that; or, for reading, such renames
//	mu           the namespace; held over reads of the view and writes of the journal, not over fsyncs (a new journal excepted) or peers
//	inode.mu     one inode's record and bytes; held over I/O on its file, and until the journal has a state of them that was put into a frame. Only who holds
//	             mu for writing takes several
//	ahead.mu     what was opened ahead; nothing is called with it held
//
// inode.syncing, one fsync of an inode, is taken before mu and held over fsyncs. Meanwhile the inode may be published or removed, and its file closed, whose error then
// says nothing of the disk. Neither sealing a batch nor folding one holds mu: a fold's
// result is shown, and the overlay fitted to it, at one instant (view.FoldShown).
//
// The journal is replaced with mu and every inode's mu held, so whoever holds either may write to it.
//
// # Failures
//
// Errors are the sentinels of errors.go, wrapped; what is unknown is an I/O error. A full disk is ErrNoSpace at the call that wrote. What is
// taken can always be published, since a change is refused when the disk has no room for it and for what publishing all changes will need, and a little to spare
// (room.go); a call that finds none publishes first, the one case in which it waits for that. Deleting goes on. What was taken and cannot be published stays in the overlay until it can. A publish that fails leaves
// everything in the overlay. A fork of any feed stops writing for good (Alarm): the feeds keep the evidence.
//
// # A store that was restored
//
// Two blocks at one place of a feed are a fork, and a store restored from a backup is about to make one. Whoever opens it says if that may be so (Config.Doubt): nothing is
// written then, and nobody gets this node's own feeds from here, until a peer said what it has of them (End), which has to be no less than what is here, and all
// of that was taken over: the records, and of the content feed the length that they and the peer speak of (doubt.go). A peer that has more of this node's own feed
// without any doubt is believed for some seconds at most, in which nothing is published, and its blocks are taken over before anything is appended.
package drive
