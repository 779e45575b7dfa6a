package httpcache

import (
	"strconv"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
)

// serve answers the request with an entry: whole, a part of it, or word that it has not changed. It returns false if the entry's content cannot be read any more; then
// nothing has happened. old says that the entry was not made for this request, so that its age must be told.
func (x *call) serve(e *entry, now rules.Time, status string, old bool) bool {
	resp := x.resp
	if e.status == 200 && x.q.Conditional() && e.policy.NotModified(&x.q) {
		x.notModified(e)
		x.finishHead(e, now, status, old)
		return true
	}
	span, want := x.wants(e)
	if x.req.Method != "HEAD" && want != rules.Unsatisfiable && e.length != 0 && !x.body(e, span, want) {
		return false
	}
	resp.Status, resp.Reason, resp.Version, resp.Length = e.status, e.reason, e.version, e.length
	switch want {
	case rules.Part:
		resp.Status, resp.Reason, resp.Length = 206, "", span.Len()
		x.fields(e, false)
		resp.Fields.Add("Content-Range", "bytes "+strconv.FormatInt(span.First, 10)+"-"+strconv.FormatInt(span.Last, 10)+"/"+strconv.FormatInt(e.length, 10))
	case rules.Unsatisfiable:
		resp.Status, resp.Reason, resp.Length = 416, "", 0
		resp.Fields.Add("Content-Range", "bytes */"+strconv.FormatInt(e.length, 10))
	default:
		resp.Fields = append(resp.Fields, e.fields...)
	}
	x.finishHead(e, now, status, old)
	if resp.Body != nil && resp.Length > 0 {
		x.at.counters.bytes.Add(uint64(resp.Length))
	}
	return true
}

// notModified makes a 304. RFC 9110 section 15.4.5 names what it must have; what describes a content is left out.
func (x *call) notModified(e *entry) {
	x.resp.Status, x.resp.Version, x.resp.Length = 304, e.version, proxy.Unknown
	for _, f := range e.fields {
		if rules.For304(f.Name) {
			x.resp.Fields = append(x.resp.Fields, f)
		}
	}
}

// fields copies those of an entry, but for the length of a content that comes in part.
func (x *call) fields(e *entry, length bool) {
	for _, f := range e.fields {
		if length || rules.For304(f.Name) || !isLength(f.Name) {
			x.resp.Fields = append(x.resp.Fields, f)
		}
	}
}

func isLength(name string) bool { return len(name) == len("Content-Length") && !rules.For304(name) }

// finishHead adds Age and Cache-Status. RFC 9111 section 5.1: "a cache MUST generate an Age header field" for what it did not ask the origin about.
func (x *call) finishHead(e *entry, now rules.Time, status string, old bool) {
	if old || e.policy.InitialAge >= time.Second {
		x.resp.Fields.Add("Age", e.ageNow(now, x.status.name).field)
	}
	addStatus(x.resp, status)
}

// body opens the content, or a part of it.
func (x *call) body(e *entry, span rules.Range, want rules.Wanted) bool {
	first, n := int64(0), e.length
	if want == rules.Part {
		first, n = span.First, span.Len()
	}
	from := e.content
	if from == nil {
		from, first = e.holds(first)
	}
	var r *reader
	if from.complete.Load() {
		r = x.c.readers.Get().(*reader)
	} else {
		r = &reader{}
	}
	if !r.open(from, first, n, x.req) {
		return false
	}
	r.trailers = want == rules.All
	x.resp.Body = r
	x.resp.OnClose(r)
	return true
}
