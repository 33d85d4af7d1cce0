package s3

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// location is what a URL and the environment say about where a bucket is.
type location struct {
	endpoint string // host or host:port
	secure   bool
	own      bool // an endpoint of one's own, not Amazon's
	region   string
	bucket   string
	prefix   string // empty, or ends in a slash
}

const amazon = "s3.amazonaws.com"

// parse reads a URL as the package comment describes. getenv is os.Getenv, but in tests.
func parse(raw string, getenv func(string) string) (location, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return location{}, errors.New("the store is not a URL such as s3://bucket/prefix") // the words of err have the URL in them
	case u.User != nil:
		return location{}, errors.New("credentials belong into the environment or into ~/.aws/credentials, not into the URL of the store")
	case u.Scheme != "s3" || u.Host == "" || u.Port() != "" || u.Fragment != "":
		return location{}, errors.New("the store has to be s3://BUCKET/PREFIX; a server is named with ?endpoint=URL")
	}
	query := u.Query()
	for name := range query {
		if name != "endpoint" && name != "region" {
			return location{}, fmt.Errorf("the URL of the store has a parameter %q: endpoint and region are known", name)
		}
	}
	l := location{bucket: u.Host, prefix: strings.Trim(u.Path, "/")}
	if strings.Contains("/"+l.prefix+"/", "//") && l.prefix != "" || strings.Contains("/"+l.prefix+"/", "/../") || strings.Contains("/"+l.prefix+"/", "/./") {
		return location{}, errors.New("the prefix of the store has an empty part, or one that is a dot or two")
	}
	if l.prefix != "" {
		l.prefix += "/"
	}
	l.region = first(query.Get("region"), getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"), "us-east-1")
	return l, l.server(first(query.Get("endpoint"), getenv("AWS_ENDPOINT_URL_S3"), getenv("AWS_ENDPOINT_URL")))
}

// server takes up the endpoint, empty for Amazon's.
func (l *location) server(endpoint string) error {
	if endpoint == "" {
		l.endpoint, l.secure = amazon, true
		return nil
	}
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.User != nil || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("the endpoint of the store has to be http://HOST:PORT or https://HOST:PORT")
	}
	l.endpoint, l.secure, l.own = u.Host, u.Scheme == "https", true
	return nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// environment is os.Getenv, named for what it is used for.
func environment(name string) string { return os.Getenv(name) }
