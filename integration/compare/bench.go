package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// target is what the issue asks of hyphafs in one row: to be this many times as fast as the system against.
type target struct {
	against string
	times   float64
	only    int // asRoot, asOrdinary, or both
}

const (
	both = iota
	asRoot
	asOrdinary
)

// row is one line of the table.
type row struct {
	name    string
	unit    string  // of the shown figure
	amount  float64 // of the unit's numerator done in one run; 0: a latency, shown as it is
	targets []target
}

// step is one piece of work in a group's folder. It is timed if it has a row.
type step struct {
	row    row
	p99    row  // of the latencies that do leaves in the turn
	needed bool // the steps behind it work on what it makes
	fresh  bool // and use it up: it is done again in every round
	cold   bool // all caches are emptied before
	before func(*turn) error
	do     func(*turn) error
	writes bool // hyphafs's time to publish is told
}

// group is a chain of steps on one folder, run by each system in turn in each round.
type group struct {
	name  string
	steps []step
}

// bench is one run.
type bench struct {
	settings
	ctx       context.Context
	base      string
	all       []*system
	rows      []row                           // in the order of the table
	results   map[string]map[string][]float64 // seconds, by row and system
	published map[string][]float64            // seconds that hyphafs took to publish behind a row
}

// turn is one system's go at a group.
type turn struct {
	*bench
	sys   *system
	dir   string // the group's folder in the mount
	round int

	latencies []time.Duration // of the single calls of a step that has a p99
}

func (b *bench) wants(r row) bool { return r.name != "" && b.run.MatchString(r.name) }

func (b *bench) record(r row, sys *system, took time.Duration) {
	if !b.wants(r) {
		return
	}
	if b.results[r.name] == nil {
		b.results[r.name] = map[string][]float64{}
	}
	b.results[r.name][sys.name] = append(b.results[r.name][sys.name], took.Seconds())
	fmt.Fprintf(os.Stderr, "%-46s %-12s %s\n", r.name, sys.name, r.show(took.Seconds()))
}

func (b *bench) runGroup(g group) error {
	asked := false
	for _, s := range g.steps {
		for _, r := range []row{s.row, s.p99} {
			if b.wants(r) {
				b.rows, asked = append(b.rows, r), true
			}
		}
	}
	if !asked {
		return nil
	}
	for round := range b.rounds {
		for i := range b.all {
			sys := b.all[(round+i)%len(b.all)] // each is first once in a while
			t := &turn{bench: b, sys: sys, dir: filepath.Join(sys.dir, g.name), round: round}
			if err := t.run(g); err != nil {
				return fmt.Errorf("%s on %s: %w", g.name, sys.name, err)
			}
		}
	}
	for _, sys := range b.all {
		if err := errors.Join(os.RemoveAll(filepath.Join(sys.dir, g.name)), sys.publish(b.ctx)); err != nil {
			return err
		}
	}
	return nil
}

func (t *turn) run(g group) error {
	if err := os.MkdirAll(t.dir, 0o755); err != nil {
		return err
	}
	for _, s := range g.steps {
		if !t.wants(s.row) && !t.wants(s.p99) && !(s.needed && (s.fresh || t.round == 0)) {
			continue
		}
		if err := t.step(s); err != nil {
			return fmt.Errorf("%s: %w", s.row.name, err)
		}
	}
	return nil
}

func (t *turn) step(s step) error {
	if s.cold {
		if err := t.sys.cool(t.ctx, t.root); err != nil {
			return err
		}
	}
	if s.before != nil {
		if err := s.before(t); err != nil {
			return err
		}
	}
	if !s.cold {
		unix.Sync() // what was written before is not this step's to write
	}
	if err := t.ctx.Err(); err != nil {
		return err
	}
	start := time.Now()
	if err := s.do(t); err != nil {
		return err
	}
	t.record(s.row, t.sys, time.Since(start))
	if s.p99.name != "" {
		slices.Sort(t.latencies)
		t.record(s.p99, t.sys, t.latencies[len(t.latencies)*99/100])
	}
	if s.writes && t.sys.name == hyphafs {
		start = time.Now()
		if err := t.sys.publish(t.ctx); err != nil {
			return err
		}
		if t.wants(s.row) {
			t.published[s.row.name] = append(t.published[s.row.name], time.Since(start).Seconds())
		}
	}
	return nil
}
