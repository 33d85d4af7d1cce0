// Package status is what `hyphafs status` shows, as JSON for scripts and as text for people. The same bytes are in the mount as
// .hypha/status.json and .hypha/status. It knows no node: whoever runs one fills a Status.
//
// Names and URLs in it come from other machines. JSON escapes them; the text shows only printable characters.
package status

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Status is the state of a running node. Names of fields are the contract with scripts; no list is ever null.
type Status struct {
	Domain      string            `json:"domain"`
	Node        Node              `json:"node"`
	Hyphalink   string            `json:"hyphalink"`
	Writable    bool              `json:"writable"`
	Words       string            `json:"words,omitempty"` // six, while this node waits for approval
	Mount       string            `json:"mount"`
	State       string            `json:"state"`
	Listen      []string          `json:"listen"`
	Peers       []Peer            `json:"peers"`
	Unconnected []Unconnected     `json:"unconnected"`
	Feeds       []Feed            `json:"feeds"`
	Pending     int               `json:"pending"`
	Conflicts   int               `json:"conflicts"`
	Unpublished Amount            `json:"unpublished"`
	Missing     Missing           `json:"missing"`
	Alarms      []string          `json:"alarms"`
	Dropped     map[string]uint64 `json:"dropped"` // requests and messages that were not taken, by reason
	PID         int               `json:"pid"`
	Started     time.Time         `json:"started"`
}

// Node names this node.
type Node struct {
	Name        string `json:"name"`
	Fingerprint string `json:"fingerprint"` // of its writer key, hex
}

// Peer is one connected peer.
type Peer struct {
	URL         string `json:"url"`
	Kind        string `json:"kind"`        // of the connection: tcp, ws
	Fingerprint string `json:"fingerprint"` // empty if the peer did not prove who it is
	Connected   int64  `json:"connected_s"` // seconds
	Down        uint64 `json:"down_bytes"`
	Up          uint64 `json:"up_bytes"`
	Refuses     string `json:"refuses,omitempty"` // why it takes nothing more
}

// Unconnected is a peer that this node connects to again and again, and is not connected with.
type Unconnected struct {
	URL    string `json:"url"`
	Reason string `json:"reason"` // why the last connection did not come about or ended
}

// Feed is one signed log.
type Feed struct {
	Key    string `json:"key"`    // hex
	Writer string `json:"writer"` // name or fingerprint of who writes it
	Length uint64 `json:"length"` // blocks, verified
	Have   uint64 `json:"have"`   // blocks stored here
}

// Amount is what was changed here and not published yet.
type Amount struct {
	Files uint64 `json:"files"`
	Bytes uint64 `json:"bytes"`
}

// Missing is what other nodes published and this node does not have yet.
type Missing struct {
	Blocks uint64 `json:"blocks"`
	Bytes  uint64 `json:"bytes"`
}

// Writer is one writer of the Hypha, as `hyphafs nodes` shows it.
type Writer struct {
	Node        string     `json:"node"` // its name in .hypha/nodes: slug, dash, 8 digits of the fingerprint
	Name        string     `json:"name"`
	Fingerprint string     `json:"fingerprint"`
	ApprovedBy  string     `json:"approved_by"` // as Node; empty for the origin
	Approved    *time.Time `json:"approved"`    // null if nobody said
	LastSeen    *time.Time `json:"last_seen"`   // when something it wrote last arrived here; null: nothing yet
	Self        bool       `json:"self"`
}

// Request is one open request, as `hyphafs pending` shows it.
type Request struct {
	Node  string          `json:"node"` // what approve and deny take
	Words string          `json:"words"`
	Said  json.RawMessage `json:"request"` // request.json of the mount
}

// JSON returns s as one indented object and a newline.
func (s Status) JSON() []byte {
	if s.Listen == nil {
		s.Listen = []string{}
	}
	if s.Peers == nil {
		s.Peers = []Peer{}
	}
	if s.Unconnected == nil {
		s.Unconnected = []Unconnected{}
	}
	if s.Feeds == nil {
		s.Feeds = []Feed{}
	}
	if s.Alarms == nil {
		s.Alarms = []string{}
	}
	if s.Dropped == nil {
		s.Dropped = map[string]uint64{}
	}
	return Indent(s)
}

// Indent returns v as indented JSON and a newline. v must be made of plain data.
func Indent(v any) []byte {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err) // a type in this program that JSON cannot express
	}
	return append(b, '\n')
}

// Text returns s for a person.
func (s Status) Text() []byte {
	var b strings.Builder
	row := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-11s %s\n", label, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "%s on %s (%.8s)\n", Printable(s.Domain), Printable(s.Node.Name), s.Node.Fingerprint)
	for _, alarm := range s.Alarms {
		row("ALARM", "%s", Printable(alarm))
	}
	switch {
	case s.Writable:
		row("state", "writable")
	case s.Words != "":
		row("state", "read-only, waiting for approval: on a node that writes, compare the words and touch .hypha/pending/…/approve")
		row("words", "%s", s.Words)
	default:
		row("state", "read-only")
	}
	row("mount", "%s", orNone(Printable(s.Mount)))
	row("link", "%s", s.Hyphalink)
	row("listening", "%s", orNone(strings.Join(s.Listen, " ")))
	row("to publish", "%s", amount(s.Unpublished.Files, "file", s.Unpublished.Bytes))
	row("missing", "%s", amount(s.Missing.Blocks, "block", s.Missing.Bytes))
	row("requests", "%s", counted(s.Pending, "hyphafs pending"))
	row("conflicts", "%s", counted(s.Conflicts, "ls .hypha/conflicts"))
	row("peers", "%d", len(s.Peers))
	for _, p := range s.Peers {
		fmt.Fprintf(&b, "  %s %s, %v, down %s, up %s\n", Printable(p.URL), Printable(p.Kind), time.Duration(p.Connected)*time.Second, Bytes(p.Down), Bytes(p.Up))
		if p.Refuses != "" {
			fmt.Fprintf(&b, "    takes nothing more: %s\n", Printable(p.Refuses))
		}
	}
	for _, p := range s.Unconnected {
		fmt.Fprintf(&b, "  %s not connected: %s\n", Printable(p.URL), Printable(p.Reason))
	}
	row("feeds", "%d", len(s.Feeds))
	for _, f := range s.Feeds {
		fmt.Fprintf(&b, "  %.8s %s, %d of %d blocks\n", f.Key, Printable(f.Writer), f.Have, f.Length)
	}
	return []byte(b.String())
}

// Brief returns s in one line without names, addresses and keys. err is what kept s from being complete.
func Brief(s Status, err error) string {
	state := "read-only"
	switch {
	case s.Writable:
		state = "writable"
	case s.Words != "":
		state = "read-only, waiting for approval"
	}
	if len(s.Peers) == 1 {
		state += ", 1 peer"
	} else {
		state += fmt.Sprintf(", %d peers", len(s.Peers))
	}
	if err != nil || len(s.Alarms) > 0 {
		state += ", ALARM: see hyphafs status"
	}
	return state
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func amount(n uint64, unit string, bytes uint64) string {
	switch n {
	case 0:
		return "nothing"
	case 1:
		return "1 " + unit + ", " + Bytes(bytes)
	}
	return strconv.FormatUint(n, 10) + " " + unit + "s, " + Bytes(bytes)
}

func counted(n int, how string) string {
	if n == 0 {
		return "none"
	}
	return strconv.Itoa(n) + " (" + how + ")"
}

// Bytes shows n in binary units with at most one decimal.
func Bytes(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	f, unit := float64(n)/1024, 0
	for f >= 1023.95 && unit < 5 {
		f, unit = f/1024, unit+1
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + "KMGTPE"[unit:unit+1] + "iB"
}

// Printable replaces what could change a terminal (control and format characters, bidi among them, and bytes that are no
// text) by a replacement character.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
