// Package state keeps the directory a node lives in.
//
// # Layout
//
//	lock          flock(2)ed exclusively while a process uses the node; holds its pid and a newline
//	config.json   Config: domain, role, name and what else the first mount said; no secret. Its presence is the commit
//	              point: without it there is no node here
//	node.key      the node's own secrets, sealed under a key made from the passphrase; opaque to this package
//	stamp         where the directory is and when it was last used, see below
//	refusals      requests for approval that were refused, sealed likewise
//	domain.json   Pin: that the domain's host named this Hypha by Dat DNS, and whether it names another one now
//	feeds/<hex>/  one folder a feed, named by its discovery key
//	view.db       the folded view, made again from the feeds if it is removed
//	work/         what was changed and not yet published
//	scratch-names patterns of names that stay on this node, one a line (path.Match; "# " begins a comment); made by a
//	              person who wants others than drive.DefaultScratch
//	control.sock  the running node's control socket
//	log, log.old  what a node in the background logs
//
// # Stamp
//
// A directory that was copied or restored from a backup may be an older copy of itself: whoever appends to its feeds then may sign other blocks for places that are taken
// (a fork). The stamp tells such a directory: it names the machine (a hash of /etc/machine-id), the directory and the stamp's own file (inode number and time of birth; numbers of
// devices change between boots), and counts the clean stops. It is written as a new file at every start and clean stop, and carried only by a copy. A directory without one, of a
// version before it, is believed. What a file system or a virtual machine that is rolled back as a whole holds looks like itself: of that only a peer can tell.
//
// # Format
//
// The version in config.json speaks for the whole directory: feeds, workspace and keys too. Who changes one of them so that a program of before would misread it counts
// it up, and takes directories of before up or over; a program refuses a directory of a later version and touches nothing in it. The view has a version of its own, since it can be
// dropped. integration/testdata/stores keeps one of every format, which has to open for ever.
//
// The directory has mode 0700, files 0600. Small files are written aside, fsynced, renamed and made durable by fsync of the directory, so
// after a crash each is either the old one or the new one.
//
// The lock is the kernel's: it ends with the process, so a crash leaves nothing to clean.
package state
