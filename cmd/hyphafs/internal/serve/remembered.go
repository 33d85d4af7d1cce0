package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
	"hyphafs.org/hyphafs/drive/hypercore"
)

// version is the format of the state directory.
const version = 1

// maxFile bounds serve.json, in bytes.
const maxFile = 64 << 10

// remembered is the content of serve.json.
type remembered struct {
	Version int    `json:"version"`
	Adopted string `json:"adopted,omitempty"` // read key, hex
}

// recall reads what the node in d remembers: the key of the Hypha that it adopted, zero without one.
func recall(d state.Dir) (adopted hypercore.Key, err error) {
	if _, err := d.Config(); !errors.Is(err, state.ErrNoNode) {
		return adopted, fault.New(fault.Failed, "take another --state", "a node that mounts lives in %s", d)
	}
	data, err := os.ReadFile(path(d))
	if errors.Is(err, os.ErrNotExist) {
		return adopted, nil
	}
	if err != nil {
		return adopted, err
	}
	adopted, err = parseRemembered(data)
	switch {
	case errors.Is(err, state.ErrNewer):
		return adopted, fault.New(fault.Failed, "use that version, or another --state", "%s: %w", path(d), err)
	case err != nil:
		return adopted, fault.New(fault.Damaged, "remove the file, and give the read key with --hypha", "%s: %w", path(d), err)
	}
	return adopted, nil
}

// parseRemembered reads serve.json: state.ErrNewer if a later version wrote it, state.ErrDamaged if it cannot be understood.
func parseRemembered(data []byte) (adopted hypercore.Key, err error) {
	var r remembered
	if len(data) > maxFile {
		return adopted, fmt.Errorf("%w: %d bytes", state.ErrDamaged, len(data))
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return adopted, fmt.Errorf("%w: %w", state.ErrDamaged, err)
	}
	switch {
	case r.Version > version:
		return adopted, fmt.Errorf("%w: its format is %d, this version knows %d", state.ErrNewer, r.Version, version)
	case r.Version != version:
		return adopted, fmt.Errorf("%w: format %d", state.ErrDamaged, r.Version)
	case r.Adopted == "":
		return adopted, nil
	}
	if adopted, err = hypercore.ParseKey(r.Adopted); err != nil {
		return adopted, fmt.Errorf("%w: %w", state.ErrDamaged, err)
	}
	return adopted, nil
}

// remember makes durable that the Hypha of key was adopted.
func remember(d state.Dir, key hypercore.Key) error {
	data, err := json.Marshal(remembered{Version: version, Adopted: key.String()})
	if err != nil {
		return err
	}
	return state.WriteFile(path(d), append(data, '\n'))
}

func path(d state.Dir) string { return filepath.Join(string(d), "serve.json") }
