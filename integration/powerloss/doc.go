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
//   - have in its own feeds the blocks that were signed, none less than a peer may have seen,
//   - publish what is left, check clean, conflict with nothing, and still show the same.
//
// Each seed has several lives: the work goes on from one of its crashes.
//
// # How much
//
// HYPHAFS_CRASH_POINTS says how many points to try, 10,000 without it; HYPHAFS_CRASH_SEED where the seeds begin, else the time does. A seed makes the same work again, but
// the order of records in a batch and the times of the background publisher differ, so a failure may need a few rounds to be seen again.
//
// # Open
//
// About one instant in 1,500 fails: a file that was cut, or made longer, and renamed over another without fsync has a length between the old and the new one. The default
// run of test.sh is therefore short and begins at a fixed seed.
package powerloss
