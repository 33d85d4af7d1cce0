package drive

import (
	"crypto/sha256"
	"fmt"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"hyphafs.org/hyphafs/drive/record"
)

type mfile struct{ data []byte }

// TestModelWithCrashes: names and bytes against a plain map; kill -9, restarts and failing publishes in between.
func TestModelWithCrashes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := newWorld(t, 1)
		defer func() { a.Drive = nil }()
		names := map[string]*mfile{}
		type handle struct {
			f *File
			m *mfile
		}
		var open []handle
		pick := func(label string) string { return rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, label) }
		ctx := t.Context()
		check := func(when string) {
			var want, got []string
			for n, m := range names {
				want = append(want, fmt.Sprintf("%s %d %x", n, len(m.data), sha256.Sum256(m.data)))
			}
			es, err := a.ReadDir(ctx, record.Root)
			if err != nil {
				rt.Fatal(err)
			}
			for _, e := range es {
				s, err := a.read(e.ID)
				if err != nil {
					rt.Fatal(err)
				}
				got = append(got, fmt.Sprintf("%s %d %x", e.Name, len(s), sha256.Sum256([]byte(s))))
			}
			sort.Strings(want)
			sort.Strings(got)
			if w, g := strings.Join(want, "\n"), strings.Join(got, "\n"); w != g {
				rt.Fatalf("%s\nwant\n%s\ngot\n%s", when, w, g)
			}
		}
		reopen := func() { open = nil }
		// rt.Skip says that an action cannot be done in this state: rapid then draws another one.
		rt.Repeat(map[string]func(*rapid.T){
			"make": func(rt *rapid.T) {
				n := pick("name")
				if names[n] != nil {
					rt.Skip()
				}
				if _, err := a.Make(ctx, record.Root, n, NewInode{Kind: record.File, Mode: 0o644}); err != nil {
					rt.Fatal(err)
				}
				names[n] = &mfile{}
			},
			"open": func(rt *rapid.T) {
				n := pick("name")
				if names[n] == nil {
					rt.Skip()
				}
				at, err := a.Lookup(ctx, record.Root, n)
				if err != nil {
					rt.Fatal(err)
				}
				f, err := a.Drive.Open(ctx, at.ID, true)
				if err != nil {
					rt.Fatal(err)
				}
				open = append(open, handle{f, names[n]})
			},
			"write": func(rt *rapid.T) {
				if len(open) == 0 {
					rt.Skip()
				}
				h := open[rapid.IntRange(0, len(open)-1).Draw(rt, "h")]
				off := rapid.SampledFrom([]int{0, 5, 8192, 65530, 65536, 69632, 140000}).Draw(rt, "off")
				p := make([]byte, rapid.SampledFrom([]int{1, 20, 4096, 65536, 70000}).Draw(rt, "len"))
				seed := rapid.Byte().Draw(rt, "seed")
				for i := range p {
					p[i] = seed + byte(i*i)
				}
				if _, err := h.f.WriteAt(ctx, p, int64(off), true); err != nil {
					rt.Fatal(err)
				}
				if need := off + len(p); need > len(h.m.data) {
					h.m.data = append(h.m.data, make([]byte, need-len(h.m.data))...)
				}
				copy(h.m.data[off:], p)
			},
			"truncate": func(rt *rapid.T) {
				if len(open) == 0 {
					rt.Skip()
				}
				h := open[rapid.IntRange(0, len(open)-1).Draw(rt, "h")]
				n := rapid.SampledFrom([]uint64{0, 3, 65536, 65540, 150000}).Draw(rt, "size")
				if _, err := h.f.SetAttr(ctx, AttrChange{Size: &n}); err != nil {
					rt.Fatal(err)
				}
				if int(n) <= len(h.m.data) {
					h.m.data = append([]byte{}, h.m.data[:n]...)
				} else {
					h.m.data = append(h.m.data, make([]byte, int(n)-len(h.m.data))...)
				}
			},
			"punch": func(rt *rapid.T) {
				if len(open) == 0 {
					rt.Skip()
				}
				h := open[rapid.IntRange(0, len(open)-1).Draw(rt, "h")]
				off := rapid.SampledFrom([]int{0, 10, 65536}).Draw(rt, "off")
				n := rapid.SampledFrom([]int{5, 65536, 140000}).Draw(rt, "len")
				if err := h.f.Allocate(ctx, punchHole|keepSize, int64(off), int64(n)); err != nil {
					rt.Fatal(err)
				}
				for i := off; i < min(off+n, len(h.m.data)); i++ {
					h.m.data[i] = 0
				}
			},
			"chmod": func(rt *rapid.T) {
				if len(open) == 0 {
					rt.Skip()
				}
				h := open[rapid.IntRange(0, len(open)-1).Draw(rt, "h")]
				m := uint32(0o600)
				if _, err := h.f.SetAttr(ctx, AttrChange{Mode: &m}); err != nil {
					rt.Fatal(err)
				}
			},
			"sync": func(rt *rapid.T) {
				if len(open) == 0 {
					rt.Skip()
				}
				h := open[rapid.IntRange(0, len(open)-1).Draw(rt, "h")]
				if err := h.f.Sync(ctx, false); err != nil {
					rt.Fatal(err)
				}
			},
			"close": func(rt *rapid.T) {
				if len(open) == 0 {
					rt.Skip()
				}
				k := rapid.IntRange(0, len(open)-1).Draw(rt, "h")
				if err := open[k].f.Close(); err != nil {
					rt.Fatal(err)
				}
				open = append(open[:k:k], open[k+1:]...)
			},
			"rename": func(rt *rapid.T) {
				from, to := pick("from"), pick("to")
				if names[from] == nil {
					rt.Skip()
				}
				if err := a.Rename(ctx, record.Root, from, record.Root, to, 0); err != nil {
					rt.Fatal(err)
				}
				if from != to && names[from] != names[to] {
					names[to] = names[from]
					delete(names, from)
				}
			},
			"exchange": func(rt *rapid.T) {
				from, to := pick("from"), pick("to")
				if names[from] == nil || names[to] == nil {
					rt.Skip()
				}
				if err := a.Rename(ctx, record.Root, from, record.Root, to, RenameExchange); err != nil {
					rt.Fatal(err)
				}
				names[to], names[from] = names[from], names[to]
			},
			"link": func(rt *rapid.T) {
				from, to := pick("from"), pick("to")
				if names[from] == nil || names[to] != nil {
					rt.Skip()
				}
				at, err := a.Lookup(ctx, record.Root, from)
				if err == nil {
					_, err = a.Link(ctx, at.ID, record.Root, to)
				}
				if err != nil {
					rt.Fatal(err)
				}
				names[to] = names[from]
			},
			"remove": func(rt *rapid.T) {
				n := pick("name")
				if names[n] == nil {
					rt.Skip()
				}
				if err := a.Remove(ctx, record.Root, n, false); err != nil {
					rt.Fatal(err)
				}
				delete(names, n)
			},
			"publish": func(rt *rapid.T) {
				if err := a.Publish(ctx); err != nil {
					rt.Fatal(err)
				}
			},
			"fail": func(rt *rapid.T) {
				which := &fail
				if rapid.Bool().Draw(rt, "own") {
					which = &failOwn
				}
				which.Store(true)
				_ = a.Publish(ctx)
				which.Store(false)
			},
			"kill": func(rt *rapid.T) { a.crash("boot 1"); reopen() },
			"lost publish": func(rt *rapid.T) { // killed between the batch and the note that it is done
				a.publishing.Lock()
				due := a.due(true)
				if due != nil {
					if _, err := a.publishContent(ctx, due); err != nil {
						rt.Fatal(err)
					}
					a.Drive.mu.Lock()
					c := a.pick(due, true)
					err := c.seal(a.Drive)
					if err == nil && len(c.ops) > 0 {
						if err = a.intend(c, a.own.Len()); err == nil {
							a.Drive.mu.Unlock()
							_, err = a.db.Batch(ctx, c.ops)
							a.Drive.mu.Lock()
						}
					}
					a.Drive.mu.Unlock()
					if err != nil {
						rt.Fatal(err)
					}
				}
				a.publishing.Unlock()
				a.crash("boot 1")
				reopen()
			},
			"": func(rt *rapid.T) { check("now") },
		})
		a.crash("boot 1")
		check("after a last kill")
		if err := a.Publish(ctx); err != nil {
			rt.Fatal(err)
		}
		check("published")
		if cs, err := a.Conflicts(ctx); err != nil || len(cs) > 0 {
			rt.Fatalf("conflicts of one node: %+v %v", cs, err)
		}
		if err := a.Check(ctx); err != nil {
			rt.Fatal(err)
		}
	})
}
