package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func made(t *testing.T) Dir {
	t.Helper()
	d := Dir(filepath.Join(t.TempDir(), "data", "anna.example"))
	if err := d.Make(); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMakeIsPrivate(t *testing.T) {
	d := made(t)
	if err := os.Chmod(string(d), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.Make(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(string(d))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Dir(file).Make(); err == nil {
		t.Error("a file was taken for a directory")
	}
}

func TestConfigComesBack(t *testing.T) {
	d := made(t)
	if _, err := d.Config(); !errors.Is(err, ErrNoNode) {
		t.Errorf("empty directory: %v", err)
	}
	want := Config{Version: version, Domain: "anna.example", Role: SignIn, Name: "Laptop", Peers: []string{"tcp://h:1"}, NoDiscovery: true}
	if err := d.SetConfig(want); err != nil {
		t.Fatal(err)
	}
	got, err := d.Config()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	info, err := os.Stat(filepath.Join(string(d), "config.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	left, err := os.ReadDir(string(d))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAbandonLeavesNodesAlone(t *testing.T) {
	d := made(t)
	lock, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	d.Abandon()
	if _, err := os.Stat(string(d)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an attempt is left: %v", err)
	}
	if err := errors.Join(d.Make(), d.SetConfig(Config{Domain: "anna.example", Role: SignUp})); err != nil {
		t.Fatal(err)
	}
	d.Abandon()
	if _, err := d.Config(); err != nil {
		t.Errorf("a node was removed: %v", err)
	}
}

func TestConfigRefusesDamage(t *testing.T) {
	d := made(t)
	for _, text := range []string{"", "{", "null", `{"version":0,"domain":"x","role":"sign-in"}`, `{"version":1,"role":"sign-in"}`,
		`{"version":1,"domain":"x","role":"?"}`, strings.Repeat(" ", maxFile+1)} {
		if err := os.WriteFile(filepath.Join(string(d), "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Config(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func TestConfigOfLater(t *testing.T) {
	d := made(t)
	if err := os.WriteFile(filepath.Join(string(d), "config.json"), fmt.Appendf(nil, `{"version":%d,"domain":"x","role":"sign-in"}`, version+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Config(); !errors.Is(err, ErrNewer) || errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

// TestUpgrade: a directory of before is taken over with all it says; programs of before refuse it from then on.
func TestUpgrade(t *testing.T) {
	d := made(t)
	path := filepath.Join(string(d), "config.json")
	if err := os.WriteFile(path, []byte(`{"version":1,"domain":"anna.example","role":"sign-in","name":"Laptop","peers":["tcp://h:1"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Upgrade(); err != nil {
		t.Fatal(err)
	}
	c, err := d.Config()
	if want := (Config{Version: version, Domain: "anna.example", Role: SignIn, Name: "Laptop", Peers: []string{"tcp://h:1"}}); err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, %v", c, err)
	}
	if err := os.WriteFile(path, []byte(`{"version":1000,"domain":"anna.example","role":"sign-in"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Upgrade(); !errors.Is(err, ErrNewer) {
		t.Errorf("of a later version: %v", err)
	}
}

func TestKeyComesBack(t *testing.T) {
	d := made(t)
	if _, err := d.Key(); !errors.Is(err, ErrNoNode) {
		t.Errorf("no key yet: %v", err)
	}
	for _, want := range []string{"first", "second"} {
		if err := d.SetKey([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Key(); err != nil || string(got) != want {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

func TestPinComesBack(t *testing.T) {
	d := made(t)
	if p, err := d.Pin(); p != nil || err != nil {
		t.Errorf("nothing learnt yet: %v, %v", p, err)
	}
	changed := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, want := range []Pin{{Host: "anna.example", Since: changed}, {Host: "anna.example", Since: changed, Changed: &changed}} {
		if err := d.SetPin(want); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Pin(); err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%v became %v, %v", want, got, err)
		}
	}
	for _, bad := range []string{"{}", "x", `{"host":"a.example"}`, `{"since":"2026-01-02T03:04:05Z"}`} {
		if err := WriteFile(filepath.Join(string(d), "domain.json"), []byte(bad)); err != nil {
			t.Fatal(err)
		}
		if p, err := d.Pin(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, %v", bad, p, err)
		}
	}
}

func TestScratch(t *testing.T) {
	d := made(t)
	if got, err := d.Scratch(); got != nil || err != nil {
		t.Errorf("without a file: %q, %v", got, err)
	}
	for text, want := range map[string][]string{"# mine\n*.tmp\n\n .#*\n": {"*.tmp", ".#*"}, "\n": {}} {
		if err := WriteFile(filepath.Join(string(d), "scratch-names"), []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Scratch(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
	if err := WriteFile(filepath.Join(string(d), "scratch-names"), []byte("[\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Scratch(); !errors.Is(err, ErrDamaged) {
		t.Errorf("a bad pattern: %v", err)
	}
}

func TestLockIsExclusive(t *testing.T) {
	d := made(t)
	first, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Lock(); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "pid "+strconv.Itoa(os.Getpid())) {
		t.Errorf("second lock: %v", err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	second, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Release(); err != nil {
		t.Error(err)
	}
}

func TestHome(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"XDG_DATA_HOME": "/data", "HOME": "/h"}, "/data/hyphafs"},
		{map[string]string{"XDG_DATA_HOME": "relative", "HOME": "/h"}, "/h/.local/share/hyphafs"},
		{map[string]string{"HOME": "/h"}, "/h/.local/share/hyphafs"},
	} {
		got, err := Home(func(k string) string { return c.env[k] })
		if err != nil || got != c.want {
			t.Errorf("%v: %q, %v", c.env, got, err)
		}
	}
	if got, err := Home(func(string) string { return "" }); err != nil || !filepath.IsAbs(got) {
		t.Errorf("without HOME: %q, %v", got, err)
	}
}

func TestNodes(t *testing.T) {
	home := t.TempDir()
	if got, err := Nodes(filepath.Join(home, "missing")); err != nil || got != nil {
		t.Errorf("missing home: %v, %v", got, err)
	}
	for _, domain := range []string{"b.example", "a.example", "unfinished"} {
		d, err := ForDomain(home, domain)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Make(); err != nil {
			t.Fatal(err)
		}
		if domain == "unfinished" {
			continue
		}
		if err := d.SetConfig(Config{Domain: domain, Role: SignUp}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Nodes(home)
	if err != nil || !reflect.DeepEqual(got, []Dir{Dir(home + "/a.example"), Dir(home + "/b.example")}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestForDomainRefusesPaths(t *testing.T) {
	for _, domain := range []string{"", ".", "..", "a/b", "a\x00b"} {
		if got, err := ForDomain("/home", domain); err == nil {
			t.Errorf("%q became %q", domain, got)
		}
	}
}

// FuzzFiles: what is taken for a configuration is kept the same; patterns of scratch names that are taken can be matched with; all else is ErrDamaged, or of a
// newer version.
func FuzzFiles(f *testing.F) {
	f.Add([]byte(`{"version":7,"domain":"anna.example"}`))
	f.Add([]byte(`{"version":1,"domain":"anna.example","role":"sign-up","name":"Desktop","peers":["tcp://h:1"]}`))
	f.Add([]byte("# comment\n.*.sw?\n[a-\n"))
	dir := Dir(f.TempDir())
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{"config.json", "scratch-names", "domain.json"} {
			if err := os.WriteFile(filepath.Join(string(dir), name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if p, err := dir.Pin(); err != nil && !errors.Is(err, ErrDamaged) || err == nil && p.Host == "" {
			t.Fatalf("pin %v, %v", p, err)
		}
		c, err := dir.Config()
		if err == nil {
			text, err := json.Marshal(c)
			if err := errors.Join(err, os.WriteFile(filepath.Join(string(dir), "config.json"), text, 0o600)); err != nil {
				t.Fatal(err)
			}
			if again, err := dir.Config(); err != nil || !reflect.DeepEqual(again, c) {
				t.Fatalf("%+v became %+v (%v)", c, again, err)
			}
		} else if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
			t.Fatal(err)
		}
		patterns, err := dir.Scratch()
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		for _, p := range patterns {
			if _, err := path.Match(p, "name"); err != nil {
				t.Fatalf("%q: %v", p, err)
			}
		}
	})
}
