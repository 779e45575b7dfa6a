package http1

import (
	"github.com/pillion-proxy/pillion/proxy"
)

// buildHead puts the head of req into the buffer. It reports whether it can be said in HTTP/1.1.
func (cc *ClientConn) buildHead(req *proxy.Request) (safe bool) {
	cc.key = ""
	if lacksKey(req) {
		cc.key = newKey()
	}
	b, safe := appendRequest(cc.out.beginSized(sizeOf(req)), req, cc.key, cc.cfg.Memory)
	cc.out.headed(b)
	return safe
}

// sendHead sends the head of req, which is in the buffer, with what is there of its content in the same write, and starts a task for the rest. unsent is true if nothing
// was sent.
func (cc *ClientConn) sendHead(req *proxy.Request) (unsent bool, err error) {
	cc.how, cc.left, cc.body = none, req.Length, nil
	if hasContent(req) {
		cc.how, cc.body = sized, req.Body
		if req.Length == proxy.Unknown {
			cc.how = chunked
		}
	}
	whole := cc.how == none
	if !whole && !req.Expect {
		if whole, err = cc.out.buffered(cc.body, cc.how, &cc.left); err != nil {
			cc.out.free()
			cc.cutShort(err)
			return true, err
		}
	}
	if whole {
		err = cc.out.end()
	} else {
		err = cc.out.flush()
	}
	if whole || err != nil {
		cc.out.free()
		cc.body = nil
		if !whole {
			cc.sent(notSent)
		}
		return false, err
	}
	cc.startSender(req.Expect)
	return false, nil
}

func (cc *ClientConn) startSender(expect bool) {
	cc.s.Lock()
	cc.sending = underway
	if expect {
		cc.leave = awaited
		cc.s.Gate(&cc.gate)
	}
	cc.s.Unlock()
	cc.s.Go(cc.sender)
}

// send is the task that sends the content of a request, so that an early answer is seen meanwhile.
func (cc *ClientConn) send() {
	ended := notSent
	defer func() { cc.senderEnded(ended) }()
	if !cc.awaitLeave() {
		cc.out.free()
		return
	}
	readErr, writeErr := cc.out.content(cc.body, cc.how, cc.left)
	cc.out.free()
	switch {
	case readErr != nil:
		cc.cutShort(readErr)
	case writeErr == nil:
		ended = allSent
	}
}

// awaitLeave waits for 100 (Continue), where one is expected, but not for ever.
//
// RFC 9110 section 10.1.1: "A client that sends a 100-continue expectation is not required to wait for any specific
// length of time; such a client MAY proceed to send the content even if it has not yet received a response.
// Furthermore, since 100 (Continue) responses cannot be sent through an HTTP/1.0 intermediary, such a client
// SHOULD NOT wait for an indefinite period".
func (cc *ClientConn) awaitLeave() bool {
	until := cc.s.Now().Add(cc.cfg.ContinueTimeout)
	cc.s.Lock()
	defer cc.s.Unlock()
	for cc.leave == awaited {
		cc.s.Unlock()
		woken := cc.gate.Wait(until)
		cc.s.Lock()
		if !woken && cc.leave == awaited {
			cc.leave = granted
		}
	}
	return cc.leave == granted
}

// decideLeave answers a sender that still waits.
func (cc *ClientConn) decideLeave(l leaveState) {
	cc.s.Lock()
	defer cc.s.Unlock()
	if cc.leave == awaited {
		cc.leave = l
		cc.gate.Wake()
	}
}

// cutShort ends an exchange whose request cannot be completed: the app must not take what it got for the whole.
func (cc *ClientConn) cutShort(err error) {
	cc.s.Lock()
	over := cc.state != busy
	if !over {
		cc.cut = err
	}
	cc.s.Unlock()
	if !over {
		cc.shut(resetConn)
	}
}

func (cc *ClientConn) sent(as sendState) {
	cc.s.Lock()
	defer cc.s.Unlock()
	cc.sending = as
}

// senderEnded is the end of the sender's task.
func (cc *ClientConn) senderEnded(as sendState) {
	cc.body = nil
	cc.s.Lock()
	cc.sending = as
	last := cc.state == finishing
	cc.s.Unlock()
	switch {
	case last && as == allSent:
		cc.used = true
		cc.rest()
	case last:
		cc.shut(resetConn)
	}
}
