package peers

import "time"

// Usage is what processes have used since they began.
type Usage struct {
	CPU    time.Duration // user and system, exact, ended threads included
	User   time.Duration // the part in user space, from samples of 10 ms
	System time.Duration // the part in the kernel, likewise
	Waits  int64         // times that a thread went to sleep, and was woken; of threads that still exist
}

func (u *Usage) add(v Usage) {
	u.CPU += v.CPU
	u.User += v.User
	u.System += v.System
	u.Waits += v.Waits
}

// Since is what was used after v.
func (u Usage) Since(v Usage) Usage {
	return Usage{CPU: u.CPU - v.CPU, User: u.User - v.User, System: u.System - v.System, Waits: u.Waits - v.Waits}
}

// Memory is what processes occupy now, in bytes.
type Memory struct {
	RSS int64 // resident; what processes share counts for each of them
	PSS int64 // resident; what processes share is divided among them
}

func (m *Memory) add(n Memory) {
	m.RSS += n.RSS
	m.PSS += n.PSS
}
