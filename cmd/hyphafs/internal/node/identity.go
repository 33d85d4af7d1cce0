package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"

	"hyphafs.org/hyphafs/auth"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication/datdns"
)

// keyPurpose names what node.key is sealed for.
const keyPurpose = "node.key"

// keyFile is the sealed content of node.key.
type keyFile struct {
	Source string `json:"source"`
	Writer []byte `json:"writer,omitempty"`
}

// identity is who this node is: what the passphrase gives, and the node's own writer key.
type identity struct {
	*auth.Identity
	writer ed25519.PrivateKey
	notice string // what to tell the person of the first mount
}

// identify derives the keys and opens those of the node, or makes them for a new node. A passphrase or domain that do not open the node are WrongPassphrase, and
// nothing was changed then. The caller wipes the result.
func identify(ctx context.Context, s *Settings, pass []byte) (*identity, error) {
	derived, err := auth.Derive(ctx, s.Config.Domain, auth.NewSecret(pass))
	if err != nil {
		return nil, err
	}
	debug.FreeOSMemory() // scrypt took 128 MiB
	id := &identity{Identity: derived}
	if s.New {
		err = id.create(ctx, s)
	} else {
		err = id.open(*s)
	}
	if err != nil {
		derived.Wipe()
		return nil, err
	}
	return id, nil
}

// create makes the node's own keys and makes the node exist. A sign-in without a peer asks the domain for one, which s has then.
func (id *identity) create(ctx context.Context, s *Settings) error {
	if _, err := s.State.Config(); !errors.Is(err, state.ErrNoNode) {
		return fault.New(fault.Busy, "try again", "a node appeared in %s meanwhile", s.State)
	}
	file := keyFile{Source: id.Source.String()}
	var pin *state.Pin
	if s.Config.Role == state.SignUp {
		id.writer = id.SourceSecret()
	} else {
		var err error
		if len(s.Config.Peers) == 0 && !s.Config.NoDiscovery {
			if pin, id.notice, err = discover(ctx, datdns.NewResolver(nil).Lookup, s, id.Source); err != nil {
				return err
			}
		}
		unchecked, err := probe(ctx, id.Source, s.Config.Peers)
		if err != nil {
			return err
		}
		if unchecked != "" {
			id.notice = unchecked
		}
		if id.writer, err = auth.NewWriterKey(rand.Reader); err != nil {
			return err
		}
		file.Writer = id.writer.Seed()
	}
	plain, err := json.Marshal(file)
	if err != nil {
		return err
	}
	defer clear(plain)
	sealed, err := auth.SealLocal(id.Identity, keyPurpose, plain)
	if err != nil {
		return err
	}
	if err := s.State.SetKey(sealed); err != nil {
		return err
	}
	if pin != nil {
		if err := s.State.SetPin(*pin); err != nil {
			return err
		}
	}
	return s.State.SetConfig(s.Config)
}

// open takes the node's own keys out of node.key.
func (id *identity) open(s Settings) error {
	sealed, err := s.State.Key()
	if err != nil {
		return damaged(err)
	}
	plain, err := auth.OpenLocal(id.Identity, keyPurpose, sealed)
	if errors.Is(err, auth.ErrWrongPassphrase) {
		return fault.New(fault.WrongPassphrase, "try again", "wrong passphrase for %s", s.Config.Domain)
	}
	if err != nil {
		return fmt.Errorf("node.key: %w", err)
	}
	defer clear(plain)
	file, err := parseKeyFile(plain, id.Source, s.Config.Role)
	if err != nil {
		return damaged(err)
	}
	if s.Config.Role == state.SignUp {
		id.writer = id.SourceSecret()
	} else {
		id.writer = ed25519.NewKeyFromSeed(file.Writer)
	}
	return nil
}

// parseKeyFile reads the content of the node.key of a node of source. state.ErrDamaged if it cannot be that.
func parseKeyFile(plain []byte, source hypercore.Key, role state.Role) (file keyFile, err error) {
	if err := json.Unmarshal(plain, &file); err != nil {
		return file, fmt.Errorf("node.key: %w: %w", state.ErrDamaged, err)
	}
	switch {
	case file.Source != source.String():
		return file, fmt.Errorf("node.key: %w: it is of another Hypha", state.ErrDamaged)
	case role != state.SignUp && len(file.Writer) != ed25519.SeedSize:
		return file, fmt.Errorf("node.key: %w: no writer key", state.ErrDamaged)
	}
	return file, nil
}

// wipe overwrites the secrets as far as Go allows it.
func (id *identity) wipe() {
	clear(id.writer)
	id.Wipe()
}

// refusalPurpose names what the list of refused requests is sealed for.
const refusalPurpose = "refusals"

// refusals keeps sealed which requests were refused. It is auth.Store.
type refusals struct {
	dir      state.Dir
	identity *auth.Identity
}

// Load returns what Save kept, nil at first.
func (r refusals) Load() ([]byte, error) {
	sealed, err := r.dir.Refusals()
	if errors.Is(err, state.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return auth.OpenLocal(r.identity, refusalPurpose, sealed)
}

// Save is durable when it returns.
func (r refusals) Save(plain []byte) error {
	sealed, err := auth.SealLocal(r.identity, refusalPurpose, plain)
	if err != nil {
		return err
	}
	return r.dir.SetRefusals(sealed)
}
