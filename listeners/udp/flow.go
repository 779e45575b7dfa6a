package udp

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/datagram"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// flow is one client's Flow, from its first datagram on:
//
//	opening  up is nil: datagrams wait
//	open     up is set, and in the table
//	ending   no longer in the table; run returns once the other side has ended too
type flow struct {
	// Static after construction.
	l      *Listener
	client task.Route

	// Guarded by the shard's lock.
	up        proxy.Flow
	waiting   [][]byte
	req       *proxy.Request // while it is being opened
	ended     bool
	talk      talk
	questions questions
	last      task.Instant // when it was used
	in        *lru         // nil once it is no longer in the table
	prev      *flow
	next      *flow
}

// waitLocked keeps p until the Flow is open.
func (f *flow) waitLocked(p []byte) {
	if f.ended || len(f.waiting) >= maxWaiting || f.l.queued+len(p) > maxQueued {
		f.l.p.Stats.Drop(proxy.DropUnopened, 1)
		return
	}
	f.l.queued += len(p)
	f.waiting = append(f.waiting, slices.Clone(p))
}

// takeLocked returns what waits.
func (f *flow) takeLocked() [][]byte {
	all := f.waiting
	f.waiting = nil
	for _, p := range all {
		f.l.queued -= len(p)
	}
	return all
}

// run is the task of a Flow: it opens it, and then passes answers back until the end.
func (f *flow) run() {
	l := f.l
	var resp proxy.Response
	opened := false
	defer func() { // after a panic too
		f.end()
		if opened {
			resp.Close()
		}
		l.p.Stats.Closed()
		l.running.Add(-1)
	}()
	req := datagram.NewRequest(l.s, l.p.Service, f.client.Remote)
	req.Local = true
	req.Deadline = l.s.Now().Add(openTimeout)
	if !f.opening(req) {
		return
	}
	err := l.cfg.Handler.RoundTrip(req, &resp)
	opened = err == nil
	up := datagram.Of(l.s, &resp, l.p.Stats)
	if err == nil && up == nil {
		err = refusal(&resp)
	}
	if l.tell(f, req, err); err != nil {
		return
	}
	if !f.open(up) {
		_ = up.Close()
	}
	f.answers(up)
}

// opening notes req, so that end can cancel it.
func (f *flow) opening(req *proxy.Request) bool {
	f.l.s.Lock()
	defer f.l.s.Unlock()
	f.req = req
	return !f.ended
}

// open sends what has waited, in order, and lets further datagrams go straight to up. It is false if nobody wants the Flow any more.
func (f *flow) open(up proxy.Flow) bool {
	for {
		f.l.s.Lock()
		all := f.takeLocked()
		ended := f.ended
		f.req = nil
		if len(all) == 0 && !ended {
			f.up = up
		}
		f.l.s.Unlock()
		if ended {
			f.l.p.Stats.Drop(proxy.DropUnopened, len(all))
			return false
		}
		if len(all) == 0 {
			return true
		}
		for _, p := range all {
			_ = up.Send(p) // an error is one that Receive will meet too
		}
	}
}

// answers passes datagrams back to the client until up ends.
func (f *flow) answers(up proxy.Flow) {
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

func (f *flow) answer(up proxy.Flow) error {
	l := f.l
	b := l.s.Datagram()
	defer l.s.Free(b)
	n, err := up.Receive(b.B)
	if err != nil {
		return err
	}
	l.p.Stats.Answer()
	l.s.Lock()
	f.talk.answer(b.B[:n])
	l.table.touch(f, l.s.Now())
	q, asked := f.questions.take(b.B[:n])
	l.s.Unlock()
	if asked {
		l.p.DNS.Learn(&q, time.Duration(l.s.Now()), b.B[:n])
	}
	switch err := l.c.Send(b.B[:n], f.client); {
	case err == nil:
	case errors.Is(err, task.ErrNoRoom):
		l.p.Stats.Drop(proxy.DropSocket, 1)
	case errors.Is(err, task.ErrClosed):
		return err
	default:
		l.p.Stats.Drop(proxy.DropRefused, 1)
	}
	return nil
}

var errEnded = errors.New("the flow has ended")

// end takes the Flow out of the table and closes it, or cancels its opening. It never waits and is idempotent.
func (f *flow) end() {
	l := f.l
	l.s.Lock()
	l.table.remove(f)
	ended := f.ended
	f.ended = true
	up, req, lost := f.up, f.req, f.takeLocked()
	f.req = nil
	l.s.Unlock()
	l.p.Stats.Drop(proxy.DropUnopened, len(lost))
	switch {
	case ended:
	case up != nil:
		_ = up.Close()
	case req != nil:
		req.Cancel.Cancel(errEnded)
	}
}

// tell logs that Flows cannot be opened, or can be again: once, not for each.
func (l *Listener) tell(f *flow, req *proxy.Request, err error) {
	l.s.Lock()
	before := l.failing
	if err == nil || req.Cancel.Err() == nil {
		l.failing = err != nil
	}
	now := l.failing
	l.s.Unlock()
	switch {
	case now && !before:
		l.cfg.Logger.Warn("no flow for datagrams of the app", "port", l.p.Name, "service", l.p.Service.String(), "client", f.client.Remote, "why", err)
	case err != nil:
		l.cfg.Logger.Debug("no flow for datagrams of the app", "port", l.p.Name, "client", f.client.Remote, "why", err)
	case before:
		l.cfg.Logger.Info("flows can be opened again", "port", l.p.Name, "service", l.p.Service.String())
	default:
		l.cfg.Logger.Debug("flow opened", "port", l.p.Name, "service", l.p.Service.String(), "client", f.client.Remote)
	}
}

// refusal is what an answer without a Flow says, in the words of who refused.
func refusal(resp *proxy.Response) error {
	text := ""
	if resp.Body != nil && resp.Body.Buffered() > 0 {
		b := make([]byte, 512)
		n, _ := resp.Body.Read(b)
		text = strings.TrimSpace(string(b[:n]))
	}
	if text == "" {
		text = resp.Fields.Get("Pillion-Error")
	}
	return fmt.Errorf("status %d %s", resp.Status, text)
}
