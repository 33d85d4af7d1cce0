package node

import (
	"time"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/state"
)

// Settings say how a node runs. They hold no secret and cross to the background process as JSON.
type Settings struct {
	State       state.Dir     `json:"state"`
	Config      state.Config  `json:"config"` // domain, role, name, peers, addresses: what the state directory remembers, or will
	New         bool          `json:"new"`    // the state directory holds no node yet
	AllowClear  bool          `json:"allow_clear"`
	TrustStore  bool          `json:"trust_store"` // the state directory is no older copy of itself, whatever its stamp says
	Mount       string        `json:"mount"`       // absolute
	AllowOther  bool          `json:"allow_other"`
	ReadOnly    bool          `json:"read_only"`
	ShowControl bool          `json:"show_control"`
	Options     []string      `json:"options"` // for the kernel
	ReadTimeout time.Duration `json:"read_timeout"`
	LogLevel    string        `json:"log_level"`
	LogFormat   string        `json:"log_format"`
}
