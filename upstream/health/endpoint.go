package health

import (
	"math"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Key is what makes two Endpoints the same one, although discovery says something new about it, such as another weight.
type Key struct {
	addr     netip.AddrPort
	unix     string
	identity proxy.Identity
	mesh     bool
}

// KeyOf returns the Key of ep.
func KeyOf(ep *proxy.Endpoint) Key { return Key{ep.Addr, ep.Unix, ep.Identity, ep.Mesh} }

// Endpoint is what all shards know of one Endpoint of a Service. All methods are safe for concurrent use, and none waits for longer than
// another's few instructions.
type Endpoint struct {
	service *Service

	// out is until when it is passed over: 0 if it is not, forever without an end. It sums up what follows under Service.mu.
	out atomic.Int64
	// since is when it came back, or joined; 0 if it was there from the start.
	since atomic.Int64

	// Of the present Interval.
	row      atomic.Int32 // failures in a row
	requests atomic.Uint32
	failures atomic.Uint32
	latency  atomic.Int64 // sum, in nanoseconds

	failed atomic.Bool // the last connection failed: lost or why may be set

	// Guarded by Service.mu.

	lost    task.Instant // until when it is lost; 0 if it is not
	losses  int          // in a row
	probed  bool         // somebody finds out by and by
	ejected task.Instant // until when it is ejected; 0 if it is not
	times   int          // how often it was ejected, less one for each good Interval
	sick    bool
	good    int // checks in a row that succeeded
	bad     int // checks in a row that failed
	checked bool
	why     string // the reason of the last of lost, ejected, sick
}

// forever is an Instant that never comes.
const forever = task.Instant(math.MaxInt64)

// How long a lost Endpoint is passed over: doubled with each failure in a row.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// trial is how long the others pass over a lost Endpoint while one request tries it.
const trial = 5 * time.Second

// minGap is how much the success rate of an Endpoint must be below the mean to be worth a comparison.
const minGap = 0.05

// Usable reports whether the Endpoint may be picked now. If it was out and its time has passed it is back with that; of a lost one
// the caller alone may then try it.
func (e *Endpoint) Usable(now task.Instant) bool {
	out := task.Instant(e.out.Load())
	if out == 0 {
		return true
	}
	return out <= now && e.back(now)
}

// Out is until when the Endpoint is passed over: 0 if it is not. For an Endpoint that may be tried again it may lie in the past.
func (e *Endpoint) Out() task.Instant { return task.Instant(e.out.Load()) }

// Since is when it joined or came back; 0 if it was there from the start.
func (e *Endpoint) Since() task.Instant { return task.Instant(e.since.Load()) }

// back ends what has passed.
func (e *Endpoint) back(now task.Instant) bool {
	s := e.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.ejected != 0 && e.ejected <= now {
		e.ejected = 0
	}
	mine := true
	if e.lost != 0 {
		mine = e.lost <= now && !e.probed
		if mine {
			e.lost = now.Add(trial)
		}
	}
	if e.ejected != 0 || e.sick {
		mine = false
	}
	if e.lost == 0 && mine {
		e.since.Store(int64(now))
	}
	e.sumUp()
	return mine
}

// sumUp sets out. Service.mu is held.
func (e *Endpoint) sumUp() {
	out := max(e.lost, e.ejected)
	if e.sick {
		out = forever
	}
	if task.Instant(e.out.Swap(int64(out))) != out {
		e.service.version.Add(1)
	}
}

// Lost says that no connection could be made, and why. It reports whether the Endpoint was not lost before.
func (e *Endpoint) Lost(now task.Instant, why string) (first bool) {
	s := e.service
	s.mu.Lock()
	defer s.mu.Unlock()
	e.failed.Store(true)
	first = e.losses == 0
	pause := min(lastPause, firstPause<<min(e.losses, 10))
	e.losses++
	e.why = why
	if !e.probed {
		e.lost = now.Add(pause)
	}
	s.stats.Lost++
	e.sumUp()
	return first
}

// Reached says that there was a connection.
func (e *Endpoint) Reached(now task.Instant) {
	if !e.failed.Load() {
		return
	}
	s := e.service
	s.mu.Lock()
	defer s.mu.Unlock()
	e.failed.Store(false)
	was := e.lost != 0
	e.lost, e.losses, e.probed = 0, 0, false
	if e.ejected == 0 && !e.sick {
		e.why = ""
		if was {
			e.since.Store(int64(now))
		}
	}
	e.sumUp()
}

// Probe reports whether the caller, who is going to find out by and by whether a lost Endpoint can be reached again, is the only one. Then nobody else tries,
// until Reached or EndProbe.
func (e *Endpoint) Probe() bool {
	s := e.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.probed || e.lost == 0 || s.probes >= maxProbes {
		return false
	}
	s.probes++
	e.probed, e.lost = true, forever
	e.sumUp()
	return true
}

// maxProbes bounds the Endpoints of a Service that are probed at a time, each by a task; requests try the others, one at a time.
const maxProbes = 1024

// EndProbe follows Probe.
func (e *Endpoint) EndProbe(now task.Instant) {
	s := e.service
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probes--
	if e.probed {
		e.probed, e.lost = false, now
		e.sumUp()
	}
}

// Outcome is how a request ended.
type Outcome int

// The outcomes.
const (
	Unknown Outcome = iota // nothing can be said: the client left
	Good
	Bad // it failed, by the Endpoint's fault
	Cut // its answer began, and broke off: no other attempt can hide that from the client, so it counts twice among those in a row
)

// Report says how a request ended that had a connection, and how long it took to the head of the answer.
func (e *Endpoint) Report(now task.Instant, o Outcome, latency time.Duration) {
	if o == Unknown {
		return
	}
	s := e.service
	e.requests.Add(1)
	e.latency.Add(int64(latency))
	if o == Good {
		if e.row.Load() != 0 {
			e.row.Store(0)
		}
	} else {
		e.failures.Add(1)
		more := int32(1)
		if o == Cut {
			more = 2
		}
		if n := int(e.row.Add(more)); n >= s.consecutive() {
			e.row.Store(0)
			s.eject(e, now, "failures in a row")
		}
	}
	if next := s.next.Load(); next <= int64(now) && s.next.CompareAndSwap(next, int64(now.Add(s.config().Interval))) && next != 0 {
		s.compare(now)
	}
}

// Checked says how an active check ended; why is "" if it succeeded.
func (e *Endpoint) Checked(now task.Instant, why string) {
	s := e.service
	c := s.config()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Checks++
	if why == "" {
		e.good, e.bad = e.good+1, 0
	} else {
		s.stats.FailedChecks++
		e.good, e.bad = 0, e.bad+1
	}
	switch {
	case !e.checked && why == "": // the first says enough
	case !e.checked || e.bad >= c.Unhealthy && !e.sick:
		e.sick = true
	case e.good >= c.Healthy && e.sick:
		e.sick = false
		e.since.Store(int64(now))
	}
	e.checked = true
	switch {
	case e.sick && why != "":
		e.why = why
	case !e.sick && e.ejected == 0 && e.lost == 0:
		e.why = ""
	}
	e.sumUp()
}

// State is a snapshot for status.
type State struct {
	Lost, Ejected, Sick bool
	// Again is when it is tried again; 0 if it is not out, or nobody knows.
	Again task.Instant
	// Why it is, or was last, out.
	Why string
	// Ejections is how often it was ejected lately.
	Ejections int
	// Row is how many failures came in a row.
	Row int
}

// State returns what is known now.
func (e *Endpoint) State(now task.Instant) State {
	s := e.service
	s.mu.Lock()
	defer s.mu.Unlock()
	st := State{Lost: e.lost != 0, Ejected: e.ejected > now, Sick: e.sick, Why: e.why, Ejections: e.times, Row: int(e.row.Load())}
	if out := max(e.lost, e.ejected); out > now && !e.sick && out != forever {
		st.Again = out
	}
	return st
}

// Reachable reports whether nothing is known of the Endpoint that keeps a connection from being made now.
func (e *Endpoint) Reachable(now task.Instant) bool {
	return !e.failed.Load() || task.Instant(e.out.Load()) <= now
}
