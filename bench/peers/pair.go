package peers

import (
	"errors"
	"net/netip"
)

// Pair is a proxy beside the client and one beside the app, running. A pair of direct has no processes.
type Pair struct {
	Peer  Peer
	Addr  netip.AddrPort // where the client connects
	Admin []string       // where pillion's /debug/pprof is, if Bed.Profile is set; the app's side first
	procs []*process     // the app's side first
}

// Stop ends both sides and waits for it. More calls do nothing.
func (p *Pair) Stop() {
	for _, proc := range p.procs {
		proc.stop()
	}
}

// Pids returns the two processes that were started, the app's side first, without their children.
func (p *Pair) Pids() []int {
	var pids []int
	for _, proc := range p.procs {
		pids = append(pids, proc.pid())
	}
	return pids
}

// Usage reads what both sides, their children included, have used so far.
func (p *Pair) Usage() (Usage, error) { return total(p, usageOf, (*Usage).add) }

// Memory reads what both sides, their children included, occupy.
func (p *Pair) Memory() (Memory, error) { return total(p, memoryOf, (*Memory).add) }

// total adds up what read says of every process of p.
func total[T any](p *Pair, read func(pid int) (T, error), add func(*T, T)) (T, error) {
	var sum T
	for _, proc := range p.procs {
		pids, err := proc.all()
		if err != nil {
			return sum, errors.Join(err, proc.diagnosis())
		}
		for _, pid := range pids {
			one, err := read(pid)
			if err != nil {
				return sum, errors.Join(err, proc.diagnosis())
			}
			add(&sum, one)
		}
	}
	return sum, nil
}
