// Package replication exchanges feeds with peers in hypercore-protocol 6, npm peers included, and passes secure-ephemeral messages on. It knows
// feeds as [Feed] and [Feeds] describe them and connections as streams of bytes; it knows nothing of sockets (package tcp), of what is in blocks
// or payloads, of who may write, of people. It stores nothing itself. The codec is package wire.
//
// # A session
//
// [Node.Serve] runs one connection. The side that dialled encrypts, unless Options.Clear, and speaks first. The accepting side reads the peer's first frame: with a nonce the
// peer encrypts and is answered so; without, it is answered in the clear if Options.Clear or Config.AllowClear says so, and refused else. Both begin with the source feed;
// another one means another Hypha. A node of many Hyphas learns by [Greet] which one a peer means. The stream cipher has no integrity: a bit that somebody flips on the way becomes a bad proof or a
// broken frame and costs the connection, never a wrong block.
//
// Channels are opened in the order of Feeds.Feeds, and for each feed that joins while the session runs. Up to 17 messages (256 KiB in all) are held for a
// feed that the peer opened before us. Each channel sends Want for the first 2^20 blocks, and for further ones as far as the peer has blocks, also for
// feeds that this node writes: what a node lost of its own feed it gets back (Config.OnAhead and OnEnd tell), which the npm package never does.
//
// # Fetching
//
// First come blocks somebody waits for (Feed.Wanted), then, if a peer knows a greater length, the first block behind ours (at first the
// last one): its proof makes the length known and shows that what we have is a part of it. Then comes what is missing, in order, some of each channel in turn. Sessions share a table of what is under way, so that no block is fetched twice; what was asked
// for 4 s ago (2 s when somebody waits) may be asked for elsewhere, and what a session that ends had asked for is free at once. A session has at
// most what the connection carries in two seconds under way: 256 KiB to 4 MiB, 4 to 512 requests. Requests carry the digest of
// the nodes known here, unless a block of the feed came with a bad proof and not since: a proof without what we know cannot tell a fork. Proofs answer the digests that the peer sent on this connection (one hypercore.Marks a channel).
//
// # Serving
//
// Requests and Wants wait in a queue (at most 4,096) until the outbox has less than 512 KiB; incoming frames never wait for outgoing ones, so two nodes that
// send to each other cannot block each other. New blocks are announced to peers that sent a Want, once for a run of blocks.
// Of a feed that is a Keeper, a block that is not kept for good yet is not announced to a peer that has it, who may take that for a receipt, until Node.Announce.
// A request for a block that is not here is answered with Unhave. A request by byte offset is answered for the index it names.
// A peer that is not live is told by Info when it has given all it has, and again when it has taken all, and then leaves.
//
// # Relaying
//
// A secure-ephemeral payload is passed once to every other peer that lists the extension, never back, and once to Config.Extension. Payloads of the last
// ten minutes (4,096 at most) are known by their SHA-256. Above 4 kB, above one a second of a connection that was accepted (bursts of 8), above five a second of one that was dialled, through which
// everybody may be speaking, or of all peers together (bursts of 64), or on another channel than the source feed's they are dropped and counted. Nothing of them is decoded.
//
// # Limits
//
// A node that stores no more (Config.Limit, or a Feed whose Put says ErrFull) asks for nothing and says so to peers that list the extension x-hyphafs-limit, which npm peers do not: on
// the source feed's channel, two varints, the bytes of blocks it stores at most and those it has. Zeros mean that there is room again. The peer shows it (Peer.Limit), and whoever
// waits in Synced gets ErrFull when no peer has room. Serving and relaying go on.
//
// # Goroutines and locks
//
// A session has an owner (in Serve), which has nearly all its state to itself, a reader, a writer, one that closes the connection when the
// session's context ends, and a watcher for each channel; Serve returns when all have. The reader hands over batches of frames and reuses two buffers; the
// writer swaps buffers with the outbox. Callbacks of Config run in the owner. Locks: Node.mu, session.mu, fetch.mu and outbox.mu are leaves:
// none is held while another is taken, a callback runs or a feed is called.
//
// # Failure
//
// A bad proof, a broken frame, a message on a channel that is not open, a flood end the session with an error (ErrProtocol, wire.ErrFrame,
// hypercore.ErrBadProof); messages that do not decode are dropped and counted. A fork is reported (Config.OnFork) and the feed is not fetched from that peer any more;
// the rest goes on. A disk error ends the session as such, the peer is not blamed. A peer from which nothing comes for 20 s, that takes nothing for
// 20 s, answers none of its requests for 16 s, or does not shake hands within 10 s is given up; keepalives go out after 4 s. A peer that leaves one request unanswered for 30 s while it
// answers others is taken not to have that block, and is asked again what it has after another 30 s: it may have been busy, and may be the only one.
// What a peer announces costs at most 32 MiB a session, blocks beyond 2^28 are not heeded.
//
// Sources: npm hypercore-protocol 6.12.0 (index.js, feed.js), hypercore 6.26.0 (lib/replicate.js, index.js), hyperdb 3.5.0 (replicate), the
// relay of hypha's always-on node as in testdata/ephemeral.json.
package replication
