package fs

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// readAhead is how far the kernel reads ahead of who reads in sequence, in KiB: four requests of MaxWrite.
const readAhead = 2048

// lengthenReadAhead lets the kernel read further ahead on the mount with that device number than the 128 KiB that a FUSE server may ask for at most. Only root may.
func lengthenReadAhead(device uint64) error {
	path := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(device), unix.Minor(device))
	return os.WriteFile(path, []byte(strconv.Itoa(readAhead)), 0)
}
