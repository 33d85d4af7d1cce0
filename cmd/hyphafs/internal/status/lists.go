package status

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// Text returns w for a person: the text of .hypha/nodes/<node>.
func (w Writer) Text() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "name        %s\n", Printable(w.Name))
	fmt.Fprintf(&b, "fingerprint %s\n", w.Fingerprint)
	fmt.Fprintf(&b, "approved by %s\n", w.approver())
	fmt.Fprintf(&b, "last seen   %s\n", w.seen())
	return []byte(b.String())
}

func (w Writer) approver() string {
	if w.ApprovedBy == "" {
		return "itself: the origin"
	}
	return Printable(w.ApprovedBy)
}

func (w Writer) seen() string {
	switch {
	case w.Self:
		return "this node"
	case w.LastSeen == nil:
		return "never"
	}
	return w.LastSeen.Local().Format(time.DateTime)
}

// WritersText lists writers for a person, one a line below a heading.
func WritersText(writers []Writer) []byte {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tFINGERPRINT\tAPPROVED BY\tLAST SEEN")
	for _, w := range writers {
		fmt.Fprintf(table, "%s\t%.8s\t%s\t%s\n", Printable(w.Name), w.Fingerprint, w.approver(), w.seen())
	}
	_ = table.Flush() // a strings.Builder takes everything
	return []byte(b.String())
}

// RequestsText lists open requests for a person; nothing if there are none.
func RequestsText(requests []Request) []byte {
	var b strings.Builder
	for _, r := range requests {
		fmt.Fprintf(&b, "%s\n  words  %s\n", Printable(r.Node), Printable(strings.TrimSpace(r.Words)))
	}
	if len(requests) > 0 {
		b.WriteString("Compare the words with those on the other screen, then: hyphafs approve NODE\n")
	}
	return []byte(b.String())
}
