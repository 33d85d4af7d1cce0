package main

import (
	"io"
	"reflect"
	"strings"
	"testing"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
)

func TestParseOptions(t *testing.T) {
	got, err := parseOptions([]string{`rw,noauto,nofail,x-systemd.automount,ro`, `show_control,nosuid,dev,passphrase_file=/etc/a\,b,peer=tcp://h:1,allow_other,sign-in,comment=x`})
	want := options{readOnly: true, showControl: true, kernel: []string{"nosuid", "dev"},
		flags: []string{"--passphrase-file=/etc/a,b", "--peer=tcp://h:1", "--allow-other", "--sign-in"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"nonsense", "domain", "sign_in=yes", "foreground", "nosuid=1"} {
		if _, err := parseOptions([]string{bad}); fault.CodeOf(err) != fault.Usage {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestFromFstab(t *testing.T) {
	for in, want := range map[string]string{
		"mount.hyphafs /var/lib/hypha /mnt -o rw,noauto":      "hyphafs mount -o rw,noauto --state=/var/lib/hypha -- /mnt",
		"mount.hyphafs anna.example /mnt -s -n -v -orw":       "hyphafs mount -o rw --domain=anna.example -- /mnt",
		"mount.hyphafs none /mnt -r -t hyphafs -N /proc/1/ns": "hyphafs mount -o ro -- /mnt",
		"mount.hyphafs -h":            "hyphafs mount --help",
		"mount.hyphafs ./state/ /mnt": "hyphafs mount --state=state -- /mnt",
	} {
		got, err := fromFstab(strings.Fields(in))
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{"mount.hyphafs", "mount.hyphafs /mnt", "mount.hyphafs a b c", "mount.hyphafs a b -o", "mount.hyphafs a b -x"} {
		if _, err := fromFstab(strings.Fields(bad)); fault.CodeOf(err) != fault.Usage {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestReorder(t *testing.T) {
	app := (&program{stdout: io.Discard, stderr: io.Discard}).app()
	app.Setup()
	for in, want := range map[string]string{
		"hyphafs status DIR --json":         "hyphafs status --json -- DIR",
		"hyphafs mount DIR --domain d -f":   "hyphafs mount --domain d -f -- DIR",
		"hyphafs mount --peer=u DIR -o a,b": "hyphafs mount --peer=u -o a,b -- DIR",
		"hyphafs mount -f -- --odd":         "hyphafs mount -f -- --odd",
		"hyphafs status - --json":           "hyphafs status --json -- -",
		"hyphafs nonsense a --b":            "hyphafs nonsense a --b",
		"hyphafs --version":                 "hyphafs --version",
		"hyphafs":                           "hyphafs",
		"hyphafs mount DIR --domain":        "hyphafs mount --domain -- DIR",
		"hyphafs --help mount":              "hyphafs --help mount --",
	} {
		if got := strings.Join(reorder(app, strings.Fields(in)), " "); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

func FuzzParseOptions(f *testing.F) {
	f.Add(`ro,peer=tcp://h:1,a\,b\\`)
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseOptions([]string{text})
		if err != nil && fault.CodeOf(err) != fault.Usage {
			t.Errorf("%q: %v", text, err)
		}
		for _, flag := range o.flags {
			if !strings.HasPrefix(flag, "--") {
				t.Errorf("%q became the flag %q", text, flag)
			}
		}
	})
}

// FuzzFromFstab: what mount(8) gives becomes a mount of one folder, which cannot be taken for a flag, or a usage error.
func FuzzFromFstab(f *testing.F) {
	f.Add("/var/lib/hypha/anna\x00/mnt\x00-o\x00ro,passphrase_file=/etc/p\x00-n")
	f.Add("anna.example\x00--odd\x00-rw")
	f.Fuzz(func(t *testing.T, joined string) {
		args, err := fromFstab(append([]string{"mount.hyphafs"}, strings.Split(joined, "\x00")...))
		if err != nil {
			if fault.CodeOf(err) != fault.Usage {
				t.Fatal(err)
			}
			return
		}
		if args[1] != "mount" || args[len(args)-1] != "--help" && args[len(args)-2] != "--" {
			t.Fatalf("%q became %q", joined, args)
		}
	})
}
