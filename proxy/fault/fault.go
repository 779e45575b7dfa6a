// Package fault is the layer that does on purpose what networks and peers do by themselves, for testing apps: it delays requests, answers
// in place of the service, and slows answers down, each for a share of the requests, or only for those with a header.
package fault

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Settings are the faults of one service, or of one of its routes. Shares are from 0 to 1.
type Settings struct {
	Delay      time.Duration
	DelayShare float64
	// Abort is the status that is answered; 0 for none.
	Abort      int
	AbortShare float64
	// Throttle is how many bytes per second of the answer's content come through; 0 for no bound.
	Throttle      int
	ThrottleShare float64
	// Header is the field that a request must have for anything to happen to it; "" for every request.
	Header string
}

// Any reports whether s does anything.
func (s Settings) Any() bool { return s.Delay > 0 || s.Abort > 0 || s.Throttle > 0 }

// State counts what was done. It outlives the Settings.
type State struct{ delayed, aborted, throttled atomic.Uint64 }

// Stats are the counts.
type Stats struct{ Delayed, Aborted, Throttled uint64 }

// Stats returns what was done so far.
func (st *State) Stats() Stats {
	return Stats{st.delayed.Load(), st.aborted.Load(), st.throttled.Load()}
}

// Layer returns the layer for rules: [0] for requests of no route, [n] for those of the n-th. Streams and Flows pass.
func (st *State) Layer(rules []Settings) proxy.Layer {
	return func(next proxy.RoundTripper) proxy.RoundTripper {
		return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			set := proxy.SettingsOf(req, rules)
			if !set.Any() || req.IsConnect() || req.Upgrade == proxy.ConnectUDP || set.Header != "" && !req.Fields.Has(set.Header) {
				return next.RoundTrip(req, resp)
			}
			return st.harm(next, req, resp, set)
		})
	}
}

func (st *State) harm(next proxy.RoundTripper, req *proxy.Request, resp *proxy.Response, set *Settings) error {
	if set.Delay > 0 && hit(set.DelayShare) {
		st.delayed.Add(1)
		req.Note("fault", "delayed on purpose, ms", set.Delay.Milliseconds())
		req.Shard.Sleep(set.Delay)
		if gone := req.Cancel.Err(); gone != nil {
			return &proxy.Error{Code: proxy.ClientGone, Detail: "the client left while its request was delayed on purpose", Unsent: true, Err: gone}
		}
	}
	if set.Abort > 0 && hit(set.AbortShare) {
		st.aborted.Add(1)
		req.Note("fault", "answered on purpose", int64(set.Abort))
		return &proxy.Error{Code: proxy.Injected, Status: set.Abort, Detail: "a fault that the configuration of this sidecar asks for", Unsent: true}
	}
	err := next.RoundTrip(req, resp)
	if err == nil && resp.Body != nil && set.Throttle > 0 && hit(set.ThrottleShare) {
		st.throttled.Add(1)
		req.Note("fault", "slowed down on purpose, bytes per second", int64(set.Throttle))
		resp.Body = &slow{Body: resp.Body, s: req.Shard, rate: set.Throttle}
	}
	return err
}

func hit(share float64) bool { return share >= 1 || rand.Float64() < share }

// slow is a Body that comes slowly. It says nothing about what is there, so that it is asked for piece by piece.
type slow struct {
	proxy.Body
	s    task.Shard
	rate int          // bytes per second
	due  task.Instant // when the next piece may come
}

// step is the time that one piece takes.
const step = 50 * time.Millisecond

// Read implements proxy.Body.
func (b *slow) Read(p []byte) (int, error) {
	now := b.s.Now()
	if b.due > now {
		b.s.Sleep(b.due.Sub(now))
		now = b.s.Now()
	}
	most := max(1, int(int64(b.rate)*int64(step)/int64(time.Second)))
	n, err := b.Body.Read(p[:min(len(p), most)])
	b.due = max(b.due, now).Add(time.Duration(n) * time.Second / time.Duration(b.rate))
	return n, err
}

// Buffered implements proxy.Body.
func (b *slow) Buffered() int { return min(b.Body.Buffered(), 0) }
