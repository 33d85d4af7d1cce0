package faultfs

import (
	"math/rand/v2"
)

// Log is what happened to a disk.
type Log struct {
	Base *Disk // before Ops
	Ops  []Op
}

// Loss says what a power loss takes of what was not fsynced.
type Loss struct {
	Keep    int  // of 100 changes of bytes, how many stay
	Tear    int  // of 100 writes that stay, how many do so in part only
	Names   int  // of 100 changes of names, how many stay; not with Ordered
	Ordered bool // names are lost from the end only
}

// Kept is no loss at all: what the death of a process leaves.
var Kept = Loss{Keep: 100, Names: 100}

// Crash returns the disk that a power loss right behind the first n operations leaves. If all is kept, rng is not used.
func (l *Log) Crash(n int, loss Loss, rng *rand.Rand) *Disk {
	if loss == Kept {
		d := l.Base.Clone()
		for i := range l.Ops[:n] {
			d.Apply(&l.Ops[i])
		}
		return d
	}
	stored := l.stored(n)
	names, last := map[uint64]int{}, 0 // directory -> the operation up to which its names are durable
	for i := range l.Ops[:n] {
		if op := &l.Ops[i]; op.Kind == SyncDir {
			names[op.Ino], last = i, i
		}
	}
	cut := last + rng.IntN(n-last+1)
	d := l.Base.Clone()
	for i := range l.Ops[:n] {
		op := &l.Ops[i]
		switch op.Kind {
		case Create, Link, Unlink, Rename:
			durable := i < names[op.Dir] || op.Kind == Rename && i < names[op.ToDir]
			keep := durable || rng.IntN(100) < loss.Names
			if loss.Ordered {
				keep = durable || i < cut
			}
			if keep {
				d.Apply(op)
			} else if op.Kind == Create { // its bytes may be fsynced and its name not
				lost := *op
				lost.Dir = 0
				d.Apply(&lost)
			}
		case Write, Truncate, Punch:
			if stored[i] {
				d.Apply(op)
			} else if rng.IntN(100) < loss.Keep {
				d.Apply(torn(op, d, loss, rng))
			} else if op.Kind == Write && loss.Tear > 0 && rng.IntN(4) == 0 { // longer, but empty
				if in := d.Inodes[op.Ino]; in != nil && op.Off+int64(len(op.Data)) > int64(len(in.Data)) {
					d.Apply(&Op{Kind: Truncate, Ino: op.Ino, Off: op.Off + int64(len(op.Data))})
				}
			}
		}
	}
	return d
}

// stored tells of the first n operations which ones an fsync made durable: one behind them, without one between that failed.
func (l *Log) stored(n int) []bool {
	out, synced := make([]bool, n), map[uint64]bool{}
	for i := n - 1; i >= 0; i-- {
		switch op := &l.Ops[i]; op.Kind {
		case Sync:
			synced[op.Ino] = true
		case Drop:
			synced[op.Ino] = false
		default:
			out[i] = synced[op.Ino]
		}
	}
	return out
}

// sector is what a disk writes at once, in bytes.
const sector = 512

// torn is op, or a part of it: its beginning, or some of its sectors.
func torn(op *Op, d *Disk, loss Loss, rng *rand.Rand) *Op {
	if op.Kind != Write || len(op.Data) < 2 || rng.IntN(100) >= loss.Tear {
		return op
	}
	part := *op
	if rng.IntN(2) == 0 {
		part.Data = op.Data[:rng.IntN(len(op.Data))]
		return &part
	}
	part.Data = make([]byte, len(op.Data))
	if in := d.Inodes[op.Ino]; in != nil && op.Off < int64(len(in.Data)) {
		copy(part.Data, in.Data[op.Off:])
	}
	for at := 0; at < len(op.Data); {
		end := min(at+sector-int((op.Off+int64(at))%sector), len(op.Data))
		if rng.IntN(2) == 0 {
			copy(part.Data[at:end], op.Data[at:end])
		}
		at = end
	}
	return &part
}
