package peers

import (
	"errors"
	"fmt"
	"time"

	"github.com/pillion-proxy/pillion/bench/meter"
)

// Pair is a proxy beside the client and one beside the app, running. A pair of direct has no processes.
type Pair struct {
	Peer    Peer
	Addr    string        // where the client connects, host:port or unix:/path
	Admin   []string      // where pillion's /debug/pprof is, if Bed.Profile is set; the app's side first
	Started time.Duration // how long the client's side took until it accepted
	procs   []*process    // the app's side first
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
func (p *Pair) Usage() (meter.Usage, error) {
	if err := p.ended(); err != nil {
		return meter.Usage{}, err
	}
	return meter.UsageOf(p.Pids()...)
}

// Memory reads what both sides, their children included, occupy.
func (p *Pair) Memory() (meter.Memory, error) {
	if err := p.ended(); err != nil {
		return meter.Memory{}, err
	}
	return meter.MemoryOf(p.Pids()...)
}

// ended returns an error if a side has ended, with what it printed.
func (p *Pair) ended() error {
	for _, proc := range p.procs {
		select {
		case <-proc.done:
			return errors.Join(fmt.Errorf("%s has ended: %v", proc.cmd.Args[0], proc.cmd.ProcessState), proc.diagnosis())
		default:
		}
	}
	return nil
}
