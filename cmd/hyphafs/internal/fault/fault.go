// Package fault gives the errors that end a hyphafs command: each has an exit code of the contract, says what went
// wrong and why, and what a person can do next. It knows no command and imports nothing of hyphafs.
package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Code is an exit code. Scripts rely on the numbers.
type Code int

// The exit codes of every command.
const (
	Done            Code = iota // 0: done
	Failed                      // 1: failed
	Usage                       // 2: the command line does not say what to do
	NotApproved                 // 3: this node may not write yet
	NotRunning                  // 4: no node runs there
	WrongPassphrase             // 5: passphrase or domain do not open this node
	Busy                        // 6: already mounted, locked or in use
	Damaged                     // 7: the store is damaged
)

// Error ends a command.
type Error struct {
	Code Code
	Err  error  // what and why; nil: the code alone is the answer, and nothing is printed
	Next string // what to do next; may be empty
}

// New makes an Error; format and args are those of fmt.Errorf, %w included.
func New(code Code, next, format string, args ...any) *Error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...), Next: next}
}

// Error returns one line: what, why; what to do next. It is empty when there is nothing to say.
func (e *Error) Error() string {
	if e.Err == nil {
		return ""
	}
	line := OneLine(e.Err.Error())
	if e.Next != "" {
		line += "; " + e.Next
	}
	return line
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the exit code that err stands for: Done for nil, Failed if nothing in its chain says otherwise.
func CodeOf(err error) Code {
	if err == nil {
		return Done
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Failed
}

// Parts takes err apart for a message to another process: its code, what and why in one line, and what to do next. A step that was wrapped stays part
// of the line.
func Parts(err error) (code Code, text, next string) {
	if e, ok := err.(*Error); ok && e.Err != nil {
		return e.Code, OneLine(e.Err.Error()), e.Next
	}
	return CodeOf(err), OneLine(err.Error()), ""
}

// OneLine joins the lines of s, so that an error never takes more than one.
func OneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), ", ")
}
