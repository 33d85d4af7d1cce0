// Package background runs a node behind the command that starts it. The command re-executes the program in a session of its own, hands it what it
// has to do over a pipe, and returns when the node says that it is ready, or with the node's error.
//
//	descriptor 3, to the node     one line of JSON (the order), then the passphrase's bytes until the end
//	descriptor 4, to the command  lines of JSON: {"say":"…"} for the person, {"ready":true}, or {"code":5,"error":"…","next":"…"}
//
// Nothing secret is in arguments or the environment. The node's standard output and error are its log file, its input is empty, its working directory is the
// root, so that it pins no mount.
package background

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
)

const (
	orderFD   = 3
	reportFD  = 4
	maxOrder  = 1 << 20
	maxReport = 64 << 10
)

type report struct {
	Say   string     `json:"say,omitempty"`
	Ready bool       `json:"ready,omitempty"`
	Code  fault.Code `json:"code,omitempty"`
	Error string     `json:"error,omitempty"`
	Next  string     `json:"next,omitempty"`
}

// Start runs this program with args (the program's name first) in the background and waits until it is ready. say gets each line
// for the person, in order. log is the file that takes the node's output; it is kept by one older version. When ctx ends
// before the node is ready, the node is stopped.
func Start(ctx context.Context, args []string, order any, secret []byte, log string, say func(string)) error {
	return start(ctx, "/proc/self/exe", args, order, secret, log, say)
}

func start(ctx context.Context, program string, args []string, order any, secret []byte, log string, say func(string)) (err error) {
	out, err := openLog(log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	orderR, orderW, err := os.Pipe()
	if err != nil {
		return err
	}
	reportR, reportW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, orderR.Close(), orderW.Close())
	}
	defer func() { _ = reportR.Close() }()
	cmd := exec.Command(program)
	cmd.Args, cmd.Dir = args, "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{orderR, reportW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	err = errors.Join(err, orderR.Close(), reportW.Close())
	if err != nil {
		return errors.Join(err, orderW.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	if err := handOver(orderW, order, secret); err != nil {
		return errors.Join(fmt.Errorf("handing over to the node: %w", err), cmd.Process.Kill(), ignoreExit(cmd.Wait()))
	}
	ready, err := follow(reportR, say)
	switch {
	case ready:
		return cmd.Process.Release()
	case err == nil:
		err = fault.New(fault.Failed, "see "+log, "the node ended before it was ready")
	}
	waited := cmd.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(err, ignoreExit(waited))
}

// ignoreExit drops the child's exit code: its report has said more.
func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

func openLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > 4<<20 {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

func handOver(w *os.File, order any, secret []byte) error {
	line, err := json.Marshal(order)
	if err == nil {
		_, err = w.Write(append(line, '\n'))
	}
	if err == nil {
		_, err = w.Write(secret)
	}
	return errors.Join(err, w.Close())
}

// follow reads what the node says until it is ready, failed or gone.
func follow(r io.Reader, say func(string)) (ready bool, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxReport)
	for lines.Scan() {
		var rep report
		if err := json.Unmarshal(lines.Bytes(), &rep); err != nil {
			return false, fmt.Errorf("the node's report: %w", err)
		}
		switch {
		case rep.Ready:
			return true, nil
		case rep.Error != "" || rep.Code != fault.Done:
			return false, &fault.Error{Code: rep.Code, Err: errors.New(rep.Error), Next: rep.Next}
		default:
			say(rep.Say)
		}
	}
	return false, lines.Err()
}

// Node is the side of the process that Start made. It is used by one goroutine at a time.
type Node struct {
	reports *os.File // nil when there is nothing more to say
}

// Inherited reads the order into v and returns the secret, whose bytes the caller owns. It fails in a process that Start did not make.
func Inherited(v any) (n *Node, secret []byte, err error) {
	for _, fd := range []int{orderFD, reportFD} {
		var st syscall.Stat_t
		if err := syscall.Fstat(fd, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFIFO {
			return nil, nil, fmt.Errorf("descriptor %d is not the pipe of a starting command", fd)
		}
		syscall.CloseOnExec(fd)
	}
	reports := os.NewFile(reportFD, "report")
	secret, err = readOrder(os.NewFile(orderFD, "order"), v)
	if err != nil {
		return nil, nil, errors.Join(err, reports.Close())
	}
	return &Node{reports: reports}, secret, nil
}

func readOrder(f *os.File, v any) ([]byte, error) {
	in := bufio.NewReader(io.LimitReader(f, maxOrder))
	line, err := in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, v)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("order: %w", err), f.Close())
	}
	secret, err := io.ReadAll(in)
	return secret, errors.Join(err, f.Close())
}

// Say shows a line to the person who started the node. After Ready there is nobody to hear it.
func (n *Node) Say(line string) { n.send(report{Say: line}) }

// Ready ends the command that started the node.
func (n *Node) Ready() { n.end(report{Ready: true}) }

// Fail ends the command that started the node with err, if the node is not ready yet. It reports whether somebody heard it.
func (n *Node) Fail(err error) bool {
	if n.reports == nil {
		return false
	}
	var rep report
	rep.Code, rep.Error, rep.Next = fault.Parts(err)
	n.end(rep)
	return true
}

func (n *Node) end(rep report) {
	n.send(rep)
	if n.reports != nil {
		_ = n.reports.Close()
		n.reports = nil
	}
}

// send drops what cannot be told: the command was interrupted, and the node goes on or ends by its own reasons.
func (n *Node) send(rep report) {
	if n.reports == nil {
		return
	}
	if line, err := json.Marshal(rep); err == nil {
		_, _ = n.reports.Write(append(line, '\n'))
	}
}
