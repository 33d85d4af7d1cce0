// Package tcp carries replication over TCP: it accepts, and it dials and dials again. It knows sockets and knows nothing of feeds; what is said on
// a connection is package replication's.
//
// Every goroutine belongs to a Run or a Dial, which return when ctx has ended and all their sessions have. A Listener serves at most 256 connections and
// closes further ones at once. The wait between two tries to connect doubles from half a second to a minute, with a
// quarter of jitter, so that the nodes of a Hypha do not come back all at the same moment; a session of half a minute or more makes it short again.
package tcp
