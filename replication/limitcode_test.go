package replication

import (
	"errors"
	"testing"

	"hyphafs.org/hyphafs/replication/wire"
)

// FuzzLimit: what decodes is what encoding it again says, and everything else is a bad message.
func FuzzLimit(f *testing.F) {
	f.Add(Limit{}.encode())
	f.Add(Limit{Max: 1 << 40, Used: 1<<40 - 7}.encode())
	f.Add([]byte{0x80, 0x00, 0x05})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := decodeLimit(b)
		if err != nil {
			if !errors.Is(err, wire.ErrMessage) || l != (Limit{}) {
				t.Fatalf("%+v %v", l, err)
			}
			return
		}
		if again, err := decodeLimit(l.encode()); err != nil || again != l {
			t.Fatalf("%+v became %+v, %v", l, again, err)
		}
	})
}
