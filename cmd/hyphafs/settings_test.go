package main

import (
	"testing"
)

func TestCheckURL(t *testing.T) {
	for url, good := range map[string]bool{
		"tcp://host:1": true, "tcp://:0": true, "tcp://[::1]:4000": true, "tcp://10.0.0.1:65535/": true,
		"host:1": false, "tcp://host": false, "ws://host:1": false, "tcp://host:1/path": false, "tcp://host:x": false, "": false,
	} {
		if err := checkURL(url); (err == nil) != good {
			t.Errorf("%q: %v", url, err)
		}
	}
}
