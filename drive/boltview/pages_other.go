//go:build !linux

package boltview

import "go.etcd.io/bbolt"

const (
	pageSize  = 1
	lookEvery = 1 << 62
)

func prefetch(string, <-chan struct{}) error { return nil }

func trim(*bbolt.DB, *bbolt.Tx) error { return nil }
