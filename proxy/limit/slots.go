package limit

import (
	"strings"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Settings bound the requests that run at a time.
type Settings struct {
	// Requests may run at a time; with Adaptive at most so many.
	Requests int
	// Adaptive makes the bound follow the latency.
	Adaptive bool
	// Pending may wait for one that runs to end, each for Wait at most.
	Pending int
	Wait    time.Duration
	// Priority names the field that says how important a request is: a number from 0, the most, to 7, or RFC 9218's u=. What does not say is 3.
	Priority string
}

// levels of priority, and the one of requests that say nothing.
const (
	levels = 8
	middle = 3
)

// Concurrency is the count that the Settings bound. It outlives them: see Set. It is safe for all shards.
type Concurrency struct {
	detail string // of the error that refuses

	mu      sync.Mutex // never held over a wait or a call
	set     Settings
	max     int // that may run now
	running int
	waiting [levels]queue
	length  int // of all queues
	adapt   gradient
	free    *slot
	shed    uint64
}

// NewConcurrency returns one for what, as errors call it, without a bound until Set.
func NewConcurrency(what string) *Concurrency {
	return &Concurrency{detail: "as many requests run for " + what + " as may, and as many wait"}
}

// NewStreams returns one that is for the method Streams.
func NewStreams(what string) *Concurrency {
	return &Concurrency{detail: "as many connections to " + what + " are open as may be, and as many requests wait for one"}
}

// Set changes the bounds. Those who wait are looked at again when a request ends.
func (c *Concurrency) Set(s Settings) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Adaptive && (!c.set.Adaptive || c.max == 0) {
		c.adapt.start(s.Requests)
		c.max = int(c.adapt.limit)
	}
	if s.Adaptive {
		c.adapt.most = float64(s.Requests)
		c.max = min(c.max, s.Requests)
	} else {
		c.max = s.Requests
	}
	c.set = s
}

// Stats says how many run and wait, how many may run, and how many were refused so far.
type Stats struct {
	Running, Waiting, Limit int
	Shed                    uint64
}

// Stats returns the present numbers.
func (c *Concurrency) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{Running: c.running, Waiting: c.length, Limit: c.max, Shed: c.shed}
}

// Layer returns the layer that keeps within the bounds.
func (c *Concurrency) Layer(next proxy.RoundTripper) proxy.RoundTripper {
	return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		sl, err := c.enter(req)
		if err != nil {
			req.Note("limit", "refused: too many requests run", 0)
			return err
		}
		err = next.RoundTrip(req, resp)
		now := req.Shard.Now()
		if err != nil || resp.Stream != nil || resp.Flow != nil || strings.HasPrefix(resp.Fields.Get("Content-Type"), "text/event-stream") {
			c.leave(sl, now.Sub(sl.since), err == nil)
			return err
		}
		sl.answered = now.Sub(sl.since)
		sl.inner = resp.Closer()
		resp.OnClose(sl)
		return nil
	})
}

// Streams returns the layer that keeps Streams within the bounds, each from its request to its end. Other requests pass.
func (c *Concurrency) Streams(next proxy.RoundTripper) proxy.RoundTripper {
	return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		if !req.IsConnect() && req.Upgrade == "" || req.Upgrade == proxy.ConnectUDP {
			return next.RoundTrip(req, resp)
		}
		sl, err := c.enter(req)
		if err != nil {
			req.Note("limit", "refused: too many connections are open", 0)
			return err
		}
		if err = next.RoundTrip(req, resp); err != nil || resp.Stream == nil {
			c.leave(sl, 0, false)
			return err
		}
		sl.inner = resp.Closer()
		resp.OnClose(sl)
		return nil
	})
}

// slot is one request that runs.
type slot struct {
	c        *Concurrency
	inner    proxy.ResponseCloser
	since    task.Instant
	answered time.Duration
	next     *slot // when free
}

// CloseResponse implements proxy.ResponseCloser.
func (sl *slot) CloseResponse(resp *proxy.Response) {
	if sl.inner != nil {
		sl.inner.CloseResponse(resp)
	}
	sl.c.leave(sl, sl.answered, true)
}

// enter counts req in, after a wait if need be.
func (c *Concurrency) enter(req *proxy.Request) (*slot, error) {
	c.mu.Lock()
	if c.running < c.max && c.length == 0 {
		c.running++
		sl := c.takeLocked()
		c.mu.Unlock()
		sl.since = req.Shard.Now()
		return sl, nil
	}
	level := priority(req, c.set.Priority)
	wait := c.set.Wait
	if c.set.Pending == 0 || c.length >= c.set.Pending && !c.evictLocked(level) {
		c.shed++
		c.mu.Unlock()
		return nil, c.overloaded()
	}
	w := &waiter{s: req.Shard, level: level}
	w.s.Gate(&w.gate)
	w.wake = w.gate.Wake
	c.waiting[level].push(w)
	c.length++
	c.mu.Unlock()
	req.Note("limit", "waits for a running request to end", 0)
	return c.await(w, req, wait)
}

// await waits until w has its turn, or will not get it.
func (c *Concurrency) await(w *waiter, req *proxy.Request, wait time.Duration) (*slot, error) {
	began := req.Shard.Now()
	until := began.Add(wait)
	if req.Deadline != 0 {
		until = min(until, req.Deadline)
	}
	before, gone := req.Cancel.Watch(w)
	w.s.Lock()
	w.before = before
	w.s.Unlock()
	inTime := gone == nil
	for inTime && !c.decided(w) && req.Cancel.Err() == nil {
		inTime = w.gate.Wait(until)
	}
	if req.Record != nil {
		req.Record.Queued += req.Shard.Now().Sub(began)
	}
	if gone == nil {
		if before != nil {
			_, _ = req.Cancel.Watch(before)
		} else {
			req.Cancel.Unwatch(w)
		}
	}
	c.mu.Lock()
	if w.state == inLine {
		c.waiting[w.level].remove(w)
		c.length--
		w.state = turnedAway
		c.shed++
	}
	granted := w.state == granted
	var sl *slot
	if granted {
		sl = c.takeLocked()
	}
	c.mu.Unlock()
	if err := req.Cancel.Err(); err != nil {
		if granted {
			c.leave(sl, 0, false)
		}
		return nil, &proxy.Error{Code: proxy.ClientGone, Detail: "the client left while its request waited", Unsent: true, Err: err}
	}
	if !granted {
		return nil, c.overloaded()
	}
	sl.since = req.Shard.Now()
	return sl, nil
}

func (c *Concurrency) decided(w *waiter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return w.state != inLine
}

// takeLocked returns a slot for one that runs.
func (c *Concurrency) takeLocked() *slot {
	sl := c.free
	if sl == nil {
		return &slot{c: c}
	}
	c.free, sl.next = sl.next, nil
	return sl
}

// leave counts a request out. took is how long its answer took, if it is one to learn from.
func (c *Concurrency) leave(sl *slot, took time.Duration, learn bool) {
	now := sl.since.Add(took)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.set.Adaptive && learn {
		c.adapt.add(now, took, c.running)
		c.max = int(c.adapt.limit)
	}
	c.running--
	sl.inner = nil
	sl.next, c.free = c.free, sl
	for c.running < c.max && c.length > 0 {
		for i := range c.waiting {
			if w := c.waiting[i].pop(); w != nil {
				c.length--
				c.running++
				w.state = granted
				w.s.Post(w.wake)
				break
			}
		}
	}
}

// evictLocked turns the least important of those who wait away, the latest first, if it is less important than level.
func (c *Concurrency) evictLocked(level int) bool {
	for i := levels - 1; i > level; i-- {
		if w := c.waiting[i].popLast(); w != nil {
			c.length--
			c.shed++
			w.state = turnedAway
			w.s.Post(w.wake)
			return true
		}
	}
	return false
}

func (c *Concurrency) overloaded() error {
	return &proxy.Error{Code: proxy.Overloaded, Unsent: true, Detail: c.detail,
		Fields: proxy.Fields{{Name: "Retry-After", Value: "1"}}}
}

// priority reads the field of RFC 9218 section 4.1, or a number.
func priority(req *proxy.Request, field string) int {
	s := req.Fields.Get(field)
	if i := strings.Index(s, "u="); i >= 0 {
		s = s[i+2:]
	}
	if s = strings.TrimSpace(s); s == "" || s[0] < '0' || s[0] >= '0'+levels {
		return middle
	}
	return int(s[0] - '0')
}
