// Package hyperdb is npm hyperdb 3.5.0: many logs, one for each writer, that together are one tree of keys. It knows entries, lists of
// writers, clocks and the trie; no file, person or peer, and of a feed only what Log says.
//
// # Entries
//
// Block 0 of a feed is a header, every other block an entry (entry.go): key, value, whether it is a delete, trie, clock, and where in the
// same feed the list of writers stands that all its numbers are relative to. Lists differ between writers; outside of an entry's bytes this package names
// entries by feed key and block only.
//
// # Writing
//
// A put follows the way of its key through the tries of the heads and keeps a pointer to whatever lies off it (put.go, trie.go). The result is byte-equal to
// what hyperdb writes, up to the order of several pointers under one value, so any hyperdb 3.5 reader can get and list what we write. Each entry of a batch has
// the one before as its only head, and all go into one append under one signature.
//
// Of each feed a put sees what is stored without a gap as of the last Update, and its clock says no more: hyperdb waits for a block that it needs, we do not wait, and what an entry covers by
// its clock has to be found through its trie.
//
// In one thing we differ: where more than 8 pointers stand under one value, of each feed only the newest counts: no other is written (walk.thin), and none is followed (walk.ahead). hyperdb
// keeps and follows all that any head has, and where two write at once each of their entries is a pointer longer than the one before: such entries are read whatever their length
// (entry.go has the bounds), but ours are short, and versions before, which refuse more than 1,024 under one value, read them. A newer entry of the same writer in the same part of the tree
// leads to all that the older one leads to, and hyperdb's own get passes over the older one once it has come by the newer.
//
// What a put costs is bounded whatever others wrote: links are kept as they are found, put in order once, and no more than maxWork of them are looked at for each head (put.go).
//
// # Reading
//
// A trie is checked where it stands in the block and decoded when a put first walks it: who only reads never does, and a block costs it the same however long the logs are. An entry's value and trie are
// parts of its block, its list of writers that of the entry before.
//
// Nothing is read through the trie, which hyperdb itself gets wrong after merges. Index folds logs and clocks: an entry is current unless another one of the
// same key has seen it. Clocks are claims; where two entries both say they have seen the other, one lies and neither supersedes. drive goes
// further and decides by the records' own replaces lists.
//
// # Writers
//
// The source may write, and everybody whom a writer's list names. Update reads the newest good entry of each feed, which names the list in force: O(writers), not
// O(entries). Entry takes up lists of older entries as the fold passes them, and Config.Known brings back what earlier runs learned, so the
// set is the union of all lists, in whatever order blocks arrive.
//
// # Bad entries
//
// An entry that does not decode, that names no good list, whose clock is longer than its list, or whose trie points outside of list, path or its own past is
// treated as absent (ErrBadEntry): the writer's entry before it is its head, and a put steps over pointers to it.
//
// # Concurrency
//
// Three locks, in this order: writing (one Batch), updating (one Update), mu (state). Feeds are opened and appended to, and
// callbacks made, without mu. No goroutine is started.
//
// Sources: npm hyperdb 3.5.0 (index.js, lib/*.js), run to make the vectors in testdata with the scripts beside them.
package hyperdb
