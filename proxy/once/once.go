package once

import (
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

const (
	maxBody    = 64 << 10 // bytes of a request, and of an answer
	maxEntries = 1000     // per caller
	maxBytes   = 8 << 20  // of answers, per caller
	maxCallers = 1000
	keepFor    = 5 * time.Minute
	margin     = time.Second // by which an attempt may be older than it says, because it was under way
)

// Memory knows what has run. It is safe for all shards.
type Memory struct {
	began task.Instant

	mu      sync.Mutex // never held over a wait or a call
	callers map[proxy.Identity]*caller
	stats   Stats
}

// caller is one identity's part. Guarded by Memory.mu.
type caller struct {
	entries map[string]*entry
	order   []*entry // the oldest first
	bytes   int
	since   task.Instant // every attempt of later is known
}

// Stats counts.
type Stats struct {
	// Known is how many ids are remembered now, Bytes the size of their answers.
	Known, Bytes int
	// Repeated is how many attempts got the answer of an earlier one, Forgotten how many were refused because nothing was known of the earlier.
	Repeated, Forgotten uint64
}

// New returns an empty Memory. now is the time, since which it knows everything.
func New(now task.Instant) *Memory {
	return &Memory{began: now, callers: make(map[proxy.Identity]*caller)}
}

// Stats returns the present numbers.
func (m *Memory) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := m.stats
	for _, c := range m.callers {
		st.Known += len(c.entries)
		st.Bytes += c.bytes
	}
	return st
}

// Layer returns the layer. Requests without an id pass.
func (m *Memory) Layer(next proxy.RoundTripper) proxy.RoundTripper {
	l := &layer{m: m, next: next}
	l.first, l.rest = proxy.Peel(next)
	return l
}

type layer struct {
	m     *Memory
	next  proxy.RoundTripper
	first []proxy.Before // next, in two parts
	rest  proxy.RoundTripper
}

// RoundTrip implements proxy.RoundTripper.
func (l *layer) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	if req.Lacks(proxy.NameOwn) {
		for _, first := range l.first {
			if err := first(req); err != nil {
				return err
			}
		}
		return l.rest.RoundTrip(req, resp)
	}
	i := req.Fields.Index(proxy.AttemptIDField)
	if i < 0 {
		return l.next.RoundTrip(req, resp)
	}
	id, age, ok := proxy.ParseAttempt(req.Fields[i].Value)
	req.Fields.Del(proxy.AttemptIDField) // not for the app
	if !ok || req.Peer == nil || req.IsConnect() || req.Upgrade != "" {
		return l.next.RoundTrip(req, resp)
	}
	return l.m.attempt(l.next, req, resp, string([]byte(id)), age)
}

func (m *Memory) attempt(next proxy.RoundTripper, req *proxy.Request, resp *proxy.Response, id string, age time.Duration) error {
	e, first, err := m.enter(req, id, age)
	if err != nil {
		req.Note("once", "refused: nobody knows whether the first attempt ran", age.Milliseconds())
		return err
	}
	if !first {
		req.Note("once", "another attempt of this request came before: it gets the same answer", age.Milliseconds())
		return e.read(req, resp)
	}
	body, err := whole(req.Body)
	switch {
	case errors.Is(err, errLarge): // and the rest of it is still to come
		m.lose(e)
		src := req.Body
		req.Body = &prefixed{Body: src, rest: body}
		defer func() { req.Body = src }()
		return next.RoundTrip(req, resp)
	case err != nil:
		err = &proxy.Error{Code: proxy.ClientGone, Detail: "the request broke off before it was sent to the app", Unsent: true, Err: err}
		e.fail(err)
		m.forget(e)
		return err
	}
	r := e.join(req)
	f := &flight{m: m, e: e, next: next, req: detached(req, body)}
	req.Shard.Go(f.run)
	return r.await(req, resp)
}

// enter finds the entry of an attempt, or makes it: then the attempt is the first.
func (m *Memory) enter(req *proxy.Request, id string, age time.Duration) (e *entry, first bool, err error) {
	now := req.Shard.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.callers[req.Peer.Identity]
	if c == nil {
		c = m.newCaller(now)
		m.callers[req.Peer.Identity] = c
	}
	for len(c.order) > 0 && c.order[0].done && now.Sub(c.order[0].at) > keepFor {
		c.drop(c.order[0])
	}
	if e := c.entries[id]; e != nil && !e.lost {
		m.stats.Repeated++
		return e, false, nil
	} else if e != nil || age > 0 && now.Add(-age) < c.since.Add(margin) {
		m.stats.Forgotten++
		return nil, false, &proxy.Error{Code: proxy.AttemptForgotten,
			Detail: "an earlier attempt of this request may have run, and this sidecar does not know it (any more): it was too large, too long ago, or before a restart"}
	}
	if len(c.entries) >= maxEntries && !c.dropOldest() {
		return nil, false, &proxy.Error{Code: proxy.Overloaded, Unsent: true, Detail: "more requests of this caller run than can be remembered"}
	}
	e = &entry{id: id, caller: c, at: now}
	c.entries[id] = e
	c.order = append(c.order, e)
	return e, true, nil
}

// newCaller makes room for another caller. The mutex is held.
func (m *Memory) newCaller(now task.Instant) *caller {
	c := &caller{entries: make(map[string]*entry), since: m.began}
	if len(m.callers) < maxCallers {
		return c
	}
	for id, old := range m.callers { // all that can go
		if !slices.ContainsFunc(old.order, func(e *entry) bool { return !e.done }) {
			delete(m.callers, id)
		}
	}
	m.began, c.since = now, now
	return c
}

// drop forgets an entry, and with it that everything of its time is known. The mutex is held.
func (c *caller) drop(e *entry) {
	c.since = max(c.since, e.at)
	c.remove(e)
}

// remove takes an entry out. The mutex is held.
func (c *caller) remove(e *entry) {
	if c.entries[e.id] != e {
		return
	}
	delete(c.entries, e.id)
	if i := slices.Index(c.order, e); i >= 0 {
		c.order = slices.Delete(c.order, i, i+1)
	}
	c.bytes -= e.size
}

// dropOldest drops the oldest entry that has ended, if there is one. The mutex is held.
func (c *caller) dropOldest() bool {
	for _, e := range c.order {
		if e.done {
			c.drop(e)
			return true
		}
	}
	return false
}

// forget takes an entry out whose request did not run.
func (m *Memory) forget(e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.caller.remove(e)
}

// lose notes that a request ran, or runs, and its answer is not known.
func (m *Memory) lose(e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.lost, e.done = true, true
}

// finish notes that a request has ended and takes size bytes.
func (m *Memory) finish(e *entry, size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := e.caller
	e.done = true
	if c.entries[e.id] != e {
		return
	}
	e.size = size
	c.bytes += size
	for c.bytes > maxBytes && c.dropOldest() {
	}
}

var errLarge = errors.New("larger than what is remembered")

// whole reads a body, as far as it may be remembered.
func whole(b proxy.Body) (all []byte, err error) {
	if b == nil {
		return nil, nil
	}
	all = make([]byte, 0, 512)
	for {
		if len(all) == cap(all) {
			all = slices.Grow(all, 1)
		}
		n, err := b.Read(all[len(all):cap(all)])
		all = all[:len(all)+n]
		switch {
		case err == io.EOF:
			return all, nil
		case err != nil:
			return all, err
		case len(all) > maxBody:
			return all, errLarge
		}
	}
}

// prefixed is a Body of which something was read already.
type prefixed struct {
	proxy.Body
	rest []byte
}

// Read implements proxy.Body.
func (b *prefixed) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return b.Body.Read(p)
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Buffered implements proxy.Body.
func (b *prefixed) Buffered() int {
	if len(b.rest) > 0 {
		return len(b.rest)
	}
	return b.Body.Buffered()
}
