// Package powerloss pulls the plug on a drive, at every instant. It has tests only.
//
// # How
//
// A drive does random work, from a seed, on a faultfs file system that another process serves and that records every write, truncation, name and fsync (life_test.go). Meanwhile
// a model notes what the drive was asked to do, what it acknowledged as durable, and how much of the work the file system had seen by then (model_test.go). Afterwards each
// prefix of the record is a crash point: faultfs makes the disk that a power loss there leaves, with unsynced changes of bytes and names lost, torn and reordered
// at random; or, as a fifth of them, the disk that kill -9 leaves. A drive is opened on it (explore_test.go), and has to
//
//   - open by itself,
//   - show names and attributes as they were behind one of the operations, not before the last that was acknowledged as durable,
//   - show each file with bytes that were in it since its last fsync, and a length that it had since; a file that was renamed over another with at least
//     what it held then, fsynced or not,
//   - have in its own feeds the blocks that were signed, none less than a peer may have seen, and no length signed twice over other bytes,
//   - publish what is left, check clean, conflict with nothing, and still show the same.
//
// In half of the lives the publisher runs beside that, and another program that makes everything durable now and then; in half
// of these an fsync takes its time, so that others come in between.
//
// Each seed has several lives: the work goes on from one of its crashes. Behind a kill -9 the record goes on as well, since what the dead process had not fsynced
// is in the page cache, and may still be lost with the power.
//
// In a third of the lives the disk fails an fsync now and then, or a rename, done or not, and drops what a failed fsync was to store (package faultfs): calls may fail then,
// but what one acknowledged has to be there. Free is the drive then only of what it owes without an fsync.
//
// # How much
//
// HYPHAFS_CRASH_POINTS says how many points to try, 10,000 without it; HYPHAFS_CRASH_SEED where the seeds begin, else the time does. A point takes about 40 ms of one processor, all
// of which are used: 10,000 take 200 to 260 seconds on two. A third of that is the check of all feeds and the view, a fifth the opening; the mount of the disk under
// test serves the work alone, and the points are opened in /dev/shm. A night is
//
//	HYPHAFS_CRASH_POINTS=3000000 go test -count=1 -timeout 24h ./integration/powerloss
//
// A seed makes the same work again, but the order of records in a batch and the times of the background publisher differ, so a failure may need a few rounds to be seen again. It
// comes with the last operations of the disk.
package powerloss
