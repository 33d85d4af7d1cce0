package main

import (
	"path/filepath"
	"slices"
	"strings"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
)

// ignoredOptions are those of fstab that are for mount(8) and systemd, not for a file system.
var ignoredOptions = []string{"rw", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "defaults", "async", "atime"}

// kernelOptions are handed to the kernel as they are.
var kernelOptions = []string{"suid", "nosuid", "dev", "nodev", "exec", "noexec", "noatime", "relatime", "sync", "dirsync", "nodiratime"}

// boolOptions are flags of mount that an option may name; their dashes may be underscores.
var boolOptions = []string{"sign-up", "sign-in", "no-discovery", "allow-clear", "allow-other"}

// valueOptions are flags of mount that an option may give a value.
var valueOptions = []string{"domain", "name", "passphrase-file", "passphrase-fd", "state", "listen", "peer", "log-level", "log-format", "read-timeout"}

// options is what -o says.
type options struct {
	readOnly, showControl bool
	kernel                []string
	flags                 []string // as on the command line
}

// parseOptions reads comma-separated options; a backslash takes a comma or a backslash as it is.
func parseOptions(texts []string) (options, error) {
	var o options
	for _, text := range texts {
		for _, option := range splitOptions(text) {
			if err := o.add(option); err != nil {
				return options{}, err
			}
		}
	}
	return o, nil
}

func (o *options) add(option string) error {
	name, value, hasValue := strings.Cut(option, "=")
	flag := strings.ReplaceAll(name, "_", "-")
	switch {
	case option == "" || slices.Contains(ignoredOptions, option) || strings.HasPrefix(name, "x-") || name == "comment":
	case option == "ro":
		o.readOnly = true
	case option == "show_control" || option == "show-control":
		o.showControl = true
	case !hasValue && slices.Contains(kernelOptions, option):
		o.kernel = append(o.kernel, option)
	case !hasValue && slices.Contains(boolOptions, flag):
		o.flags = append(o.flags, "--"+flag)
	case hasValue && slices.Contains(valueOptions, flag):
		o.flags = append(o.flags, "--"+flag+"="+value)
	default:
		return fault.New(fault.Usage, "see -o in hyphafs mount --help; any flag there is one as name=value", "there is no mount option %q", option)
	}
	return nil
}

func splitOptions(text string) []string {
	var all []string
	var one strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && (text[i+1] == ',' || text[i+1] == '\\'):
			i++
			one.WriteByte(text[i])
		case text[i] == ',':
			all = append(all, one.String())
			one.Reset()
		default:
			one.WriteByte(text[i])
		}
	}
	return append(all, one.String())
}

// fromFstab turns `mount.hyphafs SOURCE DIR [-sfnv] [-t TYPE] [-o OPTIONS]` into the arguments of mount. SOURCE is a state directory if it has a
// slash, else a domain; "hyphafs" and "none" say nothing.
func fromFstab(args []string) ([]string, error) {
	out := []string{"hyphafs", "mount"}
	var plain []string
	for i := 1; i < len(args); i++ {
		switch a := args[i]; {
		case a == "-o" || a == "-t" || a == "-N":
			i++
			if i == len(args) {
				return nil, fault.New(fault.Usage, "", "mount.hyphafs: %s needs a value", a)
			}
			if a == "-o" {
				out = append(out, "-o", args[i])
			}
		case a == "-h" || a == "--help":
			return []string{"hyphafs", "mount", "--help"}, nil
		case strings.HasPrefix(a, "-o"):
			out = append(out, "-o", a[2:])
		case strings.HasPrefix(a, "-"):
			if strings.Trim(a, "-sfnvrw") != "" {
				return nil, fault.New(fault.Usage, "use -o", "mount.hyphafs: there is no flag %s", a)
			}
			if strings.Contains(a, "r") {
				out = append(out, "-o", "ro")
			}
		default:
			plain = append(plain, a)
		}
	}
	if len(plain) != 2 {
		return nil, fault.New(fault.Usage, "type mount.hyphafs DOMAIN-OR-STATE DIR [-o OPTIONS]", "mount.hyphafs needs a source and a directory")
	}
	switch source := plain[0]; {
	case source == "hyphafs" || source == "none":
	case strings.Contains(source, "/"):
		out = append(out, "--state="+filepath.Clean(source))
	default:
		out = append(out, "--domain="+source)
	}
	return append(out, "--", plain[1]), nil
}
