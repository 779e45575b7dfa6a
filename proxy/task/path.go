package task

import "time"

// Path is what the kernel knows of the way that a TCP connection takes. What it does not know is 0.
type Path struct {
	RTT    time.Duration // smoothed
	Resent uint64        // segments that were sent again: lost, or taken to be
	Window uint64        // the congestion window, in bytes
	MTU    int           // bytes of a packet
}

// Measured is implemented by Conns that can tell their Path. It is called on the Conn's shard, and costs a system call.
type Measured interface{ Path() Path }

// PathOf is the Path of c, as far as it can tell.
func PathOf(c any) Path {
	if m, ok := c.(Measured); ok {
		return m.Path()
	}
	return Path{}
}
