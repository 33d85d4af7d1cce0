// Package datdns finds the key that a host names by Dat DNS (DEP-0005): a file at https://HOST/.well-known/dat,
//
//	dat://<64 hex digits>/
//	TTL=3600
//
// in which the slash, the second line and the line ends are optional. A TTL counts seconds, 3600 if it is missing; it is
// bounded by [MaxTTL]. The package knows keys and HTTPS; it knows nothing of passphrases, peers and pins.
//
// # What it does not do
//
// It asks by HTTPS only, follows redirects only to the same host by HTTPS, and reads 4 KiB at most within [Time]. It does not ask for DNS TXT
// records, the other way of the DEP: that goes through DNS over HTTPS of a third party, who would learn whose Hypha is looked for, and whose answer is signed by nobody. It
// keeps nothing: a caller asks as often as the TTL lets it.
//
// # What an answer is worth
//
// It says which key a host names now, and nothing about who owns that key: who takes over the host, its name or its certificate can name
// another one. Therefore the key is never taken from the answer. A node derives it from passphrase and domain, and the answer is right or wrong; a right one is pinned, and a
// later wrong one is an alarm, not an update (cmd/hyphafs/internal/node).
//
// # What publishing a key gives away
//
// The read key of a Hypha lets whoever has it find its nodes, connect to them, prove the key and fetch every feed: ciphertext, with the number of writers, their public keys, the sizes of
// what they write and when they write it. It opens no name and no content, and lets nobody write or ask to. A host that answers Dat DNS gives
// that away to all who know its name, and ties the name to the Hypha. Who does not want this gives --no-discovery to serve, and nodes the address with --peer.
//
// Sources: DEP-0005; npm dat-dns 3.2.1 (index.js).
package datdns
