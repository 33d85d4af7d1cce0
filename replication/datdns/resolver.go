package datdns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Time is how long a lookup may take.
const Time = 5 * time.Second

const (
	maxHeader    = 16 << 10 // bytes
	maxRedirects = 3
)

// Resolver looks records up. It may be used by several goroutines.
type Resolver struct{ client http.Client }

// NewResolver returns a resolver that asks through transport; nil: one of its own, with the system's roots, and proxies from the environment.
func NewResolver(transport http.RoundTripper) *Resolver {
	if transport == nil {
		transport = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DisableKeepAlives:      true, // one question a host and hour
			MaxResponseHeaderBytes: maxHeader,
			ForceAttemptHTTP2:      true,
		}
	}
	return &Resolver{http.Client{Transport: transport, CheckRedirect: sameHost}}
}

// sameHost lets a host point to another place of its own, and to nobody else.
func sameHost(next *http.Request, before []*http.Request) error {
	if next.URL.Scheme != "https" || next.URL.Host != before[0].URL.Host {
		return errors.New("redirected to elsewhere")
	}
	if len(before) > maxRedirects {
		return errors.New("redirected too often")
	}
	return nil
}

// Lookup asks host, a name as HostName gives it, for its record. ErrNone: it has none. ErrMalformed: it has something else there. Other errors say why it could not be asked.
func (r *Resolver) Lookup(ctx context.Context, host string) (rec Record, err error) {
	ctx, cancel := context.WithTimeout(ctx, Time)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+Path, nil)
	if err != nil {
		return rec, err
	}
	req.Header.Set("User-Agent", "hyphafs")
	req.Header.Set("Accept", "text/plain, */*")
	answer, err := r.client.Do(req)
	if err != nil {
		return rec, err
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	switch {
	case answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusGone:
		return rec, ErrNone
	case answer.StatusCode != http.StatusOK:
		return rec, fmt.Errorf("it answered %q", answer.Status)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxRecord+1))
	if err != nil {
		return rec, err
	}
	return Parse(text)
}
