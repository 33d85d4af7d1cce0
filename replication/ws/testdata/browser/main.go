// Browser is a peer as a page would be one: built for js/wasm, it fetches the feed KEY from URL with the browser's WebSocket, appends nothing, and prints how
// many blocks it has once that is WANT. With TEXT it waits for the session to end and prints why.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"hyphafs.org/hyphafs/drive/hypercore"
	"hyphafs.org/hyphafs/replication"
	"hyphafs.org/hyphafs/replication/ws"
)

// one is a set of one feed.
type one struct{ *hypercore.Feed }

func (o one) Source() hypercore.Key     { return o.Key() }
func (o one) Feeds() []replication.Feed { return []replication.Feed{o} }
func (o one) Stored(replication.Feed)   {}

func main() {
	key, err := hypercore.ParseKey(os.Getenv("KEY"))
	must(err)
	want, err := strconv.ParseUint(os.Getenv("WANT"), 10, 64)
	must(err)
	feed, err := hypercore.Open(hypercore.NewMemory(), key, hypercore.Options{})
	must(err)
	node, err := replication.New(replication.Config{Feeds: one{feed}})
	must(err)
	changed, stop := feed.Watch()
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ws.DialOnce(ctx, node, os.Getenv("URL"), key) }() // main receives from it
	for feed.Have() < want {
		select {
		case <-changed:
		case err := <-ended:
			fmt.Println("ended:", err)
			return
		}
	}
	must(feed.Check(ctx))
	fmt.Println("blocks:", feed.Have())
	cancel()
	fmt.Println("ended:", <-ended)
}

func must(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}
