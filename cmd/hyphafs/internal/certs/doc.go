// Package certs gives an HTTPS server its certificates: from two files, or from a certificate authority by ACME (RFC 8555). It imports nothing of hyphafs.
//
// # Files
//
// They are read at the start, which fails if they do not belong together, and again when a handshake finds that one of them was replaced. What cannot be read then, as
// in the middle of a renewal, is logged, and the old certificate stays in use.
//
// # ACME
//
// golang.org/x/crypto's autocert asks for a certificate of each name, by TLS-ALPN-01 on the HTTPS port and HTTP-01 on port 80, and renews it 30 days before it ends. Its
// account and keys are plain files in a directory of mode 0700 in the state directory. [ACME.Run] asks as soon as the server listens, so that the first visitor does not wait and an operator
// finds in the log why there is none. After a failure it waits two minutes, doubling to an hour: authorities lock out who fails often. Whoever names a
// domain agrees to the terms of the authority.
//
// # TLS
//
// Version 1.2 at least, Go's choice of ciphers and curves, HTTP/1.1 only: WebSocket needs no more.
package certs
