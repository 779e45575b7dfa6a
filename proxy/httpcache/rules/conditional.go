package rules

import (
	"strconv"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/proxy/httpcache/cachecontrol"
)

// Conditional reports whether a request has preconditions that a cache evaluates.
func (q *Request) Conditional() bool { return q.IfNoneMatch != "" || q.IfModifiedSince != "" }

// NotModified evaluates a request's preconditions against a stored answer, by RFC 9111 section 4.3.2 and RFC 9110 section 13.2.2: If-None-Match goes before
// If-Modified-Since, which does not count beside it.
func (p *Policy) NotModified(q *Request) bool {
	if q.IfNoneMatch != "" {
		return MatchesWeakly(q.IfNoneMatch, p.ETag)
	}
	if q.IfModifiedSince == "" {
		return false
	}
	now := time.Unix(0, int64(p.Received))
	since, ok := cachecontrol.Date(q.IfModifiedSince, now)
	if !ok {
		return false
	}
	// Section 4.3.2: "If a stored response has a Last-Modified, its value; if not, its Date; if neither, the time it was received".
	modified := time.Unix(0, int64(p.Date)).Truncate(time.Second)
	if p.LastModified != "" {
		if modified, ok = cachecontrol.Date(p.LastModified, now); !ok {
			return false
		}
	}
	return !modified.After(since)
}

// MatchesWeakly reports whether an entity tag is in a list, by the weak comparison. "*" matches whatever is stored.
func MatchesWeakly(list, etag string) bool {
	if strings.Trim(list, " \t") == "*" {
		return true
	}
	if etag == "" {
		return false
	}
	etag = strings.TrimPrefix(etag, "W/")
	for rest := list; rest != ""; {
		var one string
		if one, rest = nextTag(rest); one != "" && one == etag {
			return true
		}
	}
	return false
}

// nextTag takes one entity tag, without its W/, off a list; "" if what comes is none. Commas may be in tags.
func nextTag(s string) (tag, rest string) {
	s = strings.TrimLeft(s, " \t,")
	s = strings.TrimPrefix(s, "W/")
	if s == "" || s[0] != '"' {
		_, rest = cut(s)
		return "", rest
	}
	end := strings.IndexByte(s[1:], '"')
	if end < 0 {
		return "", ""
	}
	return s[:end+2], s[end+2:]
}

func cut(s string) (before, rest string) {
	if i := strings.IndexByte(s, ','); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// Strong reports whether an entity tag is a strong validator.
func Strong(etag string) bool { return len(etag) >= 2 && etag[0] == '"' && etag[len(etag)-1] == '"' }

// Range is bytes first to last of some content, both included.
type Range struct{ First, Last int64 }

// Len is how many bytes it is.
func (r Range) Len() int64 { return r.Last - r.First + 1 }

// Wanted says what a request wants of a content.
type Wanted uint8

// What it may want.
const (
	All           Wanted = iota // all of it: no Range, or one that does not count
	Part                        // the range
	Unsatisfiable               // nothing that there is: 416
	Elsewhere                   // more than one range: for the origin
)

// Wants says which part of a content of this length a request wants. Length -1 is not known.
func (p *Policy) Wants(q *Request, length int64) (Range, Wanted) {
	if q.Range == "" || !p.ifRange(q) {
		return Range{}, All
	}
	return ParseRange(q.Range, length)
}

// ifRange, RFC 9110 section 13.1.5: "A recipient of an If-Range header field MUST ignore the Range header field if the If-Range condition evaluates as false." Entity tags compare strongly here.
func (p *Policy) ifRange(q *Request) bool {
	switch {
	case q.IfRange == "":
		return true
	case q.IfRange[0] == '"':
		return Strong(q.IfRange) && q.IfRange == p.ETag
	case strings.HasPrefix(q.IfRange, "W/"):
		return false
	}
	now := time.Unix(0, int64(p.Received))
	modified, ok := cachecontrol.Date(p.LastModified, now)
	// A date is a strong validator only if it is at least a second before Date (RFC 9110 section 8.8.2.2).
	return ok && q.IfRange == p.LastModified && p.Date.Sub(Time(modified.UnixNano())) >= time.Second
}

// ParseRange parses a Range field. What is malformed, or of another unit, is ignored, as RFC 9110 section 14.2 allows for all of them.
func ParseRange(s string, length int64) (Range, Wanted) {
	spec, ok := strings.CutPrefix(s, "bytes=")
	if !ok {
		return Range{}, All
	}
	if strings.Contains(spec, ",") {
		return Range{}, Elsewhere
	}
	from, to, ok := strings.Cut(strings.Trim(spec, " \t"), "-")
	if !ok || from == "" && to == "" {
		return Range{}, All
	}
	if length < 0 {
		return Range{}, Elsewhere
	}
	if from == "" {
		n, ok := position(to)
		switch {
		case !ok:
			return Range{}, All
		case n == 0 || length == 0:
			return Range{}, Unsatisfiable
		}
		return Range{max(0, length-n), length - 1}, Part
	}
	first, ok := position(from)
	if !ok {
		return Range{}, All
	}
	last := length - 1
	if to != "" {
		n, ok := position(to)
		if !ok || n < first {
			return Range{}, All
		}
		last = min(last, n)
	}
	if first >= length {
		return Range{}, Unsatisfiable
	}
	return Range{first, last}, Part
}

func position(s string) (int64, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// ContentRange parses the Content-Range of a 206 with one part and a known whole.
func ContentRange(s string) (r Range, whole int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	if !ok {
		return r, 0, false
	}
	span, total, ok := strings.Cut(s, "/")
	if !ok {
		return r, 0, false
	}
	first, last, ok := strings.Cut(span, "-")
	if !ok {
		return r, 0, false
	}
	var a, b, c bool
	r.First, a = position(first)
	r.Last, b = position(last)
	whole, c = position(total)
	return r, whole, a && b && c && r.First <= r.Last && r.Last < whole
}
