// Package tcp carries replication over TCP: it accepts, and it dials and dials again (package redial). It knows sockets and knows nothing of feeds; what is said on
// a connection is package replication's.
//
// Every goroutine belongs to a Run or a Dial, which return when ctx has ended and all their sessions have. A Listener closes connections at once that its Gate does
// not let in.
package tcp
