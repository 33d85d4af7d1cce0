// Package control is how commands talk to the node that runs: one JSON request and one JSON answer, a line each, over a
// unix socket in the state directory. It knows no node: a Handler does what is asked.
//
//	-> {"op":"approve","args":["laptop-1f2e3d4c"]}
//	<- {"data":…}                                   done
//	<- {"code":1,"error":"…","next":"…"}            not done: exit code, what and why, what next
//
// The socket lies in a directory of mode 0700 and is 0600 itself; besides, only the node's own user and root are answered
// (SO_PEERCRED). One connection carries one request; its end cancels what is under way. Requests are bounded to 64 KiB and must arrive within
// 10 s; answers are bounded to 64 MiB.
//
// A path longer than a socket address (108 bytes) is reached through /proc/self/fd of its directory.
//
// Goroutines: Serve owns one for each connection and, while a handler runs, one that waits for the connection's end. It returns when all have ended.
package control
