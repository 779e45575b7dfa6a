package routing

import (
	"strconv"
	"strings"
	"unsafe"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Config says what applies.
type Config struct {
	// Tables are the routes, by name of the service; those without routes are missing.
	Tables map[string]*Table
	// Shards is how many shards requests come from.
	Shards int
}

// Layer applies the routes of req.Service: it sets req.Rule, and does what the rule says. It allocates nothing.
func Layer(cfg Config) proxy.Layer {
	return func(next proxy.RoundTripper) proxy.RoundTripper {
		return &layer{tables: cfg.Tables, next: next, free: make([]*scratch, cfg.Shards)}
	}
}

type layer struct {
	tables map[string]*Table
	next   proxy.RoundTripper
	free   []*scratch // by Shard.Index, guarded by the shard's lock
}

// RoundTrip implements proxy.RoundTripper.
func (l *layer) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	t := l.tables[req.Service.Name]
	n, alternative := t.Find(req)
	if n == 0 {
		return l.next.RoundTrip(req, resp)
	}
	req.Rule = n
	req.Note("routing", "the route that applies, by its number", int64(n))
	r := &t.Rules[n-1]
	var from *Path // of which the new path takes its parts
	if len(r.Match) > 0 {
		from = &r.Match[alternative].Path
	}
	if r.Redirect != nil {
		l.redirect(r.Redirect, from, req, resp)
		return nil
	}
	if req.Backend = r.Backend; r.Split != nil {
		req.Backend = r.Split(req)
	}
	r.Request.apply(&req.Fields)
	if len(r.Request.Set)+len(r.Request.Add) > 0 {
		req.Names = 0 // nobody has looked what they are
	}
	err := l.send(r, from, req, resp)
	if err == nil {
		r.Response.apply(&resp.Fields)
	}
	return err
}

// send passes the request on as the rule rewrites it. The layers above see afterwards what the client asked.
func (l *layer) send(r *Rule, from *Path, req *proxy.Request, resp *proxy.Response) error {
	path, authority := req.Path, req.Authority
	if r.Host != "" {
		req.Authority = r.Host
	}
	if r.Path.text == "" || !strings.HasPrefix(path, "/") {
		err := l.next.RoundTrip(req, resp)
		req.Authority = authority
		return err
	}
	s := l.take(req.Shard)
	s.buf = appendPath(s.buf[:0], &r.Path, from, path)
	req.Path = s.text()
	err := l.next.RoundTrip(req, resp)
	req.Path, req.Authority = path, authority
	if err != nil {
		s.give()
		return err
	}
	s.inner = resp.Closer()
	resp.OnClose(s)
	return nil
}

// redirect answers the request.
func (l *layer) redirect(d *Redirect, from *Path, req *proxy.Request, resp *proxy.Response) {
	s := l.take(req.Shard)
	s.buf = d.append(s.buf[:0], from, req)
	resp.Status, resp.Version, resp.Code = d.Status, req.Version, RedirectCode
	resp.Fields.Add("Location", s.text())
	s.inner = nil
	resp.OnClose(s)
}

// RedirectCode is Response.Code of a redirect.
const RedirectCode = "redirect"

// append adds the place that a client is sent to.
func (d *Redirect) append(b []byte, from *Path, req *proxy.Request) []byte {
	scheme, host := d.Scheme, d.Host
	if scheme == "" {
		if scheme = req.Scheme; scheme == "" {
			scheme = "http"
		}
	}
	if host == "" {
		if host = req.Authority; d.Port != 0 || d.Scheme != "" {
			host = withoutPort(host)
		}
	}
	b = append(append(append(b, scheme...), "://"...), host...)
	if d.Port != 0 {
		b = strconv.AppendUint(append(b, ':'), uint64(d.Port), 10)
	}
	if d.Path.text == "" || !strings.HasPrefix(req.Path, "/") {
		if strings.HasPrefix(req.Path, "/") {
			b = append(b, req.Path...)
		}
		return b
	}
	return appendPath(b, &d.Path, from, req.Path)
}

// withoutPort is the host of an authority.
func withoutPort(a string) string {
	if i := strings.LastIndexByte(a, ':'); i > strings.LastIndexByte(a, ']') {
		return a[:i]
	}
	return a
}

// appendPath adds to, with the parts that path has where from, whose form it has, leaves them open; and path's query.
func appendPath(b []byte, to, from *Path, path string) []byte {
	path, query := splitQuery(path)
	var at bound
	if from != nil {
		from.match(path, &at)
	}
	before := len(b)
	for i := range to.segments {
		s := &to.segments[i]
		b = append(b, '/')
		if s.name == "" {
			b = append(b, s.text...)
		} else if k := from.index(s.name); k >= 0 {
			b = append(b, path[at.at[k].from:at.at[k].to]...)
		}
	}
	if to.rest && int(at.rest) < len(path) {
		b = append(b, path[at.rest:]...)
	}
	if len(b) == before {
		b = append(b, '/')
	}
	return append(b, query...)
}

// scratch holds a text for as long as an Exchange lives: the rewritten path, or the place of a redirect.
type scratch struct {
	layer *layer
	shard task.Shard
	buf   []byte
	inner proxy.ResponseCloser
	next  *scratch // when free
}

// maxKept bounds the texts that are kept for reuse, each.
const maxKept = 4 << 10 // bytes

func (l *layer) take(s task.Shard) *scratch {
	s.Lock()
	defer s.Unlock()
	i := s.Index()
	x := l.free[i]
	if x == nil {
		return &scratch{layer: l, shard: s}
	}
	l.free[i], x.next = x.next, nil
	return x
}

// text is buf, which must not be changed as long as it is used.
func (s *scratch) text() string { return unsafe.String(unsafe.SliceData(s.buf), len(s.buf)) }

func (s *scratch) give() {
	if s.inner = nil; cap(s.buf) > maxKept {
		s.buf = nil
	}
	s.shard.Lock()
	defer s.shard.Unlock()
	i := s.shard.Index()
	s.next, s.layer.free[i] = s.layer.free[i], s
}

// CloseResponse implements proxy.ResponseCloser.
func (s *scratch) CloseResponse(r *proxy.Response) {
	if s.inner != nil {
		s.inner.CloseResponse(r)
	}
	s.give()
}
