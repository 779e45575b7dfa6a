// Package meter reads what processes have used and what they occupy, from the kernel's accounts. On other systems than Linux everything is an error.
package meter

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
	Own int64 // resident, of no file: heaps and stacks
	PSS int64 // resident; what processes share is divided among them; 0 where reading it is not allowed
}

func (m *Memory) add(n Memory) {
	m.RSS += n.RSS
	m.Own += n.Own
	m.PSS += n.PSS
}

// UsageOf reads what processes, their children included, have used so far.
func UsageOf(pids ...int) (Usage, error) { return total(pids, usageOf, (*Usage).add) }

// MemoryOf reads what processes, their children included, occupy.
func MemoryOf(pids ...int) (Memory, error) { return total(pids, memoryOf, (*Memory).add) }

// total adds up what read says of every process.
func total[T any](pids []int, read func(pid int) (T, error), add func(*T, T)) (T, error) {
	var sum T
	for _, pid := range pids {
		family, err := Tree(pid)
		if err != nil {
			return sum, err
		}
		for _, pid := range family {
			one, err := read(pid)
			if err != nil {
				return sum, err
			}
			add(&sum, one)
		}
	}
	return sum, nil
}
