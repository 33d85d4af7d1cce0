package powerloss

import (
	"os"
	"testing"

	"hyphafs.org/hyphafs/integration/faultfs"
)

func TestMain(m *testing.M) {
	faultfs.Serve()
	os.Exit(m.Run())
}
