// Package archive keeps feeds in a bucket of an object store, with a folder as a cache: so an always-on node holds more Hyphas than its disk, and several of them serve one
// name. It knows feeds, and a bucket by what Bucket says; no socket, no server, no database. Package s3 is a bucket.
//
// # Why it sits above the feed
//
// A bucket could stand in for the six files of a hypercore.Storage. It does not, for three reasons. Files are written in place, objects are not. Two
// instances that store different blocks of one feed change the same pages of the same files, and merging those means to know what they mean. And a
// Storage is trusted, while who runs the object store need not be. A bucket is a better peer than a disk: it holds blocks with what vouches for them, it is
// asked for them, and every answer is verified. So the cache is an ordinary hypercore feed in a folder, safe against power loss as any, which gets blocks from peers and
// from packs in the same way, through Put. Feed puts the two together and is to replication, and to hyperdb, what a hypercore.Feed is.
//
// # Objects
//
// Under <discovery key of the feed, hex>/ there are
//
//	packs/<generation>-<random>  up to 4 MiB of blocks (one larger block alone), each with the proof that a peer would be sent that got those before
//	                             it and nothing else: a pack can be verified by itself. Never changed.
//	manifest                     which packs there are and which blocks each has, the greatest signed length with its roots, a generation that each
//	                             version counts up, and the evidence of a fork. Replaced only by the version that follows (If-Match, If-None-Match).
//
// codec.go, pack.go and manifest.go give the bytes. Nothing has the key of a feed in its name; a list of writers, which hyperdb keeps in the clear, has keys in it: who
// can read the bucket can get what a thief of the node's disk gets, ciphertext and the read key.
//
// # Writing
//
// Put verifies a block and writes it to the cache. A second later, or with 4 MiB, Run puts what is new into packs and then the manifest that lists them: two
// requests a second for a feed that grows by little, and one for 4 MiB more. Then, and not before, Kept says that a block is in the bucket and OnKept tells. A
// peer that has a block itself is told that this node has it only then (replication, Keeper), for it may rely on that; a peer that lacks the block is told at once, so
// that what passes through does not wait for the bucket. What is lost with an instance's disk before that is asked for again from those who have it.
//
// Whoever finds the manifest changed reads it, and puts the same change on top: packs are added to theirs, none is ever taken from a version that is not the
// one looked at. Before that the two histories are compared: the roots of the shorter length, and the first block behind it, whose proof all of it takes part
// in. If the writer signed two, the evidence goes into the manifest and nothing else of the second history ever does (hypercore.ForkError, OnFork).
//
// Before the first of all that the bucket is tried out: one that does not heed conditions gets nothing (Bucket.Check).
//
// A try whose answer was lost is safe to repeat. A pack's name is random: if it is there, we wrote it. No two manifests are alike, since the generation
// grows: if the one that was replaced is not there any more, a late try cannot come true, and the new one shows whether it did.
//
// # Merging and garbage
//
// Eight packs of about one size become one, so a feed has few packs for each factor of 8 and one for 2 to 4 MiB, and a manifest about 20 bytes for each. Packs whose
// blocks others have are left out. Merged packs are deleted once they are not listed; a reader who still looks for one looks at the manifest again. What killed instances
// left is found by listing, now and then. It is safe to delete without any clock: a pack is named with the generation that its maker knew, a merge raises the
// floor of the manifest, and nobody lists a pack from below the floor any more.
//
// # Reading
//
// What the cache lacks is read from the bucket, a pack at a time, by one reader for all who want it, at most four packs at once. The first look at a feed is one request. An open feed
// looks at its manifest every 2 to 15 s, less often the longer nothing changes; so another instance's blocks show. A pack that is missing or damaged counts as not there: peers are
// asked for its blocks, and they are kept again.
//
// The cache stays below Config.CacheBytes: feeds that nobody has open go first, then packs that were read longest ago. What the bucket does not have is not
// evicted; if that alone is too much, nothing more is asked for. A cache that was lost or damaged is read again from the bucket. One that is left from an earlier run is looked
// through at the start, and what the bucket lacks goes there.
//
// # When the bucket is away
//
// After a request without an answer the next ones fail at once, for 0.1 to 5 s. What is cached is served, what is not is hypercore.ErrNotStored, which peers are told as Unhave, and told
// anew when the bucket answers again: meanwhile Has does not count it. What is put waits in the cache. A feed that was never seen here opens empty.
//
// # Goroutines and locks
//
// Run has one goroutine that looks what is due and at most four that work, one on a feed; nothing else starts any. Locks, in this order: Feed.committing (one commit, merge or look
// at the manifest of a feed at a time, held over requests), Store.checking, Store.mu, Feed.mu, and those of the cache's feed. Callbacks run without locks.
//
// # Limits
//
// A manifest of 16 MiB lists packs of about 2 TiB. The bucket is never told to forget a feed: an operator deletes the folder of its discovery key when no instance runs that has it. One
// history is told from another as peers do it: two that agree in all that was compared, and differ in blocks nobody here has, are found when such a block is read.
package archive
