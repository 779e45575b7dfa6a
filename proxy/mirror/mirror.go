// Package mirror sends a copy of a share of a service's requests to another service, to try that with real traffic. Nobody waits for the copy, and nothing of
// what becomes of it reaches the client: it is sent once its content has passed by to where it belongs, its answer is read and thrown away, and what is too
// much is not sent. Copies say so in a field. Streams are not copied.
package mirror

import (
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// Field marks a copy. What a client wrote there itself is removed from requests that may be copied.
const Field = "Pillion-Mirror"

// Settings say what is copied. The zero value copies nothing.
type Settings struct {
	// To is where copies go. Port 0 is the port that the request is for.
	To proxy.Service
	// Share is the part of the requests that is copied, from 0 to 1.
	Share float64
	// Body is the most content, in bytes, that a copy may have; what has more is not copied. If zero, only requests without content are.
	Body int
	// Pending bounds the copies that are under way on each shard; while there are as many nothing is copied. If zero, 100.
	Pending int
	// Timeout bounds the time of a copy. If zero, 10 s.
	Timeout time.Duration
}

// Any reports whether the settings copy anything.
func (s Settings) Any() bool { return s.To.Name != "" && s.Share > 0 }

// State counts the copies of one service. It is safe for concurrent use, and outlives Layers.
type State struct {
	sent, answered, failed, crowded, large, cut atomic.Uint64
}

// Stats is a snapshot of a State.
type Stats struct {
	Sent     uint64 // copies
	Answered uint64 // with less than 500
	Failed   uint64 // with more, or not at all
	Crowded  uint64 // not sent: too many were under way
	Large    uint64 // not sent: too much content
	Cut      uint64 // not sent: the content never came to its end
}

// Stats returns what was counted.
func (s *State) Stats() Stats {
	return Stats{s.sent.Load(), s.answered.Load(), s.failed.Load(), s.crowded.Load(), s.large.Load(), s.cut.Load()}
}

// Layer copies the requests of one service: settings are for Request.Rule 0, 1 and so on. Copies are sent by way of copies, which is below what repeats
// requests: what becomes of a copy must neither use up the service's budget of retries nor count as its latency.
func (s *State) Layer(settings []Settings, shards int, copies proxy.RoundTripper) proxy.Layer {
	return func(next proxy.RoundTripper) proxy.RoundTripper {
		return &layer{state: s, settings: settings, next: next, copies: copies, pending: make([]atomic.Int32, shards)}
	}
}

type layer struct {
	state    *State
	settings []Settings
	next     proxy.RoundTripper
	copies   proxy.RoundTripper
	pending  []atomic.Int32 // by Shard.Index
}

// The defaults of Settings.
const (
	usualPending = 100
	usualTimeout = 10 * time.Second
)

// RoundTrip implements proxy.RoundTripper.
func (l *layer) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	s := l.chosen(req)
	if s == nil {
		return l.next.RoundTrip(req, resp)
	}
	req.Fields.Del(Field)
	if rand.Float64() >= s.Share {
		return l.next.RoundTrip(req, resp)
	}
	if req.Length > int64(s.Body) {
		l.state.large.Add(1)
		return l.next.RoundTrip(req, resp)
	}
	if !l.enter(req, s) {
		l.state.crowded.Add(1)
		return l.next.RoundTrip(req, resp)
	}
	req.Note("mirror", "a copy goes to another service", 0)
	c := l.copy(req, s)
	if req.Body == nil {
		c.send()
		return l.next.RoundTrip(req, resp)
	}
	body := req.Body
	req.Body = c.listen(body, req.Length, s.Body)
	err := l.next.RoundTrip(req, resp)
	req.Body = body
	if err != nil {
		c.drop(&l.state.cut)
		return err
	}
	c.inner = resp.Closer()
	resp.OnClose(c)
	return nil
}

// chosen returns what applies to req, nil if nothing of it is copied.
func (l *layer) chosen(req *proxy.Request) *Settings {
	if req.Rule >= len(l.settings) || req.Upgrade != "" || req.IsConnect() {
		return nil
	}
	if s := &l.settings[req.Rule]; s.Any() {
		return s
	}
	return nil
}

// enter reports whether one more copy may be under way, and counts it.
func (l *layer) enter(req *proxy.Request, s *Settings) bool {
	most := s.Pending
	if most == 0 {
		most = usualPending
	}
	n := &l.pending[req.Shard.Index()]
	if n.Add(1) > int32(most) {
		n.Add(-1)
		return false
	}
	return true
}

// copy makes a copy of the head. Nothing of it is the request's: that may be over before.
func (l *layer) copy(req *proxy.Request, s *Settings) *shadow {
	to := s.To
	if to.Port == 0 {
		to.Port = req.Service.Port
	}
	c := &shadow{layer: l, timeout: s.Timeout}
	if c.timeout == 0 {
		c.timeout = usualTimeout
	}
	c.req = proxy.Request{
		Method: strings.Clone(req.Method), Scheme: strings.Clone(req.Scheme), Authority: strings.Clone(req.Authority), Path: strings.Clone(req.Path),
		Version: req.Version, Fields: make(proxy.Fields, 0, len(req.Fields)+1), Shard: req.Shard, Client: req.Client, Local: req.Local,
		Service: proxy.Service{Name: strings.Clone(req.Service.Name), Port: req.Service.Port}, Backend: to, Rule: req.Rule, ID: strings.Clone(req.ID),
	}
	for _, f := range req.Fields {
		c.req.Fields = append(c.req.Fields, proxy.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value)})
	}
	c.req.Fields.Add(Field, "1")
	return c
}
