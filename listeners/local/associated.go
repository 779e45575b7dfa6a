package local

import (
	"cmp"
	"errors"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/datagram"
	"github.com/pillion-proxy/pillion/proxy/socks"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// associated is the Flow to one target:
//
//	opening  up is nil: datagrams wait
//	open     up is set
//	refused  done, and yet in the table: datagrams are dropped for a moment
//	ended    done
type associated struct {
	a  *association
	to socks.Addr

	// Guarded by the shard's lock.
	up      proxy.Flow
	waiting [][]byte
	req     *proxy.Request // while it is being opened
	done    bool
	used    task.Instant
	idle    time.Duration    // of its service; zero until that is known
	stats   *proxy.FlowStats // the same; may be nil
	came    int              // datagrams that nobody has counted, because it is not known where
}

// run is the task of a Flow: it opens it, sends what has waited, and passes answers back until the end.
func (f *associated) run() {
	a := f.a
	var resp proxy.Response
	req := datagram.NewRequest(a.s, proxy.Service{Name: f.host(), Port: f.to.Port}, a.clientAddr())
	req.Service = proxy.Service{} // what the name or the address stands for is for the stack to find out
	req.Local = true
	req.Deadline = a.s.Now().Add(flowTimeout)
	defer f.end()
	if !f.opening(req) {
		return
	}
	err := a.p.server.cfg.Handler.RoundTrip(req, &resp)
	stats := f.settle(req.Service.Name)
	if err != nil {
		f.refused(why(a.s, &resp, err))
		return
	}
	defer resp.Close()
	up := datagram.Of(a.s, &resp, stats)
	if up == nil {
		f.refused(why(a.s, &resp, nil))
		return
	}
	stats.Opened()
	defer stats.Closed()
	if !f.open(up) {
		_ = up.Close()
	}
	w, _ := up.(proxy.Waiter)
	for {
		if w != nil && w.WaitReadable() != nil {
			return
		}
		if f.answer(up) != nil {
			return
		}
	}
}

func (f *associated) host() string {
	if f.to.Name != "" {
		return f.to.Name
	}
	return f.to.IP.String()
}

// opening notes req, so that end can cancel it.
func (f *associated) opening(req *proxy.Request) bool {
	f.a.s.Lock()
	defer f.a.s.Unlock()
	f.req = req
	return !f.done
}

// settle notes how the Flow is kept, once the stack has found its service; where there is none, the name is empty.
func (f *associated) settle(service string) *proxy.FlowStats {
	set := f.a.p.server.known.Load().flows[service]
	f.a.s.Lock()
	f.idle, f.stats = cmp.Or(set.Idle, defaultIdle), set.Stats
	came, lost := f.came, f.came-len(f.waiting)
	f.a.s.Unlock()
	for range came {
		set.Stats.Request()
	}
	set.Stats.Drop(proxy.DropUnopened, lost)
	return set.Stats
}

// dropLocked counts what has waited in vain.
func (f *associated) dropLocked() {
	f.stats.Drop(proxy.DropUnopened, len(f.takeLocked()))
}

// refused keeps the Flow in the table for a moment, so that not every datagram asks again, and says why, once at the usual level.
func (f *associated) refused(why string) {
	a := f.a
	a.s.Lock()
	first, closed := !a.warned, f.done
	a.warned = true
	f.dropLocked()
	f.done, f.req = true, nil
	if !closed {
		a.s.After(refusedFor, f.forget)
	}
	a.s.Unlock()
	log := a.p.server.cfg.Logger.Debug
	if first && !closed {
		log = a.p.server.cfg.Logger.Warn
	}
	log("no flow for SOCKS datagrams of the app", "port", a.p.Name, "to", f.to.String(), "why", why)
}

// forget is a callback.
func (f *associated) forget() {
	f.a.s.Lock()
	defer f.a.s.Unlock()
	if f.a.flows[f.to] == f {
		delete(f.a.flows, f.to)
	}
}

// takeLocked returns what waits.
func (f *associated) takeLocked() [][]byte {
	all := f.waiting
	f.waiting = nil
	for _, p := range all {
		f.a.queued -= len(p)
	}
	return all
}

// open sends what has waited, in order, and lets further datagrams go straight to up. It is false if nobody wants the Flow any more.
func (f *associated) open(up proxy.Flow) bool {
	for {
		f.a.s.Lock()
		all := f.takeLocked()
		f.req = nil
		done := f.done
		if len(all) == 0 && !done {
			f.up = up
		}
		f.a.s.Unlock()
		if done || len(all) == 0 {
			return !done
		}
		for _, p := range all {
			_ = up.Send(p) // an error is one that Receive will meet too
		}
	}
}

// answer passes one datagram back.
func (f *associated) answer(up proxy.Flow) error {
	a := f.a
	b := a.s.Datagram()
	defer a.s.Free(b)
	head := len(socks.AppendHeader(b.B[:0], f.to))
	n, err := up.Receive(b.B[head:])
	if err != nil {
		return err
	}
	f.stats.Answer()
	a.s.Lock()
	f.used = a.s.Now()
	to := a.client
	a.s.Unlock()
	switch err := a.c.Send(b.B[:head+n], to); { // what the socket does not take is lost, as datagrams are
	case err == nil:
	case errors.Is(err, task.ErrClosed):
		return err
	case errors.Is(err, task.ErrNoRoom):
		f.stats.Drop(proxy.DropSocket, 1)
	default:
		f.stats.Drop(proxy.DropRefused, 1)
	}
	return nil
}

// evict ends the Flow for the sake of another.
func (f *associated) evict() {
	f.a.s.Lock()
	stats := f.stats
	f.a.s.Unlock()
	stats.Evicted()
	f.end()
}

// end takes the Flow out of the table and closes it, or cancels its opening. It never waits and is idempotent.
func (f *associated) end() {
	a := f.a
	a.s.Lock()
	refused := f.done
	f.dropLocked()
	f.done = true
	if !refused && a.flows[f.to] == f {
		delete(a.flows, f.to)
	}
	up, req := f.up, f.req
	f.req = nil
	a.s.Unlock()
	switch {
	case up != nil:
		_ = up.Close()
	case req != nil:
		req.Cancel.Cancel(errAssociationEnded)
	}
}
