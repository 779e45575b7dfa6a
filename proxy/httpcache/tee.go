package httpcache

import (
	"io"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// tee is the Body of an answer that is stored on its way to its client. If the client leaves before the end, nothing is stored.
type tee struct {
	c     *Cache
	at    *site
	e     *entry
	most  int64
	shard task.Shard

	body   proxy.Body
	closer proxy.ResponseCloser
	known  int64 // the answer's length
	more   [1]byte
	over   bool // nothing is copied any more: it is stored, or never will be
}

// entry makes one of an answer's head, without a content.
func (c *Cache) entry(text string, req *proxy.Request, resp *proxy.Response, p rules.Policy, q *rules.Request, who proxy.Identity, sent rules.Time) *entry {
	e := &entry{key: text, path: pathOf(text), status: resp.Status, reason: cloneString(resp.Reason), version: resp.Version, sent: sent, length: resp.Length, told: resp.News != ""}
	e.fields = cloneFields(resp.Fields, func(name string) bool { return rules.Kept(name, p.Drop) })
	p.ETag, p.LastModified = e.fields.Get("ETag"), e.fields.Get("Last-Modified")
	p.Tags, p.Vary = cloneStrings(p.Tags), cloneStrings(p.Vary)
	p.Drop = nil
	e.policy = p
	e.selectors = rules.Selectors(p.Vary, req.Fields)
	e.keyed = keyedText(req, q.Keyed)
	if !p.Public {
		e.owner = who
	}
	if v := rules.Joined(e.fields, searchField); v != "" {
		e.search = parseSearch(v)
		e.key = e.search.key(text)
	}
	if e.status == 206 {
		e.part()
	}
	return e
}

// tee prepares the storing of an answer on its way.
func (c *Cache) tee(text string, req *proxy.Request, resp *proxy.Response, p rules.Policy, q *rules.Request, who proxy.Identity, sent rules.Time, at *site) *tee {
	t := &tee{c: c, at: at, e: c.entry(text, req, resp, p, q, who, sent), shard: req.Shard, known: resp.Length, most: c.maxObject.Load()}
	t.e.content = newContent(resp.Length)
	return t
}

// install puts t between the answer and its reader.
func (t *tee) install(resp *proxy.Response) {
	if resp.Body == nil {
		if resp.Length <= 0 {
			t.complete(nil)
		}
		return
	}
	t.body, t.closer = resp.Body, resp.Closer()
	resp.Body = t
	resp.OnClose(t)
}

// Read implements proxy.Body.
func (t *tee) Read(p []byte) (int, error) {
	n, err := t.body.Read(p)
	if t.over {
		return n, err
	}
	if n > 0 {
		left := proxy.Unknown
		if t.known >= 0 {
			left = t.known - t.e.content.n
		}
		if err == nil && int64(n) == left { // it is kept before whoever reads has it all
			err = ending(t.body, t.more[:])
		}
		t.e.content.append(p[:n], left, t.shard)
		if t.e.content.n > t.most {
			t.give(rules.TooLarge)
		}
	}
	switch {
	case err == nil || t.over:
	case err == io.EOF:
		t.complete(t.body.Trailers())
	default:
		t.give(rules.Incomplete)
	}
	return n, err
}

// complete stores the entry, if its content is as long as was said.
func (t *tee) complete(trailers proxy.Fields) {
	if t.known >= 0 && t.e.content.n != t.known {
		t.give(rules.Incomplete)
		return
	}
	t.over = true
	t.e.content.finish(cloneFields(trailers, everything), nil, t.shard)
	t.c.put(t.e.completed(t.e.content), t.at)
}

// give gives the storing up.
func (t *tee) give(why rules.Reason) {
	t.over = true
	t.e.content = nil
	t.at.counters.refused(why)
}

// Buffered implements proxy.Body.
func (t *tee) Buffered() int { return t.body.Buffered() }

// Trailers implements proxy.Body.
func (t *tee) Trailers() proxy.Fields { return t.body.Trailers() }

// Close implements proxy.Body.
func (t *tee) Close() error {
	t.ended()
	return t.body.Close()
}

// WaitReadable implements proxy.Waiter.
func (t *tee) WaitReadable() error {
	if w, ok := t.body.(proxy.Waiter); ok {
		return w.WaitReadable()
	}
	return nil
}

// Truncated implements proxy.Truncater.
func (t *tee) Truncated() error {
	if b, ok := t.body.(proxy.Truncater); ok {
		return b.Truncated()
	}
	return nil
}

// ended is the end of the reading: a reader that knows the length need not have asked for the end.
func (t *tee) ended() {
	if t.over {
		return
	}
	if t.known >= 0 && t.e.content.n == t.known {
		t.complete(nil)
		return
	}
	t.give(rules.Incomplete)
}

// CloseResponse implements proxy.ResponseCloser.
func (t *tee) CloseResponse(r *proxy.Response) {
	t.ended()
	if t.closer != nil {
		t.closer.CloseResponse(r)
	}
}
