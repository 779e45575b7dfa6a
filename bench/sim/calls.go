package main

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/upstream/balance"
	"github.com/pillion-proxy/pillion/upstream/health"
)

// take returns a place of the slice, one that was given back if there is any.
func take[T any](all *[]T, free *[]int32) int32 {
	if n := len(*free); n > 0 {
		i := (*free)[n-1]
		*free = (*free)[:n-1]
		return i
	}
	var none T
	*all = append(*all, none)
	return int32(len(*all) - 1)
}

// arrive is a new request of the app beside a random caller.
func (w *world) arrive() {
	w.next()
	i := take(&w.calls, &w.freeCall)
	w.calls[i] = call{caller: int32(w.rng.IntN(len(w.sidecars))), born: w.now}
	w.sidecars[w.calls[i].caller].budget.Deposit(0, w.now)
	w.try(i)
}

// try sends an attempt, as package upstream does: where no connection can be made, at once elsewhere, three times at most.
func (w *world) try(i int32) {
	c := &w.calls[i]
	who := &w.sidecars[c.caller]
	st := who.balancer.Pick(&balance.Pick{Now: w.now, Avoid: c.avoid[:c.met], Keyed: true, Key: w.rng.Uint64()})
	if st == nil {
		w.end(i, false)
		return
	}
	n := take(&w.sent, &w.free)
	w.sent[n] = attempt{call: i, server: w.index(st.Endpoint), began: w.now, state: st}
	w.result.attempt(w.now, int(w.sent[n].server))
	if w.servers[w.sent[n].server].dead {
		w.agenda.add(event{at: w.now.Add(2 * hop), kind: refused, of: n})
		return
	}
	w.agenda.add(event{at: w.now.Add(hop), kind: reaches, of: n})
	w.agenda.add(event{at: w.now.Add(w.timeout), kind: expired, of: n})
}

// refused is an attempt for which there was no connection.
func (w *world) refused(n int32) {
	a := w.sent[n]
	w.free = append(w.free, n)
	a.state.Done(false)
	w.result.wasted(w.now)
	c := &w.calls[a.call]
	if a.state.Health.Lost(w.now, "refused") && a.state.Health.Probe() {
		w.agenda.add(event{at: w.now.Add(100 * time.Millisecond), kind: probes, caller: c.caller, of: a.server, n: 1})
	}
	if c.dials++; c.dials < 3 {
		c.avoids(a.state.Endpoint)
		w.try(a.call)
		return
	}
	c.dials = 0
	w.again(&a)
}

// avoids keeps the call from going there again.
func (c *call) avoids(ep *proxy.Endpoint) {
	if int(c.met) < len(c.avoid) {
		c.avoid[c.met] = ep
		c.met++
	}
}

// probe looks whether a lost endpoint is back.
func (w *world) probe(e event) {
	h := w.sidecars[e.caller].health.Of(&w.set[e.of])
	if !w.servers[e.of].dead {
		h.Reached(w.now)
		h.EndProbe(w.now)
		return
	}
	h.Lost(w.now, "refused")
	pause := min(10*time.Second, 100*time.Millisecond<<min(e.n, 10))
	e.n++
	e.at = w.now.Add(pause/2 + time.Duration(w.rng.Int64N(int64(pause/2))))
	w.agenda.add(e)
}

// reach is an attempt that is at its server.
func (w *world) reach(n int32) {
	a := &w.sent[n]
	s := &w.servers[a.server]
	switch {
	case s.fails > 0 && w.rng.Float64() < s.fails:
		a.bad = true
		w.agenda.add(event{at: w.now.Add(time.Millisecond + hop), kind: answered, of: n})
	case s.gradient != nil && s.busy+len(s.queue) >= s.gradient.Limit():
		a.bad = true
		w.agenda.add(event{at: w.now.Add(hop), kind: answered, of: n})
	case s.busy < w.workers:
		s.busy++
		a.served = w.now
		w.agenda.add(event{at: w.now.Add(w.serviceTime(s)), kind: served, of: n})
	default:
		a.served = w.now
		s.queue = append(s.queue, n)
	}
}

// served is an attempt that its server has done with.
func (w *world) served(n int32) {
	a := &w.sent[n]
	s := &w.servers[a.server]
	if s.gradient != nil {
		s.gradient.Add(w.now, w.now.Sub(a.served), s.busy+len(s.queue))
	}
	w.agenda.add(event{at: w.now.Add(hop), kind: answered, of: n})
	if len(s.queue) == 0 {
		s.busy--
		return
	}
	next := s.queue[0]
	s.queue = s.queue[1:]
	w.agenda.add(event{at: w.now.Add(w.serviceTime(s)), kind: served, of: next})
}

// answered is an attempt with its answer.
func (w *world) answered(n int32) {
	a := w.sent[n]
	w.sent[n].state = nil
	w.free = append(w.free, n)
	if a.over {
		return
	}
	a.state.Health.Reached(w.now)
	w.learn(&a, a.bad)
	if !a.bad {
		w.end(a.call, true)
		return
	}
	w.again(&a)
}

// expired is an attempt that took too long. The server goes on with it.
func (w *world) expired(n int32) {
	a := &w.sent[n]
	if a.state == nil || a.over || w.now.Sub(a.began) < w.timeout {
		return // it was answered; its place may be another's
	}
	a.over = true
	w.learn(a, true)
	w.again(a)
}

// learn tells the balancer and all that share its health how an attempt ended.
func (w *world) learn(a *attempt, bad bool) {
	latency := w.now.Sub(a.began)
	o := health.Good
	if bad {
		o = health.Bad
	}
	a.state.Answered(w.now, latency, bad)
	a.state.Ended(w.now, bad)
	a.state.Health.Report(w.now, o, latency)
	a.state.Done(false)
}

// again repeats a request that failed, if it may.
func (w *world) again(a *attempt) {
	c := &w.calls[a.call]
	if int(c.tries) >= w.setting.attempts-1 || w.budget >= 0 && !w.sidecars[c.caller].budget.Withdraw(w.now, w.budget, 10/float64(len(w.sidecars))) {
		w.end(a.call, false)
		return
	}
	c.avoids(a.state.Endpoint)
	c.tries++
	w.result.retry(w.now)
	w.agenda.add(event{at: w.now.Add(time.Duration(w.rng.ExpFloat64() * float64(25*time.Millisecond))), kind: retries, of: a.call})
}

// end is the end of a request.
func (w *world) end(i int32, good bool) {
	w.result.ended(w.now, w.now.Sub(w.calls[i].born), good)
	w.freeCall = append(w.freeCall, i)
}
