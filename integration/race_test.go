//go:build race

package integration

// raceEnabled: the binary is built with the race detector too.
const raceEnabled = true
