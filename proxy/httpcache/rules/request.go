package rules

import (
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/cachecontrol"
)

// Request is what matters to a cache of a request's fields. Its strings are the request's.
type Request struct {
	CC cachecontrol.Directives

	IfNoneMatch, IfModifiedSince string
	Range, IfRange               string
	// Preconditions that only the origin can evaluate. RFC 9111 section 4.3.2: "A cache MUST NOT evaluate conditional header fields that only
	// apply to an origin server": If-Match, If-Unmodified-Since.
	ForOrigin  bool
	Authorized bool // has Authorization
	// Overrides is true if a field asks the app to take the request for another: another method or another path. Such a request has nothing to do with a cache.
	Overrides bool
	// Keyed is true if there is a field that is part of every key; see IsKeyed.
	Keyed bool

	pragma, several bool
}

// Look reads the fields of a request, in one pass that allocates nothing for usual ones.
func Look(fields proxy.Fields) Request {
	q := Request{CC: cachecontrol.None()}
	for i := range fields {
		q.look(&fields[i])
	}
	if q.pragma && !q.CC.Present {
		q.CC.NoCache = true // RFC 9111 section 5.4: Pragma: no-cache is what HTTP/1.0 clients say for it
	}
	if q.several {
		q.IfNoneMatch = Joined(fields, "If-None-Match")
	}
	return q
}

// Clone returns q with strings of its own.
func (q *Request) Clone() Request {
	c := *q
	c.IfNoneMatch, c.IfModifiedSince = strings.Clone(q.IfNoneMatch), strings.Clone(q.IfModifiedSince)
	c.Range, c.IfRange = strings.Clone(q.Range), strings.Clone(q.IfRange)
	c.CC.NoCacheFields, c.CC.PrivateFields = nil, nil // requests have none
	return c
}

// look goes by the length first: most fields end there.
func (q *Request) look(f *proxy.Field) {
	switch len(f.Name) {
	case len("Range"):
		if is(f, "Range") {
			q.Range = f.Value
		}
	case len("Pragma"):
		if is(f, "Pragma") && strings.EqualFold(strings.TrimSpace(f.Value), "no-cache") {
			q.pragma = true
		}
	case len("If-Range"): // If-Match is as long
		switch {
		case is(f, "If-Range"):
			q.IfRange = f.Value
		case is(f, "If-Match"):
			q.ForOrigin = true
		}
	case len("If-None-Match"): // Cache-Control, Authorization and X-Rewrite-URL too
		switch {
		case is(f, "Cache-Control"):
			q.CC.Add(f.Value)
		case is(f, "If-None-Match"):
			q.several = q.several || q.IfNoneMatch != ""
			q.IfNoneMatch = f.Value
		case is(f, "Authorization"):
			q.Authorized = true
		}
	case len("If-Modified-Since"):
		if is(f, "If-Modified-Since") {
			q.IfModifiedSince = f.Value
		}
	case len("If-Unmodified-Since"):
		if is(f, "If-Unmodified-Since") {
			q.ForOrigin = true
		}
	}
	if len(f.Name) > 2 && f.Name[0]|0x20 == 'x' && (f.Name[1] == '-' || f.Name[1] == '_') {
		q.Overrides = q.Overrides || overrides(f)
		q.Keyed = q.Keyed || IsKeyed(f.Name)
	}
}

func is(f *proxy.Field, name string) bool {
	return len(f.Name) == len(name) && strings.EqualFold(f.Name, name)
}

// overrides knows the fields by which frameworks let a request be another: it must not get that one's answer, nor give it to others.
func overrides(f *proxy.Field) bool {
	switch len(f.Name) {
	case len("X-Rewrite-URL"): // X-HTTP-Method is as long
		return is(f, "X-Rewrite-URL") || is(f, "X-HTTP-Method")
	case len("X-Original-URL"):
		return is(f, "X-Original-URL")
	case len("X-Method-Override"):
		return is(f, "X-Method-Override")
	case len("X-HTTP-Method-Override"):
		return is(f, "X-HTTP-Method-Override")
	}
	return false
}

// IsKeyed reports whether a field is part of every key: those by which a proxy tells the app how it is called from outside. Apps write them into links
// and redirects and do not name them in Vary, so that otherwise one client could choose what the others get.
func IsKeyed(name string) bool {
	switch len(name) {
	case len("X-Host"):
		return strings.EqualFold(name, "X-Host")
	case len("X-Forwarded-Host"): // Path and Port are as long
		return strings.EqualFold(name, "X-Forwarded-Host") || strings.EqualFold(name, "X-Forwarded-Path") || strings.EqualFold(name, "X-Forwarded-Port")
	case len("X-Forwarded-Proto"):
		return strings.EqualFold(name, "X-Forwarded-Proto")
	case len("X-Forwarded-Scheme"): // Prefix and Server are as long
		return strings.EqualFold(name, "X-Forwarded-Scheme") || strings.EqualFold(name, "X-Forwarded-Prefix") || strings.EqualFold(name, "X-Forwarded-Server")
	}
	return false
}

// Joined combines the lines of a name, as RFC 9110 section 5.3 allows: with ", ".
func Joined(fields proxy.Fields, name string) string {
	first, n := "", 0
	var b strings.Builder
	for i := range fields {
		if !is(&fields[i], name) {
			continue
		}
		switch n {
		case 0:
			first = fields[i].Value
		case 1:
			b.WriteString(first)
			fallthrough
		default:
			b.WriteString(", ")
			b.WriteString(fields[i].Value)
		}
		n++
	}
	if n > 1 {
		return b.String()
	}
	return first
}

// Unsafe reports whether a method may change something. RFC 9111 section 4.4: "A cache MUST invalidate the target URI when it receives a non-error status code in response to an unsafe request
// method (including methods whose safety is unknown)."
func Unsafe(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH":
		return false
	}
	return true
}
