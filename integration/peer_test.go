package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// peer is a Node process running peers/peer.js: a real hyperdb 3.5.0.
type peer struct {
	t     *testing.T
	stdin io.WriteCloser

	mu      sync.Mutex // guards what follows
	next    int
	waiting map[int]chan answer
	events  []event
	changed chan struct{} // closed and replaced at each event
}

type answer struct {
	ID    int             `json:"id"`
	OK    json.RawMessage `json:"ok"`
	Error string          `json:"error"`
	event
}

type event struct {
	Event string `json:"event"`
	Text  string `json:"text"`
	Cause string `json:"-"`
}

// dbNode is one hyperdb node as the peer describes it; bytes are hex.
type dbNode struct {
	Key     string  `json:"key"`
	Value   *string `json:"value"`
	Deleted bool    `json:"deleted"`
	Feed    string  `json:"feed"`
	Seq     uint64  `json:"seq"`
}

// startPeer runs a Node peer until the test ends.
func startPeer(t *testing.T) *peer {
	t.Helper()
	needNode(t)
	cmd := exec.Command("node", "peer.js")
	cmd.Dir = "peers"
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := &lockedBuffer{}
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, stdin: stdin, waiting: map[int]chan answer{}, changed: make(chan struct{})}
	var reader sync.WaitGroup
	reader.Go(func() { p.read(stdout) })
	t.Cleanup(func() {
		if err := errors.Join(stdin.Close()); err != nil {
			t.Log(err)
		}
		reader.Wait()
		if err := cmd.Wait(); err != nil {
			t.Errorf("node peer: %v\n%s", err, stderr.String())
		}
	})
	return p
}

// read takes the peer's lines until it ends; answers go to who waits, events to the list.
func (p *peer) read(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var a answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			p.t.Errorf("node peer said %q", lines.Text())
			continue
		}
		p.mu.Lock()
		if wait, ok := p.waiting[a.ID]; ok && a.ID != 0 {
			delete(p.waiting, a.ID)
			wait <- a
		} else {
			a.Cause = a.Error
			p.events = append(p.events, a.event)
			close(p.changed)
			p.changed = make(chan struct{})
		}
		p.mu.Unlock()
	}
}

// do sends one command and decodes its answer into out, if out is not nil.
func (p *peer) do(command string, args map[string]any, out any) {
	p.t.Helper()
	if err := p.try(command, args, out); err != nil {
		p.t.Fatalf("node peer: %s: %v", command, err)
	}
}

func (p *peer) try(command string, args map[string]any, out any) error {
	line := map[string]any{"command": command}
	for k, v := range args {
		line[k] = v
	}
	wait := make(chan answer, 1)
	p.mu.Lock()
	p.next++
	line["id"] = p.next
	p.waiting[p.next] = wait
	p.mu.Unlock()
	b, err := json.Marshal(line)
	if err != nil {
		return err
	}
	if _, err := p.stdin.Write(append(b, '\n')); err != nil {
		return err
	}
	select {
	case a := <-wait:
		if a.Error != "" {
			return errors.New(a.Error)
		}
		if out == nil {
			return nil
		}
		return json.Unmarshal(a.OK, out)
	case <-time.After(patience):
		return fmt.Errorf("no answer within %v", patience)
	}
}

// await blocks until the peer has told of an event for which ok holds.
func (p *peer) await(what string, ok func(event) bool) event {
	p.t.Helper()
	limit := time.After(patience)
	for {
		p.mu.Lock()
		changed := p.changed
		for _, e := range p.events {
			if ok(e) {
				p.mu.Unlock()
				return e
			}
		}
		events := append([]event(nil), p.events...)
		p.mu.Unlock()
		select {
		case <-changed:
		case <-limit:
			p.t.Fatalf("node peer: no %s within %v; events: %+v", what, patience, events)
		}
	}
}
