// Package view is the fold of the feeds: tables that say what the Hypha holds, and the merge rules. It knows records and an ordered
// key-value store; no feed, no peer, no file system. It builds for the browser.
//
// # Invariant
//
// The view is a pure function of the set of records folded, whatever their order: drop it, fold again, and Digest is the same.
//
// # Heads
//
// For each database key the view keeps its heads: the versions that no other version of the key replaces. `replaces` decides, not
// hyperdb's clock. Of two versions that replace each other neither claim counts, since one is false. A version that is replaced before
// it arrives is remembered with who said so (rows.go).
//
// # Merge rules (DESIGN 4)
//
//  1. Several live heads of an inode are shown as one: each part of it as the only one says that changed it (see below). What several changed apart from each other
//     is as the head says whose content was changed last, or which has the greatest stamp if that is not it. A head that has something else is kept (Conflicts).
//  2. Several live inodes at one name: the greatest stamp keeps the name, the others appear as "name (conflict, <node> <date>).ext". Directories
//     among them are shown as one; the greatest stamp stands for all (members).
//  3. A directory has one place: of its live entries the greatest. The others are hidden, and count again when it goes. An inode that any
//     version ever called a directory is one. Files may have many names.
//  4. In a cycle of directories the one with the greatest entry falls to where that was moved from; if nobody names that directory any more, or
//     if it is in a cycle there, too, to the root. It is at its entry again when the cycle is gone.
//  5. A deletion replaces what its writer saw. A live head that is left makes the entry live. An inode that has a head with something no deletion saw, times aside, or
//     a directory in which something is shown, but that no live entry names, is shown again where the greatest version that ever named it stood.
//
// Rules 3 and 4 give every directory a place, a deleted one that of the greatest version that ever named it, so that all together are a forest before rule
// 5 asks what is shown in them. Rule 2 only joins what is shown: directories that are shown as one are equally far from the root, so it makes no cycle.
//
// What rules 4 and 5 show where no live entry says so is a guest there. An entry keeps its name against a guest; a guest is never merged. What
// a person does to one goes to the key of its own entry (EntryState.Dir, Stored).
//
// A name may arrive before the record of what it names, if several nodes had a part in that: each feed comes over by itself. Everything counts such an entry, but a listing tells that its inode
// is awaited (EntryState.Awaited), and its owner shows it when it is there.
//
// An entry names its inode whether or not the inode's record is a deletion: deletions of inodes keep the whole record, so nothing is lost if
// the entry was moved meanwhile.
//
// # How heads are merged
//
// Records are whole inodes and do not say what their writer changed; that is found by comparing them with what they replaced, back to the version that all heads come from
// (lineage.go). So a link or a chmod, which change no content, never stand against a write, whichever is later, and this holds for records of all ages. The older versions are
// in the feeds, which the view does not know: its owner reads them (Past). Readers do this, and rule 5 where there was a deletion, but rarely, since the next change of the inode
// replaces all heads of which everything is shown.
//
// The parts (merge.go): the content (size, bytes, target), the mode, its suid and sgid bits, the owner, mtime, atime, each extended attribute. Of times the latest that
// was set counts, of ctimes the latest; no version is kept for a time. Nothing is kept of directories, of which nobody is asked.
//
// What was found stays in memory. Who lacks a version yet, or meets more than maxLineage of them, takes those before which nothing is known for changes of everything: then there
// is more to keep or drop than there would be, never less.
//
// # How a fold settles
//
// Fold takes in its records, then looks at what they touched, and at nothing else (settle.go). Directories whose entries changed, and those that fell out of a
// cycle, are put at their entries; every cycle of now goes through one of them, so following their parents finds it. Then rule 5 goes up from what
// is shown or not shown any more, as long as that decides about the directory above. What comes of it are rows: the key's row says whom it hides and who is a
// guest, so that a reader looks at one row a name. To move a directory is two keys, whatever is in it.
//
// What it tells (tell.go) is how every name of the keys it edited differs: what the rows still say was before, what is about to be flushed is now.
// Where directories are merged a name means the same in all of them; when they begin or cease to be one, every name in them is told.
//
// # Rows
//
// One letter, then parts of fixed size (rows.go lists them). Keys are ids and tokens; values are sealed under a key of this node, bound to their
// row, since names are secrets. What is known of one inode stands together and is read in one go (about). Looking up a name is two gets and that; merged directories, which are rare, cost a walk to the root. Keys that
// show nothing stand under a letter of their own, so that a listing costs what it shows. They stay: a version made before a removal may arrive years after it. Each file that was ever made
// and removed costs about 1,200 bytes of the KV (1.1 million of them 1.3 GiB of bbolt, 0.7 of which are rows). A view of another format is refused by Open: its owner drops
// it and folds again.
//
// The greatest stamp of each feed is a row, too (clock.go): who writes next has to make a greater one.
//
// # Concurrency
//
// A read runs in one KV.View, a Fold in one KV.Update; they may run together. No goroutine, no lock of its own but those of the two caches of merges. Past is called
// within either.
package view
