package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/urfave/cli/v2"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/status"
)

func (p *program) serviceCommand() *cli.Command {
	return &cli.Command{
		Name: "service", Usage: "print a systemd unit: service serve for an always-on node, service mount for a mount",
		ArgsUsage: "serve or mount", Action: noUnit,
		Subcommands: prepare([]*cli.Command{{
			Name: "serve", Usage: "print a unit of the system's manager that runs an always-on node; flags are those of hyphafs serve",
			Flags: forUnit(serveFlags()), Action: p.serviceServe,
		}, {
			Name: "mount", Usage: "print a unit of the user's own manager that mounts a Hypha at DIR; flags are those of hyphafs mount",
			ArgsUsage: "DIR", Flags: forUnit(mountFlags()), Action: p.serviceMount,
		}}),
	}
}

func noUnit(c *cli.Context) error {
	return usageError(c, fmt.Errorf("service needs %s, not %q", c.Command.ArgsUsage, c.Args().First()), false)
}

// forUnit makes flags independent of the environment of who asks for a unit: the unit will run in another one.
func forUnit(flags []cli.Flag) []cli.Flag {
	for _, f := range flags {
		switch f := f.(type) {
		case *cli.StringFlag:
			f.EnvVars = nil
		case *cli.StringSliceFlag:
			f.EnvVars = nil
		case *cli.BoolFlag:
			f.EnvVars = nil
		case *cli.IntFlag:
			f.EnvVars = nil
		case *cli.DurationFlag:
			f.EnvVars = nil
		}
	}
	return flags
}

// unit is what the templates need.
type unit struct {
	Name        string // of the unit's file
	Subject     string // what it is about, for people
	State       string // of serve: the name of the state directory below /var/lib
	Start       string // ExecStart
	Credentials []string
}

// stateHome is where systemd keeps the state directories of system services.
const stateHome = "/var/lib"

// serveUnit is the unit of an always-on node. It runs as a user of its own that exists only while it runs, sees nothing of the machine but its
// state directory, and may do nothing but talk to the network. CAP_NET_BIND_SERVICE is for ports below 1024.
const serveUnit = `# Save this as /etc/systemd/system/{{.Name}}, then: systemctl enable --now {{.Name}}

[Unit]
Description=hyphafs always-on node
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={{.Start}}
{{- range .Credentials}}
LoadCredential={{.}}
{{- end}}
{{- if .Credentials}}
# Certificates are read when the service starts: restart it after a renewal.
{{- end}}
# What other users of this machine are not to see, in a file of mode 0600: the credentials of --store (AWS_ACCESS_KEY_ID=…, AWS_SECRET_ACCESS_KEY=…), or
# flags, such as HYPHAFS_HYPHA=<read key>.
EnvironmentFile=-/etc/{{.State}}.env
Restart=on-failure
RestartSec=5
# Usage, damaged store: trying again does not help.
RestartPreventExitStatus=2 7
# Opening many Hyphas takes its time.
TimeoutStartSec=15min
TimeoutStopSec=15
WatchdogSec=2min
# Upon SIGABRT a Go program writes down what it did and ends with 2, as after a usage error: it would not be started again.
WatchdogSignal=SIGKILL
LimitNOFILE=65536
LimitCORE=0

DynamicUser=yes
StateDirectory={{.State}}
StateDirectoryMode=0700
UMask=0077
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProcSubset=pid
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
PrivateIPC=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`

// mountUnit is the unit of a mount. It has none of systemd's sandboxing: what gives it a mount namespace of its own hides the mount from everybody else, and
// what implies NoNewPrivileges, nearly all of the rest in a user's manager, stops fusermount3 from mounting.
const mountUnit = `# Save this as ~/.config/systemd/user/{{.Name}}, then: systemctl --user enable --now {{.Name}}
# To have it before you log in and after you log out: loginctl enable-linger
# The sandbox settings of systemd are left out on purpose: they would hide the mount from you, or keep fusermount3 from mounting it.
# The node protects itself: no core dumps, no tracing, files for nobody else.

[Unit]
Description=Hypha at {{.Subject}}

[Service]
Type=notify
NotifyAccess=main
ExecStart={{.Start}}
{{- range .Credentials}}
LoadCredential={{.}}
{{- end}}
Restart=on-failure
RestartSec=10
# Usage, not approved, wrong passphrase, damaged store: trying again does not help.
RestartPreventExitStatus=2 3 5 7
KillMode=mixed
# A view that has to be made again from the feeds takes its time; so does publishing at the end.
TimeoutStartSec=15min
TimeoutStopSec=1min
WatchdogSec=5min
# Upon SIGABRT a Go program writes down what it did and ends with 2, as after a usage error: it would not be started again.
WatchdogSignal=SIGKILL
LimitCORE=0
UMask=0077

[Install]
WantedBy=default.target
`

func (p *program) serviceMount(c *cli.Context) error {
	args, err := arguments(c, 1, 1)
	if err != nil {
		return err
	}
	if c.String("passphrase-file") == "" || c.IsSet("passphrase-fd") {
		return fault.New(fault.Usage, "write it into a file of mode 0600 and say --passphrase-file", "a unit cannot ask for the passphrase")
	}
	if _, err := parseOptions(c.StringSlice("o")); err != nil {
		return err
	}
	dir, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	u := unit{Name: "hyphafs.service", Subject: specifiers(status.Printable(dir))}
	secret, err := credential("passphrase", c.String("passphrase-file"))
	if err != nil {
		return err
	}
	u.Credentials = []string{secret}
	line, err := commandLine(c, "foreground", "passphrase-file")
	if err != nil {
		return err
	}
	u.Start, err = startLine(slices.Concat([]string{"mount", "--foreground"}, line, []string{"--", dir}))
	if err != nil {
		return err
	}
	return printUnit(p.stdout, mountUnit, u)
}

func (p *program) serviceServe(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	u := unit{Name: "hyphafs.service", State: "hyphafs"}
	if given := c.String("state"); given != "" {
		u.State = filepath.Base(given)
		if filepath.Join(stateHome, u.State) != filepath.Clean(given) || word(u.State) != u.State {
			return fault.New(fault.Usage, "say --state "+stateHome+"/NAME", "the unit's user can write nowhere but below %s, not in %s", stateHome, given)
		}
	}
	if err := c.Set("state", filepath.Join(stateHome, u.State)); err != nil {
		return err
	}
	line, err := commandLine(c, "tls-cert", "tls-key")
	if err != nil {
		return err
	}
	if c.IsSet("store") {
		if err := c.Set("store", ""); err != nil { // its credentials are not here
			return err
		}
	}
	if _, err := serveSettings(c); err != nil {
		return err
	}
	start := slices.Concat([]string{"serve"}, line)
	for _, flag := range []string{"tls-cert", "tls-key"} {
		if path := c.String(flag); path != "" {
			secret, err := credential(flag, path)
			if err != nil {
				return err
			}
			u.Credentials = append(u.Credentials, secret)
		}
	}
	if u.Start, err = startLine(start); err != nil {
		return err
	}
	if len(u.Credentials) > 0 {
		u.Start += " --tls-cert=%d/tls-cert --tls-key=%d/tls-key"
	}
	return printUnit(p.stdout, serveUnit, u)
}

func printUnit(w io.Writer, text string, u unit) error {
	t, err := template.New(u.Name).Parse(text)
	if err != nil {
		return err
	}
	return t.Execute(w, u)
}

// commandLine returns the flags that c was given, but for without, as they are given to the command that the unit runs. Paths become absolute.
func commandLine(c *cli.Context, without ...string) ([]string, error) {
	var line []string
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		if !c.IsSet(name) || slices.Contains(without, name) {
			continue
		}
		values := []string{fmt.Sprint(c.Value(name))}
		switch f.(type) {
		case *cli.StringSliceFlag:
			values = c.StringSlice(name)
		case *cli.StringFlag:
			if name == "state" {
				path, err := filepath.Abs(values[0])
				if err != nil {
					return nil, err
				}
				values[0] = path
			}
		}
		dashes := "--"
		if len(name) == 1 {
			dashes = "-"
		}
		for _, v := range values {
			line = append(line, dashes+name+"="+v)
		}
	}
	return line, nil
}

// credential is the value of LoadCredential for a file: systemd reads it as who may, and shows it to the service alone.
func credential(name, path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if abs != status.Printable(abs) || strings.ContainsAny(abs, ":\\\"'") || strings.TrimSpace(abs) != abs {
		return "", fault.New(fault.Usage, "give it a plain name", "a unit cannot name the file %q", path)
	}
	return name + ":" + specifiers(abs), nil
}

// startLine is the value of ExecStart that runs this program with args.
func startLine(args []string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if strings.Contains(self, "$") {
		return "", fault.New(fault.Failed, "install it elsewhere", "a unit cannot run %q", self)
	}
	words := []string{word(self)}
	for _, a := range args {
		words = append(words, word(a))
	}
	return strings.Join(words, " "), nil
}

// word quotes s for ExecStart, so that systemd passes it on as it is: systemd.service(5), "Command lines".
func word(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@,+", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		switch {
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(rune(c)))
		case c == '%' || c == '$':
			b.WriteString(strings.Repeat(string(rune(c)), 2))
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// specifiers keeps systemd from expanding what is in s.
func specifiers(s string) string { return strings.ReplaceAll(s, "%", "%%") }
