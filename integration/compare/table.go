package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// show is a run's figure in the row's unit.
func (r row) show(seconds float64) string {
	if r.amount == 0 {
		return fmt.Sprintf("%.3f ms", seconds*1000)
	}
	return fmt.Sprintf("%.0f %s", r.amount/seconds, r.unit)
}

// median of at least one value; of an even number the mean of the middle two.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// faster tells how many times as fast hyphafs is as the system in seconds: the median of the rounds' ratios, since what disturbs a round
// disturbs both.
func faster(own, other []float64) float64 {
	ratios := make([]float64, len(own))
	for i := range own {
		ratios[i] = other[i] / own[i]
	}
	return median(ratios)
}

// print writes the medians of all rows, and against each system how many times as fast hyphafs is.
func (b *bench) print(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\nwork\tunit")
	for _, sys := range b.all {
		fmt.Fprintf(w, "\t%s", sys.name)
	}
	fmt.Fprintln(w, "\thyphafs against target\tpublished after")
	for _, r := range b.rows {
		fmt.Fprintf(w, "%s\t%s", r.name, r.unit)
		for _, sys := range b.all {
			text, _, _ := strings.Cut(r.show(median(b.results[r.name][sys.name])), " ")
			if own := b.results[r.name][hyphafs]; sys.name != hyphafs && own != nil {
				text += fmt.Sprintf(" (%.2f)", faster(own, b.results[r.name][sys.name]))
			}
			fmt.Fprintf(w, "\t%s", text)
		}
		fmt.Fprintf(w, "\t%s", strings.Join(b.verdicts(r), "; "))
		if p := b.published[r.name]; p != nil {
			fmt.Fprintf(w, "\t%.1f s", median(p))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

// verdicts compares r with its targets.
func (b *bench) verdicts(r row) (all []string) {
	for _, t := range r.targets {
		if t.only == asRoot && os.Geteuid() != 0 || t.only == asOrdinary && os.Geteuid() == 0 {
			continue
		}
		own, other := b.results[r.name][hyphafs], b.results[r.name][t.against]
		if own == nil || other == nil {
			all = append(all, fmt.Sprintf("%g %s: not measured", t.times, t.against))
			continue
		}
		verdict := "ok"
		if faster(own, other) < t.times {
			verdict = "short"
		}
		all = append(all, fmt.Sprintf("%g %s: %s", t.times, t.against, verdict))
	}
	return all
}
