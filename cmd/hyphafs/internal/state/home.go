package state

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
)

// Home returns the folder that holds the state directories of this user, one a domain: $XDG_DATA_HOME/hyphafs, or
// ~/.local/share/hyphafs. getenv is os.Getenv; a service without HOME is looked up in the user database.
func Home(getenv func(string) string) (string, error) {
	if data := getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "hyphafs"), nil
	}
	home := getenv("HOME")
	if home == "" {
		u, err := user.Current()
		if err != nil {
			return "", fmt.Errorf("neither XDG_DATA_HOME nor HOME is set: %w", err)
		}
		home = u.HomeDir
	}
	return filepath.Join(home, ".local/share/hyphafs"), nil
}

// ForDomain returns the state directory of domain below home.
func ForDomain(home, domain string) (Dir, error) {
	if domain == "" || domain == "." || domain == ".." || strings.ContainsAny(domain, "/\x00") {
		return "", fmt.Errorf("the domain %q cannot name a folder", domain)
	}
	return Dir(filepath.Join(home, domain)), nil
}

// Nodes lists the state directories below home that hold a node, ascending. A missing home holds none.
func Nodes(home string) ([]Dir, error) {
	entries, err := os.ReadDir(home)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []Dir
	for _, e := range entries {
		d := Dir(filepath.Join(home, e.Name()))
		if _, err := os.Stat(filepath.Join(string(d), "config.json")); err == nil {
			found = append(found, d)
		}
	}
	return found, nil
}
