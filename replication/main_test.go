package replication_test

import (
	"testing"

	"go.uber.org/goleak"

	"hyphafs.org/hyphafs/replication/replicationtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSuite(t *testing.T) { replicationtest.Suite(t, replicationtest.Pipe) }
