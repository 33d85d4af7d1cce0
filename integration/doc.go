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
//	fuzz.sh          runs the fuzz targets of all packages; FUZZ and FUZZ_ALL say how long
//	compare.sh       measures hyphafs beside other file systems, on demand; compare/doc.go says how and what
//	peers/           Node programs: a hyperdb 3.5.0 node driven by JSON lines, and a reader of our records
//	binary_test.go   builds hyphafs once, starts and stops nodes, reads their status
//	peer_test.go     starts and drives a Node peer
//	faultfs/         a file system whose disk fails and whose power is cut
//	powerloss/       pulls the plug on a drive at 10,000 instants; its doc.go says how to try more
//	network_test.go  runs a test in a network of its own, and makes certificates
//	systemd_test.go  starts a real systemd in namespaces, over a layer of this system's files that is thrown away
//	deps_test.go     the table of who may import whom
//	*_test.go        one file for each thing a person does
//
// # Stores of every format
//
// testdata/stores has a state directory of each format, as the version of its time left it when it was killed, and a listing of what it has to show; TestStores opens
// copies. Whoever counts up the version in config.json (package state) adds one, whose name is the version, with the last program that writes the old format and with the
// first that writes the new:
//
//	HYPHAFS_MAKE_STORE=2 go test -count=1 -run TestMakeStore ./integration
//
// # Speed
//
// No test measures time. This prints medians of 5 rounds beside ext4, go-fuse's loopback and gocryptfs, as root and as an ordinary user, next to what
// hyphafs must reach (two hours and more; -run REGEXP, -rounds N, -size MIB, -files N and -systems LIST make it short):
//
//	integration/compare.sh
//
// # Longer runs
//
// TestExerciser does what xfstests' fsx does, 1,500 steps on each of three files; the long run of a release is 200,000. TestLimits makes names,
// paths, sparse files, entries and links as large as they may be, but few; TestManyFiles makes a million files, only on demand.
//
//	HYPHAFS_TEST_EXERCISES=200000 HYPHAFS_TEST_SEED=7 go test -timeout 3h -run TestExerciser ./integration
//	HYPHAFS_TEST_LIMITS=full go test -timeout 3h -v -run 'TestLimits|TestManyFiles' ./integration
//
// TestPowerCut cuts the power under the binary at 6 instants of the work of real programs; HYPHAFS_TEST_CUTS says how many more. Package powerloss tries all instants
// of random work on the drive, without the binary.
//
//	HYPHAFS_TEST_CUTS=200 go test -timeout 2h -v -run TestPowerCut ./integration
//	HYPHAFS_CRASH_POINTS=1000000 go test -timeout 6h ./integration/powerloss
//
// # The always-on node
//
// TestSwarm connects 200 nodes with one always-on node, 20 of which write once a second, and tells how far behind the slowest was, and what that cost;
// TestIdleConnections tells what a thousand idle connections cost. The nodes are in the test's process and share the processors with the always-on node; on a machine
// that does other things as well, being behind is about those. For the ten minutes of a release, in which two seconds are the most:
//
//	HYPHAFS_TEST_SWARM=10m go test -timeout 30m -v -run TestSwarm ./integration
//
// Seen so on two processors that did nothing else: 2,384,219 blocks came to nodes, nothing was lost, no goroutine stayed; behind: median 167 ms, slowest 524 ms. A block cost a node 117 µs of processor
// time (as much as in ten seconds: it does not grow; half is the signature), all nodes together 4 min 38 s; the always-on node took 94 s and 90 MiB.
//
// # Fuzzing
//
// Every decoder of bytes from a disk, a peer, the kernel or a person has a fuzz target beside it that asserts more than the absence of panics: errors
// are the package's own, what was taken comes back the same when it is encoded, the next good input is taken. Seeds are the vectors and what our own
// encoders write. test.sh gives each target 3,000 inputs. For an hour in all, or an hour each:
//
//	FUZZ_ALL=3600 integration/fuzz.sh
//	FUZZ=1h integration/fuzz.sh 'drive/view Fuzz'
//
// Not fuzzed: bbolt's file format, which is bbolt's (drive/boltview; each value in it is sealed, and those are fuzzed), the requests that go-fuse decodes,
// and JSON that encoding/json alone decodes out of the pipe between a command and the node it starts.
//
// # Load
//
// HYPHAFS_TEST_LOAD, a duration such as 10m, is how long the 64 processes of TestLoad work; from 5m on the node's memory must have become flat. GOMAXPROCS=1 go test
// -p 1 -timeout 60m ./... runs everything, the built binary and its clients included, with one thread for Go code.
//
// # Clean up
//
// Every node and peer that a test starts is ended by pid when the test ends; TestMain fails the run if a mount of ours
// is left behind. Traffic stays on loopback, in some tests that of a network namespace. A system that a test starts ends with the test's thread, and its
// control groups are removed. Tests that need root, FUSE, Node or versitygw (a real S3 server, drive/archive/s3/s3test) fail when CI=true and they are
// missing, and say why they skip otherwise.
package integration
