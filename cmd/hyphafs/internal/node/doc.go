// Package node assembles drive, auth, replication and fs into one running node.
//
// It decides nothing that they could decide: it derives and keeps keys, opens, connects, starts, stops, and turns their errors into exit codes.
//
// # Keys on disk
//
// node.key holds, sealed by auth under a key made from passphrase and domain, one JSON object:
//
//	source  read key of the Hypha, hex
//	writer  seed of this node's writer key, 32 bytes base64; absent on the origin, whose writer key follows from the passphrase
//
// That it opens is the proof that the passphrase is right; nothing is changed before that. On a first mount it is written
// before config.json, which makes the node exist.
//
// # The domain
//
// The domain may be the name of a host that answers Dat DNS (package datdns). A sign-in without a peer asks it: the key it names is compared with the one that passphrase and domain give. Another one
// ends the sign-in with WrongPassphrase before anything is written; the same one makes wss://HOST the peer and is pinned in domain.json. A running node with discovery
// asks again, soon after its start and then as the TTL says (an hour to a day), in a goroutine nobody waits for. A host that names the Hypha for the first time is pinned and dialled
// then, so the origin finds the always-on node that was set up after it. Once it is pinned, another key is an alarm, not an update: it may mean that the host was taken
// over. The alarm outlives restarts and ends when the right key is back. Nothing else follows from it: writing goes on, and so does the connection, since a peer is believed only
// what is signed. A host that never named this Hypha is somebody else's: a log line, no alarm.
//
// # Life
//
// Run holds the lock of the state directory from before anything is read until after everything is closed. In order: derive, open the store, listen
// and dial, answer on the control socket, mount, ready, which a service manager is told (package sdnotify), too. It ends by a signal, by the control socket's stop, by an unmount from outside, or by the failure of a part. The end goes
// backwards: unmount (nothing can be changed any more), publish, hang up, close the store, release the lock.
//
// The state directory is stamped when the mount answers and, if all was closed well, at the end. A store whose stamp does not match is opened in doubt (stamp.go) and
// keeps its old stamp until peers confirmed it.
//
// # Goroutines
//
// Each part runs in a goroutine of the Node's group, under a context that ends after the unmount; close waits for all of them. The control socket's
// handlers belong to control.Serve. When the mount answers, Go's scheduler gets two processors more than go-fuse has counted, see leaveProcessorsOver.
//
// # Locks
//
// mu guards the list of listeners, watch.mu the domain's alarm; they are held for assignments only, never across a call of another package.
package node
