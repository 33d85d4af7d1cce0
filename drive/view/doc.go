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
//  1. Several live heads of an inode: the greatest stamp is shown, the others are kept (Conflicts).
//  2. Several live inodes at one name: the greatest stamp keeps the name, the others appear as "name (conflict, <node> <date>).ext". Directories
//     among them are shown as one; the greatest stamp stands for all (members).
//  5. A deletion replaces what its writer saw. A live head that is left makes the entry live. An inode that has a head no deletion replaced, or
//     a directory in which something is shown, but that no live entry names, is shown again where the greatest version that ever named it stood.
//
// An entry names its inode whether or not the inode's record is a deletion: deletions of inodes keep the whole record, so nothing is lost if
// the entry was moved meanwhile.
//
// # Rows
//
// One letter, then parts of fixed size (rows.go lists them). Keys are ids and tokens; values are sealed under a key of this node, bound to their
// row, since names are secrets. Looking up a name or an inode is one to three gets; merged directories, which are rare, cost a walk to the root.
//
// # Concurrency
//
// A read runs in one KV.View, a Fold in one KV.Update; they may run together. No goroutine, no lock of its own.
package view
