// Package ws carries replication over WebSocket: it dials and dials again (package redial), and it serves GET /hypha/<read key, 64 hex digits>. It knows HTTP and
// knows nothing of feeds; what is said on a connection is package replication's.
//
// # The stream
//
// Binary messages are a stream of bytes: where one ends means nothing, as npm websocket-stream 5.5.2 makes and takes them. No subprotocol, no compression. A message of text
// ends the connection. Messages are read piece by piece, so their length costs nothing.
//
// # Clear and encrypted
//
// Inside TLS (wss) a dialler does without the stream cipher, as browsers and always-on nodes of 2019 do; over ws it encrypts. Who accepts answers in kind: the URL named
// the read key, which is all that the cipher's key is, so that refusing the clear would protect nobody. For the same reason ws hides nothing from whoever sees the traffic, who
// learns the read key from the URL: it is for this machine, a network of one's own, and the way from a reverse proxy that has the certificate.
//
// # Browsers
//
// A page on any site may open a WebSocket to any address its visitor can reach. There is nothing of the visitor's in it (no cookie is looked at), and whoever knows the read
// key is served anyway, so this is not about who may read. But it would make visitors' browsers a way into networks that the page's owner cannot reach, and a way to wear a node out. So a
// request with an Origin is served if that is the host it was sent to, or one of Handler.Origins. Programs other than browsers send none.
//
// # Who is asked and who asks
//
// A request for a key that Handler.Find does not know gets 404 before anything is made for it. A dialler follows no redirect, since that would tell its read key to whoever is named there. Proxies come from
// HTTP_PROXY, HTTPS_PROXY and NO_PROXY and are asked to CONNECT, so they do not see it either. The key is in no error and no log; peers are shown by the URL without it.
//
// # Goroutines
//
// A session runs in the goroutine of its HTTP request. Serve waits for all of them; Dial has none of its own.
//
// # In the browser
//
// Dial uses the browser's WebSocket (js). There is no serving.
package ws
