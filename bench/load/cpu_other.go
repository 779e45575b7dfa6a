//go:build !linux

package load

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadCPU is the processor time of the process: this system does not tell threads apart, or not in the same way.
func threadCPU() time.Duration {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
