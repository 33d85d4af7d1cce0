// Package integration tests the built hyphafs binary as a person uses it: real mounts used by real programs, real
// npm hyperdb peers over real loopback sockets, real kill -9.
//
// # What it may know
//
// It is imported by none. Tests drive the binary and look at mounts from outside: the process that serves a mount is
// never the one that uses it. Two helpers reach into packages: the key derivation of auth, to hand a Node script the keys that
// open a block, and nothing else.
//
// # Layout
//
//	test.sh          installs what the tests need and runs them all; README's second command, which .ci/run calls
//	peers/           Node programs: a hyperdb 3.5.0 node driven by JSON lines, and a reader of our records
//	binary_test.go   builds hyphafs once, starts and stops nodes, reads their status
//	peer_test.go     starts and drives a Node peer
//	deps_test.go     the table of who may import whom
//	*_test.go        one file for each thing a person does
//
// # Clean up
//
// Every node and peer that a test starts is ended by pid when the test ends; TestMain fails the run if a mount of ours
// is left behind. Traffic stays on loopback. Tests that need root, FUSE or Node fail when CI=true and they are missing, and
// say why they skip otherwise.
package integration
