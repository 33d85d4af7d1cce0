package fs

import (
	"context"
	"slices"
	"strings"

	"hyphafs.org/hyphafs/drive"
)

// requestItems are the open requests, one directory each.
func (t *tree) requestItems(context.Context) ([]item, error) {
	var items []item
	for _, r := range t.pending.Requests() {
		if fileName(r.Dir) {
			items = append(items, t.requestItem(r.Dir))
		}
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	return items, nil
}

const (
	approveHelp = "Lets this node write to your Hypha, from now on and everywhere.\n" +
		"First compare the six words in the file \"words\" with those on the other screen.\n" +
		"Then touch this file, or write its name into it.\n"
	denyHelp = "Refuses this node's request, and later ones of the same key until it is approved.\n" +
		"To do so touch this file, or write its name into it.\n"
)

// requestItem is the directory of one request. It is not there any more once the request was answered or is too old.
func (t *tree) requestItem(dir string) item {
	find := func() (Request, error) {
		for _, r := range t.pending.Requests() {
			if r.Dir == dir {
				return r, nil
			}
		}
		return Request{}, drive.ErrNotExist
	}
	return dirItem(dir, func(context.Context) ([]item, error) {
		if _, err := find(); err != nil {
			return nil, err
		}
		return []item{
			intentItem("approve", "approve", approveHelp, func(ctx context.Context) error { return t.pending.Approve(ctx, dir) }),
			intentItem("deny", "deny", denyHelp, func(ctx context.Context) error { return t.pending.Deny(ctx, dir) }),
			textItem("request.json", textMode, func(context.Context) ([]byte, error) {
				r, err := find()
				return r.JSON, err
			}),
			textItem("words", textMode, func(context.Context) ([]byte, error) {
				r, err := find()
				return []byte(r.Words), err
			}),
		}, nil
	})
}
