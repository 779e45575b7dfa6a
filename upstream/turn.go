package upstream

import (
	"math/rand/v2"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// turnQuiet is how long a Stream must have been quiet to be ended for its age.
const turnQuiet = time.Second

// turning is a Stream that is ended once it is old and quiet, so that the app opens another one, which is balanced anew: the service sees the end of what the
// client sends, and ends its own direction, as it would for a client that leaves.
type turning struct {
	proxy.Stream
	sh *shardState

	// Guarded by the shard's lock.

	last  task.Instant // bytes, either way
	timer task.Timer   // nil once the Stream is over, or ended here
	ended bool         // what the client sends
}

// turn wraps the Stream of an answer, if it is one, of a service whose Streams have an age. It returns nil if it does not.
func (sh *shardState) turn(svc *service, req *proxy.Request, resp *proxy.Response) *turning {
	age := svc.StreamAge
	if resp.Stream == nil || req.Upgrade == proxy.ConnectUDP {
		return nil
	}
	t := &turning{Stream: resp.Stream, sh: sh, last: sh.shard.Now()}
	if w, ok := resp.Stream.(proxy.Waiter); ok {
		resp.Stream = &waitingTurn{t, w}
	} else {
		resp.Stream = t
	}
	sh.shard.Lock()
	defer sh.shard.Unlock()
	t.timer = sh.shard.After(age*9/10+rand.N(age/5+1), t.old) // not all at once
	return t
}

// waitingTurn is a turning Stream that is a Waiter.
type waitingTurn struct {
	*turning
	proxy.Waiter
}

// Read reads on.
func (t *turning) Read(p []byte) (int, error) {
	n, err := t.Stream.Read(p)
	t.heard()
	return n, err
}

// Write writes on, unless the Stream was ended for its age.
func (t *turning) Write(p []byte) (int, error) {
	if t.heard() {
		return 0, task.ErrClosed
	}
	return t.Stream.Write(p)
}

// CloseWrite ends what the client sends, if that has not ended for its age.
func (t *turning) CloseWrite() error {
	if t.heard() {
		return nil
	}
	return t.Stream.CloseWrite()
}

// heard notes that the Stream is in use, and reports whether what the client sends was ended here.
func (t *turning) heard() (ended bool) {
	s := t.sh.shard
	s.Lock()
	defer s.Unlock()
	t.last = s.Now()
	return t.ended
}

// old is a callback, once the Stream has its age, and while it is in use then.
func (t *turning) old() {
	s := t.sh.shard
	s.Lock()
	defer s.Unlock()
	if t.timer == nil {
		return
	}
	if quiet := s.Now().Sub(t.last); quiet < turnQuiet {
		t.timer = s.After(turnQuiet-quiet, t.old)
		return
	}
	t.timer, t.ended = nil, true
	t.sh.turned++
	s.Go(func() { _ = t.Stream.CloseWrite() }) // an error says that it is over already
}

// stopLocked ends the watch over the Stream's age. The lock is held.
func (t *turning) stopLocked() {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}
