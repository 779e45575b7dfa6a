package httpcache

import (
	"io"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
)

// pump writes the content of a flight's answer into its entry, in the flight's task.
type pump struct {
	f    *flight
	e    *entry
	fwd  forward
	out  bool    // the entry has been given to those who wait
	big  bool    // it is not kept
	wait *waiter // once it is big
	last int     // bytes that came with the end: nobody sees them before the entry is kept, so that whoever has all of it finds it
	more [1]byte
}

// slowest is how far the slowest reader of a content that is too large to be kept may be behind, in bytes.
const slowest = 1 << 20

// run ends with the answer. What comes with the head is taken first, so that a short answer is complete before anybody sees it.
func (p *pump) run() {
	f, c := p.f, p.e.content
	body := f.resp.Body
	var err error
	for err == nil && body != nil {
		if !p.out && body.Buffered() == 0 {
			p.show()
		}
		err = p.step(body)
	}
	if err == io.EOF || body == nil {
		err = nil
	}
	if known := f.resp.Length; err == nil && known >= 0 && c.n+int64(p.last) != known && body != nil {
		err = &proxy.Error{Code: proxy.AppBadAnswer, Detail: "the answer's content is not as long as it says"}
	}
	var trailers proxy.Fields
	if err == nil && body != nil {
		trailers = cloneFields(body.Trailers(), everything)
	}
	p.end(trailers, err)
}

// step reads once.
func (p *pump) step(body proxy.Body) error {
	f, c := p.f, p.e.content
	left := proxy.Unknown
	if f.resp.Length >= 0 {
		left = f.resp.Length - c.n
	}
	n, err := body.Read(c.room(left))
	if err == nil && n > 0 && int64(n) == left {
		err = ending(body, p.more[:])
	}
	if !p.big && c.n+int64(n) > f.set.maxObject(f.c) {
		p.outgrown()
	}
	switch {
	case err == io.EOF && !p.big:
		p.last = n
	case n > 0:
		c.wrote(n, f.shard)
	}
	if p.big {
		if waited := p.awaitReaders(); waited != nil {
			return waited
		}
	}
	return err
}

// ending waits for the end of a body all of whose content has come.
func ending(body proxy.Body, more []byte) error {
	n, err := body.Read(more)
	if n > 0 {
		return errLonger
	}
	return err
}

var errLonger = &proxy.Error{Code: proxy.AppBadAnswer, Detail: "the answer's content is longer than it says"}

// outgrown is for an answer that did not say how large it would be: its readers get it all, and nobody else will.
func (p *pump) outgrown() {
	p.big = true
	p.f.ended()
	p.f.at.counters.refused(rules.TooLarge)
	if p.f.unary == nil {
		p.f.c.forgo(p.f.key, p.f.c.now(p.f.shard)+rules.Time(passFor))
	}
	if !p.out {
		p.show()
	}
	p.wait = newWaiter(p.f.shard)
	p.f.settle(p.wait)
	p.e.content.window()
}

// awaitReaders waits until the slowest reader is near enough.
func (p *pump) awaitReaders() error {
	c := p.e.content
	for c.lagging(slowest, p.wait) {
		p.wait.gate.Wait(0)
	}
	if err := p.f.cancel.Err(); err != nil {
		return err
	}
	return nil
}

// show gives the entry to those who wait.
func (p *pump) show() {
	p.out = true
	p.f.land(p.e, p.fwd, false)
}

// end completes the entry, stores it and lets go of the answer.
func (p *pump) end(trailers proxy.Fields, err error) {
	f, c := p.f, p.e.content
	switch {
	case err != nil:
		f.at.counters.refused(rules.Incomplete)
		f.ended()
		c.wrote(p.last, f.shard)
		c.finish(trailers, err, f.shard)
	case p.big:
		c.finish(trailers, nil, f.shard)
	default:
		whole := c.whole(p.last, trailers)
		p.e = p.e.completed(whole)
		if f.unary != nil && !answers(whole, trailers) {
			f.at.counters.refused(rules.GRPC)
		} else {
			f.c.put(p.e, f.at)
		}
		f.ended()
		c.become(whole, f.shard)
	}
	f.resp.Close()
	switch {
	case p.out:
	case err != nil:
		f.fail(err)
	default:
		p.show()
	}
}

// completed is e with its whole content, or, of a part, with that.
func (e *entry) completed(whole *content) *entry {
	d := &entry{key: e.key, path: e.path, status: e.status, reason: e.reason, version: e.version, fields: e.fields, policy: e.policy,
		selectors: e.selectors, owner: e.owner, keyed: e.keyed, content: whole, spans: e.spans, search: e.search, sent: e.sent, told: e.told}
	if e.spans == nil {
		d.length = whole.n
		return d
	}
	// A part: of a whole whose length its Content-Range has told.
	d.length, d.content = e.length, nil
	d.spans = []span{{e.spans[0].first, whole}}
	return d
}
