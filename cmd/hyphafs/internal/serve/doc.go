// Package serve is the always-on node: it keeps Hyphas for people who are not there, so that their nodes find each other and nothing is lost with one machine. It has read keys
// and nothing else: it can read neither names nor contents, and approve nobody. Whoever hosts it need not be trusted with more than being there.
//
// # What it does
//
// Of each Hypha it keeps all feeds of all writers, which it knows by folding hyperdb's lists of writers (no content key is needed for that), verifies every block like any node, and
// replicates them live over TCP and WebSocket at once. So nodes behind either meet through it. Secure-ephemeral messages it passes on, unread (package replication).
//
// # Which Hyphas
//
// Those that --hypha names and the one that was adopted. A WebSocket names its Hypha by the read key in its URL; what is not kept gets 404 and nothing is made for it. Over TCP the
// first frame's discovery key chooses; an unknown one is hung up on.
//
// With --adopt, a node that keeps nothing takes the first Hypha that shows itself, and no other from then on. That needs a WebSocket: over TCP a peer shows only the discovery key, which
// cannot be turned into the read key, without which nothing can be verified or decrypted; the log says so. And it needs a proof: a peer that merely names a key (a sign-in
// with a wrong passphrase does) has to send a block that this key signed. The candidate's block is held in memory; then the key is written down, and the session ends: the
// peer comes back, half a second later, to the Hypha.
//
// # Names
//
// /.well-known/dat answers Dat DNS (package datdns, which says what that gives away): for the hosts of --domain and --tls-domain with the Hypha that is kept, if it is the only
// one; for those of --hypha HOST=READKEY with that one. It is told by TLS, or to a reverse proxy on this machine, and to nobody who asks for another host: finding the machine's address is
// not enough to learn a key. --no-discovery answers nobody.
//
// # TLS
//
// --tls-domain gets certificates by ACME, --tls-cert and --tls-key have one (package certs). Without them HTTP is clear, for this machine, a network of one's own or a reverse
// proxy. What such a proxy on this machine says in X-Forwarded-For, its last word, is the address that is counted; anybody else's is not believed.
//
// # State directory
//
//	lock             as of any node (package state)
//	serve.json       {"version": 1, "adopted": <read key, hex>}; written when a Hypha is adopted
//	acme/            account and keys of certificates, if there is --tls-domain (package certs)
//	hyphas/<hex>/    one folder a Hypha, named by its discovery key; in it one folder a feed (package hypercore), if feeds are kept on disk
//	cache/<hex>/     one folder a feed, if feeds are kept in a bucket: what may be lost (package archive)
//
// What Put stored is synced within a second.
//
// # In a bucket
//
// With --store, feeds are in an object store and the disk is a cache of at most --store-cache bytes. Any number of nodes may share a bucket and prefix: behind one name, each finds what the
// others stored within seconds and serves it, and one may be lost with its disk. Peers are told that a block is here to stay when it is in the bucket (replication, Keeper), so that sync
// --peer means that. Secure-ephemeral messages do not go through the bucket: nodes that are to approve each other through different instances need those to be connected (--peer).
//
// What a node adopted is in its state directory alone: one that may lose it is given --hypha. There may be thousands of Hyphas, so one is opened when a peer comes for it, which takes a request or two a feed, and closed a minute after the last one left (place.go). With
// --peer all are open.
//
// # Limits
//
// A cache that is full of what the bucket does not have makes all Hyphas full. --max-bytes bounds the bytes of blocks of each Hypha; beyond, its peers are told (package replication, Limits). Connections are bounded in all and by address (package gate), messages by
// connection and Hypha. At most 128 writers of a Hypha are kept, which is what one stream carries. Headers of requests are bounded in size and time.
//
// # Logs
//
// Nobody's address and no key is in them from level info on: both are replaced by a word that is the same throughout one run (discreet.go). At debug there are addresses. No level shows a key.
//
// # Life
//
// Run takes the lock, listens, opens all Hyphas and is ready: /healthz says 200, and the service manager is told (package sdnotify). It ends with its context or with a part that failed: not ready, sessions hang up, feeds are
// synced and closed, all within 5 s. A Hypha whose feeds are damaged is left out and told; if that leaves none, Run fails.
//
// # Goroutines and locks
//
// Parts run in the Server's group: the listeners, the first request for certificates, what the service manager is told, one for each Hypha (folds and syncs), one for each Hypha and --peer. Sessions belong
// to the listeners. Locks: place.mu (held while a Hypha is opened and closed), Server.mu (which Hyphas),
// room.mu and adoption.mu are leaves but for adoption.mu, which is held while a Hypha is opened and taken before Server.mu.
package serve
