package main

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/prompt/prompttest"
)

// person answers a sign-up that makes a passphrase: wrong at first, then as it was shown.
type person struct {
	keyboard io.Writer
	shown    bytes.Buffer
	answered int // questions answered so far
	err      error
}

var generated = regexp.MustCompile(`(?m)^    (([a-z-]+ ){7}[a-z-]+)$`)

func (p *person) Write(b []byte) (int, error) {
	p.shown.Write(b)
	questions := strings.Count(p.shown.String(), "(empty: make a strong one): ") + strings.Count(p.shown.String(), "Type it to go on: ")
	for ; p.answered < questions; p.answered++ {
		answer := "\n"
		switch made := generated.FindStringSubmatch(p.shown.String()); {
		case p.answered == 1:
			answer = "something else\n"
		case p.answered > 1 && made != nil:
			answer = strings.ReplaceAll(made[1], " ", "  ") + "\n"
		}
		if _, err := io.WriteString(p.keyboard, answer); err != nil {
			p.err = err
		}
	}
	return len(b), nil
}

func TestAMadePassphraseIsConfirmed(t *testing.T) {
	keyboard, terminal := prompttest.Open(t)
	dir := t.TempDir()
	someone := &person{keyboard: keyboard}
	var out bytes.Buffer
	args := []string{"hyphafs", "sign-up", "--domain", "anna.example", "--state", dir + "/state"}
	if code := run(t.Context(), args, terminal, &out, someone); code != int(fault.Done) || someone.err != nil {
		t.Fatalf("exit %d, %v\n%s", code, someone.err, someone.shown.String())
	}
	made := generated.FindStringSubmatch(someone.shown.String())
	if made == nil || someone.answered != 3 {
		t.Fatalf("%d answers to\n%s", someone.answered, someone.shown.String())
	}
	if err := os.WriteFile(dir+"/p", []byte(made[1]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := run(t.Context(), []string{"hyphafs", "check", "--state", dir + "/state", "--passphrase-file", dir + "/p"}, nil, io.Discard, &out); code != int(fault.Done) {
		t.Errorf("the passphrase shown does not open the node: exit %d, %s", code, out.String())
	}
}
