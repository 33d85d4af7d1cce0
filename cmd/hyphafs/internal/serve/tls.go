package serve

import (
	"context"
	"crypto/tls"
	"net"

	"hyphafs.org/hyphafs/cmd/hyphafs/internal/certs"
	"hyphafs.org/hyphafs/cmd/hyphafs/internal/fault"
	"hyphafs.org/hyphafs/replication/gate"
	"hyphafs.org/hyphafs/replication/ws"
)

// secure puts TLS around web, if the settings say so; else it returns web.
func (n *Server) secure(web net.Listener) (net.Listener, error) {
	s := n.settings
	switch {
	case len(s.TLSDomains) > 0:
		acme := certs.FromACME(n.alive, s.TLSDomains, s.State.ACME(), s.ACMEDirectory, n.log)
		if err := n.listenClear(acme); err != nil {
			return web, err
		}
		n.part("certificates", acme.Run)
		return tls.NewListener(web, acme.TLS()), nil
	case s.TLSCert != "":
		files, err := certs.FromFiles(s.TLSCert, s.TLSKey, n.log)
		if err != nil {
			return web, fault.New(fault.Failed, "check --tls-cert and --tls-key", "%w", err)
		}
		return tls.NewListener(web, files.TLS()), nil
	}
	return web, nil
}

// listenClear serves what ACME needs on the port of clear HTTP.
func (n *Server) listenClear(acme *certs.ACME) error {
	address := n.settings.ClearHTTP
	if address == "" {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(n.alive, "tcp", address)
	if err != nil {
		return fault.New(fault.Failed, "take another --acme-http, or none", "listening at %s: %w", address, err)
	}
	n.part("clear http", func(ctx context.Context) error {
		return ws.Serve(ctx, gate.Listener{Listener: l, Gate: n.gate, Log: n.log}, careful(acme.Clear()), n.log)
	})
	return nil
}
