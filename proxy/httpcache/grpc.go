package httpcache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/cachecontrol"
	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
)

const (
	maxQuestion = 64 << 10 // of a unary request, in bytes; larger ones pass
	framing     = 5        // bytes before a message: whether it is compressed, and its length
)

// unary is a call of a gRPC method whose answers are kept. gRPC has no rules for that: the configuration says for how long, and the key is everything that the server is asked: the
// message and the metadata, but for what says nothing of the question.
type unary struct {
	ttl      time.Duration
	question []byte
}

// unaryTTL is how long answers to a request are kept; zero if it is none of those calls.
func (s *Settings) unaryTTL(req *proxy.Request) time.Duration {
	if s.GRPC == nil || req.Method != "POST" || req.Body == nil || !isGRPC(req.Fields) {
		return 0
	}
	return s.GRPC[req.Path]
}

func isGRPC(f proxy.Fields) bool { return strings.HasPrefix(f.Get("Content-Type"), "application/grpc") }

// unary answers a call from what is kept, or keeps what comes.
func (x *call) unary(ttl time.Duration) error {
	req := x.req
	asked := req.Body
	question, err := readMessage(asked)
	switch {
	case err == errNotUnary:
		req.Body = &replay{Body: asked, rest: question}
		defer func() { req.Body = asked }()
		x.at.counters.passed.Add(1)
		return x.next.RoundTrip(req, x.resp)
	case err != nil:
		return &proxy.Error{Code: proxy.ClientGone, Detail: "the request broke off before it was sent on", Unsent: true, Err: err}
	}
	u := &unary{ttl: ttl, question: question}
	x.q = rules.Request{CC: cachecontrol.None(), Keyed: x.q.Keyed} // conditions and ranges mean nothing in gRPC
	x.k.text = append(appendKey(x.room[:0], x.service(req), req.Scheme, req.Authority, req.Path), u.mark(req.Fields)...)
	x.k.hash = x.c.hash(x.k.text)
	return x.call(u)
}

func (x *call) call(u *unary) error {
	r := x.c.resource(x.k)
	if x.fetch(r) {
		r = x.c.resource(x.k)
	}
	if r != nil {
		now := x.c.now(x.req.Shard)
		if e := r.find(x.req, &x.q, x.who); e != nil && e.content != nil && e.policy.Reuse(&x.q, now) == rules.Fresh {
			x.at.counters.hits.Add(1)
			e.hits.Add(1)
			x.req.Note("cache", "answered from the cache; seconds old", int64(e.policy.Age(now)/time.Second))
			x.serve(e, now, e.ageNow(now, x.status.name).status, true)
			return nil
		}
	}
	x.at.counters.misses.Add(1)
	p, leads := x.c.set(x.k.hash).board(x.k.text, x.req, x.who, true, func() bool { return x.there(r) }, func() *flight {
		f := x.flight(nil, nil, fwdURIMiss)
		f.own, f.unary = true, u
		return f
	})
	if p == nil {
		return x.call(u)
	}
	if leads {
		p.f.prepare(x.req)
		x.req.Shard.Go(p.f.run)
	} else {
		x.req.Note("cache", "waits for another request for the same", 0)
	}
	ph, err := p.wait(x.req)
	if err != nil {
		return err
	}
	if leads {
		x.told(p.f)
	}
	return x.called(u, p, ph, leads)
}

// called answers a call with what its flight has come to: the one that leads gets whatever it is, the others what is worth keeping.
func (x *call) called(u *unary, p *passenger, ph phase, leads bool) error {
	f := p.f
	switch {
	case ph == handed && leads && f.claim(p):
		f.leave(p)
		x.takeOver(f)
		return nil
	case ph == failed && leads:
		f.mu.Lock()
		err := f.err
		f.mu.Unlock()
		f.leave(p)
		return err
	case ph != landed:
		f.leave(p)
		return x.alone(u)
	}
	f.mu.Lock()
	e := f.entry
	f.mu.Unlock()
	now := x.c.now(x.req.Shard)
	if leads {
		status := x.status.plain[fwdURIMiss]
		switch done := e.content.complete.Load(); {
		case done && answers(e.content, e.content.trailers):
			status = x.status.stored[fwdURIMiss]
		case done:
			status = x.status.detail(fwdURIMiss, rules.GRPC)
		}
		served := x.serve(e, now, status, false)
		f.leave(p)
		if !served {
			return &proxy.Error{Code: proxy.PeerReset, Detail: "the answer broke off", Err: e.content.broke()}
		}
		return nil
	}
	good := x.whole(e) && e.selects(x.req, &x.q, x.who) && x.serve(e, now, x.status.collapsed[fwdURIMiss], false)
	f.leave(p)
	if !good {
		return x.alone(u)
	}
	x.at.counters.collapsed.Add(1)
	return nil
}

// alone sends a call on that is kept from nobody's answer.
func (x *call) alone(u *unary) error {
	asked := x.req.Body
	x.req.Body = bodyOf(u.question, x.req)
	defer func() { x.req.Body = asked }()
	return x.next.RoundTrip(x.req, x.resp)
}

// whole waits for the end of an answer that another call waits for too, and reports whether it is one that is worth having.
func (x *call) whole(e *entry) bool {
	var r reader
	if !r.open(e.content, 0, proxy.Unknown, x.req) {
		return false
	}
	defer func() { _ = r.Close() }()
	r.trailers = true
	b := x.req.Shard.Buffer()
	defer x.req.Shard.Free(b)
	var head [framing]byte
	for n := 0; ; {
		m, err := r.Read(b.B)
		copy(head[min(n, framing):], b.B[:m])
		n += m
		switch {
		case err == io.EOF:
			return answers(e.content, r.Trailers())
		case err != nil, n >= framing && int64(n) > messageEnd(head[:]):
			return false // broken, or a second message: a stream, whose end may be far
		}
	}
}

// judge is the policy for an answer to a call, whose trailers will say if it is kept after all.
func (u *unary) judge(req *proxy.Request, resp *proxy.Response, received rules.Time) rules.Policy {
	p := rules.Policy{Lifetime: u.ttl, Explicit: true, Received: received, Date: received, IfError: -1, Tags: []string{req.Path}}
	if resp.Status != 200 || resp.Body == nil || !isGRPC(resp.Fields) {
		p.Reason = rules.GRPC
	}
	return p
}

// answers reports whether a complete content with its trailers is one message, and the call succeeded.
func answers(c *content, trailers proxy.Fields) bool {
	var head [framing]byte
	n := 0
	for _, chunk := range c.chunks {
		n += copy(head[n:], chunk)
	}
	return n == framing && c.n == messageEnd(head[:]) && trailers.Get("grpc-status") == "0"
}

// messageEnd is the length of a message with its framing.
func messageEnd(head []byte) int64 { return framing + int64(binary.BigEndian.Uint32(head[1:])) }

// errNotUnary says that a request is more than one message, or a large one.
var errNotUnary = &proxy.Error{Code: proxy.Unsupported, Detail: "not one small message"}

// readMessage reads a request that is one message. With errNotUnary there is more than what it returns.
func readMessage(b proxy.Body) ([]byte, error) {
	all := make([]byte, 0, 512)
	for {
		if len(all) == cap(all) {
			all = slices.Grow(all, 1)
		}
		n, err := b.Read(all[len(all):cap(all)])
		all = all[:len(all)+n]
		known := len(all) >= framing
		switch {
		case known && int64(len(all)) > messageEnd(all), len(all) > maxQuestion, known && messageEnd(all) > maxQuestion:
			return all, errNotUnary
		case err == io.EOF && (!known || int64(len(all)) != messageEnd(all)):
			return all, errNotUnary
		case err == io.EOF:
			return all, nil
		case err != nil:
			return all, err
		}
	}
}

// mark is what makes the key of a call: a hash of all that is asked. No path of another request has a space.
func (u *unary) mark(fields proxy.Fields) string {
	var lines []string
	for _, f := range fields {
		if name := strings.ToLower(f.Name); asks(name) {
			lines = append(lines, name+":"+f.Value+"\n")
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int {
		x, _, _ := strings.Cut(a, ":")
		y, _, _ := strings.Cut(b, ":")
		return strings.Compare(x, y) // values of one name keep their order
	})
	h := sha256.New()
	for _, l := range lines {
		h.Write([]byte(l))
	}
	h.Write([]byte{'\n'})
	h.Write(u.question)
	return " " + hex.EncodeToString(h.Sum(nil))
}

// asks reports whether a field may change the answer. Those that do not are about the way, the time and the trace; whatever is not known here counts.
func asks(name string) bool {
	switch name {
	case "user-agent", "te", "host", "content-length", "grpc-timeout", "grpc-previous-rpc-attempts", "x-request-timeout-ms", "x-envoy-expected-rq-timeout-ms",
		"traceparent", "tracestate", "b3", "baggage", "grpc-trace-bin", "grpc-tags-bin", "x-request-id", "via", "pillion-path", "pillion-attempt":
		return false
	}
	return !strings.HasPrefix(name, "x-b3-")
}

// bodyOf is a Body of bytes.
func bodyOf(b []byte, req *proxy.Request) proxy.Body {
	c := &content{n: int64(len(b)), done: true}
	if len(b) > 0 {
		c.chunks = [][]byte{b}
	}
	c.complete.Store(true)
	r := &reader{}
	r.open(c, 0, c.n, req)
	return r
}

// replay is a Body of which something was read already.
type replay struct {
	proxy.Body
	rest []byte
}

// Read implements proxy.Body.
func (b *replay) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return b.Body.Read(p)
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Buffered implements proxy.Body.
func (b *replay) Buffered() int {
	if n := len(b.rest); n > 0 {
		return n
	}
	return b.Body.Buffered()
}

// WaitReadable implements proxy.Waiter.
func (b *replay) WaitReadable() error {
	if w, ok := b.Body.(proxy.Waiter); ok && len(b.rest) == 0 {
		return w.WaitReadable()
	}
	return nil
}
