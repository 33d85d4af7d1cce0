package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"

	"github.com/urfave/cli/v2"

	"hyphafs.org/hyphafs/auth"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/node"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/prompt"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
)

// tries is how often a person may type a wrong passphrase.
const tries = 3

// withPassphrase makes sure that nobody uses the node that s describes, and calls do with its passphrase, which is wiped afterwards. A person who typed a wrong
// one is asked again.
func (p *program) withPassphrase(c *cli.Context, s node.Settings, do func(pass []byte) error) error {
	if err := free(s.State); err != nil {
		return err
	}
	for try := 1; ; try++ {
		pass, asked, err := p.passphrase(c.Context, c, s)
		if err != nil {
			return err
		}
		err = do(pass)
		clear(pass)
		if !asked || try == tries || fault.CodeOf(err) != fault.WrongPassphrase {
			return err
		}
		p.terminal.Say("%v", err)
	}
}

// free makes sure that nobody uses the state directory d. Whoever runs the node takes the lock for itself.
func free(d state.Dir) error {
	if _, err := d.Config(); errors.Is(err, state.ErrNoNode) {
		return nil
	}
	lock, err := node.Lock(d)
	if err != nil {
		return err
	}
	return lock.Release()
}

// passphrase returns the passphrase of the node that s describes: given, made on a sign-up, or asked for. The caller owns the bytes.
func (p *program) passphrase(ctx context.Context, c *cli.Context, s node.Settings) (pass []byte, asked bool, err error) {
	pass, err = p.given(c, s)
	if !errors.Is(err, prompt.ErrNoSource) {
		return pass, false, err
	}
	if !p.terminal.Interactive() {
		return nil, false, fault.New(fault.Usage, "say --passphrase-file or --passphrase-fd", "no passphrase was given, and no terminal can be asked")
	}
	if s.New && s.Config.Role == state.SignUp {
		pass, err = p.choose(ctx, s)
		return pass, true, err
	}
	pass, err = p.terminal.Secret(ctx, "Passphrase of "+s.Config.Domain)
	if err == nil && len(pass) == 0 {
		err = fault.New(fault.Usage, "", "the passphrase is empty")
	}
	return pass, true, err
}

// given returns the passphrase that the flags name, making the file of a sign-up; prompt.ErrNoSource if they name none.
func (p *program) given(c *cli.Context, s node.Settings) ([]byte, error) {
	signUp := s.New && s.Config.Role == state.SignUp
	source := prompt.Source{File: c.String("passphrase-file"), FD: c.Int("passphrase-fd"), Credentials: p.getenv("CREDENTIALS_DIRECTORY")}
	pass, err := source.Read()
	switch {
	case err == nil && signUp:
		return pass, strong(pass, s)
	case err == nil || errors.Is(err, prompt.ErrNoSource):
		return pass, err
	case signUp && source.FD < 0 && source.File != "" && errors.Is(err, fs.ErrNotExist):
		return p.makeFile(source.File)
	}
	return nil, fault.New(fault.Failed, "", "reading the passphrase: %w", err)
}

// strong refuses a passphrase that could be guessed.
func strong(pass []byte, s node.Settings) error {
	if err := auth.CheckPassphrase(string(pass), s.Config.Domain, s.Config.Name); err != nil {
		return fault.New(fault.Failed, "take the one that hyphafs passphrase makes", "the passphrase is weak: %w", err)
	}
	return nil
}

func (p *program) makeFile(path string) ([]byte, error) {
	made, err := auth.GeneratePassphrase(rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := prompt.Save(path, []byte(made)); err != nil {
		return nil, fmt.Errorf("writing the new passphrase: %w", err)
	}
	return []byte(made), nil
}

// choose lets a person choose a passphrase or confirm one that is made.
func (p *program) choose(ctx context.Context, s node.Settings) ([]byte, error) {
	for {
		pass, err := p.terminal.Secret(ctx, "Passphrase (empty: make a strong one)")
		if err != nil {
			return nil, err
		}
		if len(pass) == 0 {
			return p.confirmMade(ctx)
		}
		if err := strong(pass, s); err != nil {
			p.terminal.Say("%v", err)
			continue
		}
		again, err := p.terminal.Secret(ctx, "The same again")
		if err != nil {
			return nil, err
		}
		if bytes.Equal(pass, again) {
			return pass, nil
		}
		p.terminal.Say("These differ.")
	}
}

func (p *program) confirmMade(ctx context.Context) ([]byte, error) {
	made, err := auth.GeneratePassphrase(rand.Reader)
	if err != nil {
		return nil, err
	}
	p.terminal.Say("\n    %s\n\nWrite it down: it is shown only now, and nobody can tell it to you again.", made)
	for {
		typed, err := p.terminal.Secret(ctx, "Type it to go on")
		if err != nil {
			return nil, err
		}
		if bytes.Equal(bytes.Join(bytes.Fields(typed), []byte(" ")), []byte(made)) {
			return []byte(made), nil
		}
		p.terminal.Say("That is not it. It is: %s", made)
	}
}

func (p *program) passphraseCommand() *cli.Command {
	return &cli.Command{
		Name: "passphrase", Usage: "print a new passphrase of at least 100 bits",
		Action: func(c *cli.Context) error {
			if _, err := arguments(c, 0, 0); err != nil {
				return err
			}
			made, err := auth.GeneratePassphrase(rand.Reader)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.stdout, made)
			return err
		},
	}
}
