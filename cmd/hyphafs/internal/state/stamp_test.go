package state

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// doubt returns what Doubt says of d.
func doubt(t *testing.T, d Dir) string {
	t.Helper()
	why, err := d.Doubt()
	if err != nil {
		t.Fatal(err)
	}
	return why
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func TestStamp(t *testing.T) {
	d := made(t)
	if why := doubt(t, d); why != "" {
		t.Errorf("a directory without a stamp: %s", why)
	}
	for _, mark := range []func(Dir) error{Running, Running, Stopped, Running, Stopped} {
		if err := mark(d); err != nil {
			t.Fatal(err)
		}
		if why := doubt(t, d); why != "" {
			t.Errorf("where it was stamped: %s", why)
		}
	}
	other := Dir(string(d) + ".moved")
	if err := os.Rename(string(d), string(other)); err != nil {
		t.Fatal(err)
	}
	if why := doubt(t, other); why != "" {
		t.Errorf("renamed, it is the same directory: %s", why)
	}
	if left, err := filepath.Glob(filepath.Join(string(other), ".stamp*")); len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestStampOfACopy copies and restores a directory in the ways people do.
func TestStampOfACopy(t *testing.T) {
	for name, restore := range map[string]func(t *testing.T, d Dir, backup string) Dir{
		"copied": func(t *testing.T, d Dir, backup string) Dir { return Dir(backup) },
		"put back": func(t *testing.T, d Dir, backup string) Dir {
			run(t, "rm", "-rf", string(d))
			run(t, "cp", "-a", backup, string(d))
			return d
		},
		"put over": func(t *testing.T, d Dir, backup string) Dir { run(t, "cp", "-a", backup+"/.", string(d)); return d },
		"unreadable": func(t *testing.T, d Dir, _ string) Dir {
			if err := os.WriteFile(d.stampPath(), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
			return d
		},
		"another machine": func(t *testing.T, d Dir, _ string) Dir {
			text, err := os.ReadFile(d.stampPath())
			if err != nil {
				t.Fatal(err)
			}
			here := machine()
			if here == "" {
				t.Skip("this machine has no /etc/machine-id")
			}
			if err := os.WriteFile(d.stampPath(), []byte(strings.Replace(string(text), here, strings.Repeat("0", 32), 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, backup := made(t), filepath.Join(t.TempDir(), "backup")
			if err := Stopped(d); err != nil {
				t.Fatal(err)
			}
			run(t, "cp", "-a", string(d), backup)
			if err := Stopped(d); err != nil { // used once more
				t.Fatal(err)
			}
			d = restore(t, d, backup)
			if doubt(t, d) == "" {
				t.Error("it is taken for itself")
			}
			if err := Running(d); err != nil {
				t.Fatal(err)
			}
			if why := doubt(t, d); why != "" {
				t.Errorf("stamped anew: %s", why)
			}
		})
	}
}
