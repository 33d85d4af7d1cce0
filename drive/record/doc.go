// Package record is what a Hypha's database says: the records, their bytes, their keys, and how they are sealed. Pure
// functions of bytes; it knows no feed, no store and no file system, and builds for the browser.
//
// # Keys of the database
//
//	d/<dir id>/<name token>   Dirent: an entry of a directory
//	f/<inode id>              Inode: a file, directory or other inode
//	n/<writer feed, hex>      Writer: what nodes call that writer
//	e/<inode id>/<block>      a page of the extents of a file in very many pieces, from that block on
//
// Ids are 96 random bits, written as 16 characters of base64url; the root directory's id is zero. A token is 22 characters of
// base64url: BLAKE2b-128, keyed with the names key, over the directory id and the name. The names key has no epoch: a token has to stay
// what it is when content keys are rotated.
//
// # Records
//
// Protobuf. Numbers are varints unless said otherwise; times are fixed64, nanoseconds since 1970; a version is {1 feed (32 bytes), 2 seq}.
//
//	Dirent  1 name, 2 inode (12 bytes), 3 kind, 4 removed, 5 moved from {1 dir, 2 name}, 6 moved to {1 dir, 2 name}, 7 stamp, 8 replaces
//	Inode   1 kind, 2 mode, 3 uid, 4 gid, 5 owner (8 bytes), 6 atime, 9 mtime, 10 ctime, 11 btime, 12 size, 13 extent, 14 content feed (32 bytes),
//	        15 target, 16 rdev, 17 xattr {1 name, 2 value}, 18 removed, 7 stamp, 8 replaces
//	        19 page {1 first block, 2 metadata feed, 3 seq, 4 blocks}: then there are no fields 13 and 14, the pages have them
//	page    13 extent, 14 content feed
//	Writer  1 name, 2 approved by (32 bytes), 3 time, 7 stamp, 8 replaces
//	stamp   1 wall (ms), 2 logical
//	extent  1 block, 2 count, 3 position of the feed among the fields 14, 4 seq
//
// Fields with unknown numbers are kept in Unknown and written again. Decoders bound every size, refuse what no writer of ours writes
// (order, overlaps, names with '/' or NUL, more than MaxReplaces versions) and never panic.
//
// # Sealing
//
//	sealed = version 01 || varint epoch || nonce (24 random bytes) || XChaCha20-Poly1305(plain)
//
// The associated data binds a value to its place: "hyphafs record 1" || epoch (4, big endian) || writer feed (32) || database key, for a record;
// "hyphafs block 1" || epoch (4) || content feed (32) || inode id (12) || block number (8, big endian), for a block of a file. Nonces are random and
// never made from a position: a feed that forks after a restored backup would use one twice.
//
// The record of an inode with pages is version 02, and "hyphafs record 2" in its associated data, and is else the same: a program that knows no pages would show the
// file as a hole. It passes such a record over, says so, and goes on showing the version before.
//
// A page is named by its place in a feed, not by its key, and only by records behind it in the same feed: who has folded the one has the other. Deletions, which keep
// the pages that the inode had, may name others' feeds. An inode without pages has at most some thousand extents (12 bytes each, about); with pages a change of a
// block of a file in 16,384 pieces takes 7 KiB of records where all extents would be 200 KiB.
//
// Sources: hyperdb 3.5.0 for the shape of keys, draft-irtf-cfrg-xchacha-03, RFC 7693.
package record
