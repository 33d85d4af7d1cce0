// Package hypercore is one signed append-only log, byte-compatible with npm hypercore 6.26.0: blocks, a Merkle tree over them, and
// Ed25519 signatures of the tree's roots. It knows bytes, hashes and files; no path, person, peer or database.
//
// # Data
//
// Blocks are the leaves of a flat tree (flat.go). A leaf hashes size and data, a parent the sizes and hashes of its children, and a
// signature covers the hashes, indexes and sizes of the full roots of a length (hash.go). A writer signs once per Append, so the lengths
// inside a batch have no signature.
//
// # Files
//
// A feed is six files in a Storage:
//
//	data        the blocks, one after the other; block b begins at the sum of the sizes of the full roots of b
//	tree        32-byte header, then hash and size (40 bytes) of node i at 32+40i
//	signatures  32-byte header, then the signature of length L at 32+64(L-1); zeros where nothing was signed
//	bitfield    32-byte header, then entries of 3,072 bytes: which of 8,192 blocks are stored, which of 16,384 nodes are known
//	head        two checksummed slots, written in turn: generation, length, bytes, tree hash, signature
//	fork        empty, or the evidence of a fork: our head and the other one, as slots
//
// The first three are the 2019 layout to the byte. The head slot is the commit point. DESIGN suggested bbolt for the lengths: a flat file costs one
// fsync where bbolt costs two and a page of copy-on-write, has no memory map that dies of SIGBUS when the disk fails, and
// builds for the browser.
//
// # Durability
//
// Append writes data and nodes, syncs them, signs, writes the signature and the bits, syncs those, writes the head slot, syncs it, and only then shows the new
// length. So a crash at any instant leaves the old length or the new one; what lies beyond the committed head is not visible
// and is overwritten by the next append; and no signature was shown for bytes that are not on disk. After a failed write a feed takes
// no more until it is opened again, because only the disk knows which side of the commit point the failure was on. Nor does one whose downloads could not be
// synced: what a failed sync was to store is dropped, and a later one would not tell.
//
// Clear takes the bits from the disk before the bytes.
//
// Open makes the names of the files, and of their folder, durable before anything is written to them.
//
// Put does not sync: Sync makes downloads durable in the same order. A bit never reaches the disk before what it speaks of, and a node counts only
// if its bit is set, so a node torn by a power loss is fetched again and never mistaken for a fork.
//
// # Trust
//
// Put believes the tree alone. Beyond hypercore 6.26 it refuses a node that contradicts a verified one: if the contradiction is signed, both heads are kept
// as a ForkError and the feed takes no more appends. A longer history may be taken up before the block comes that shows it to be another one: that block then finds
// the shortest signed length that vouches for what it contradicts. From a hash-only answer it stores no node whose size the hashes do not bind. Everything is bounded
// before use: blocks 8 MiB, 2^32 blocks, 2^43 bytes, 128 nodes a proof.
//
// # Concurrency
//
// Two locks, taken in this order: writing (one Append, Sync, Clear or Close at a time; held over fsyncs) and mu (state; held for
// one read or write of the page cache, never over an fsync). waits has a lock of its own under which nothing else is
// taken. No goroutine is started.
//
// Sources: npm hypercore 6.26.0 (index.js, lib/storage.js, lib/tree-index.js), hypercore-crypto 1.0.0, flat-tree 1.13.0, run to
// make the vectors in testdata with the scripts beside them.
package hypercore
