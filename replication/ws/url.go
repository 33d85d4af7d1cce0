package ws

import (
	"errors"
	"net/url"
	"strings"

	"hyphafs.org/hyphafs/drive/hypercore"
)

// prefix is where Hyphas are served.
const prefix = "/hypha/"

// Check reports what is wrong with the URL of a peer or a listener: ws://host:port or wss://host. A peer may stand in a folder, wss://host/folder.
func Check(text string) error {
	_, err := parse(text)
	return err
}

func parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("not a URL")
	case u.Scheme != "ws" && u.Scheme != "wss":
		return nil, errors.New("not ws:// or wss://")
	case u.Hostname() == "":
		return nil, errors.New("a host is missing")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("only a host, a port and a folder may be given")
	case strings.Contains(u.Path, prefix):
		return nil, errors.New("the read key is added by itself")
	}
	return u, nil
}

// endpoint is where peer serves the Hypha of key.
func endpoint(peer string, key hypercore.Key) (address string, secure bool, err error) {
	u, err := parse(peer)
	if err != nil {
		return "", false, err
	}
	u = u.JoinPath(prefix, key.String())
	return u.String(), u.Scheme == "wss", nil
}

// keyOf is the read key that the path of a request names.
func keyOf(path string) (key hypercore.Key, ok bool) {
	digits, found := strings.CutPrefix(path, prefix)
	if !found {
		return key, false
	}
	key, err := hypercore.ParseKey(digits)
	return key, err == nil
}
