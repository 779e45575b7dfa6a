package rules

import (
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/cachecontrol"
)

// Time is nanoseconds since 1970.
type Time int64

// Sub returns t-u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Reason says why an answer is not stored. Stored is none. They are shown to operators, and documented: stable words.
type Reason string

// The reasons.
const (
	Stored           Reason = ""
	Method           Reason = "method"           // it answers a method whose answers are not stored
	Status           Reason = "status"           // a status that is not stored, or that must be understood and is not
	NoStore          Reason = "no_store"         // the answer says so
	RequestNoStore   Reason = "request_no_store" // the request says so
	Private          Reason = "private"          // it is for one user
	Authorization    Reason = "authorization"    // it answers a request with Authorization, and does not say that others may have it
	SetCookie        Reason = "set_cookie"       // it sets a cookie, and is not public
	VaryAll          Reason = "vary"             // Vary: *, or more fields than are kept
	NoFreshness      Reason = "no_freshness"     // it says neither how long it is fresh, nor by what it could be validated
	Partial          Reason = "partial"          // a part that cannot be put together with others
	TooLarge         Reason = "too_large"        // more than max_object
	Incomplete       Reason = "incomplete"       // its content broke off
	GRPC             Reason = "grpc"             // a gRPC answer that is not one message with the status 0
	RequestOverrides Reason = "override"         // the request asks to be taken for another one
)

// Options are the choices that RFC 9111 leaves.
type Options struct {
	// Heuristic is the part of the time since Last-Modified for which an answer without explicit freshness is fresh; zero is none at all.
	Heuristic float64
}

// maxHeuristic bounds a guessed freshness. RFC 9111 section 4.2.2 asks for a warning beyond a day; there is none any more, so there is no such freshness.
const maxHeuristic = 24 * time.Hour

// maxVary is how many fields of Vary are kept: an answer that varies by more is not worth it.
const maxVary = 16

// Policy is what an answer allows.
type Policy struct {
	Reason Reason // why it is not stored

	Lifetime   time.Duration // how long it is fresh; zero: never
	Explicit   bool          // Lifetime was said, not guessed
	InitialAge time.Duration // corrected_initial_age, of section 4.2.3
	Received   Time          // when the answer came
	Date       Time          // what it says of itself, else Received

	NoCache    bool // not used without validation
	Strict     bool // not used when stale, whoever asks: must-revalidate, proxy-revalidate, s-maxage
	Public     bool // for every identity
	Immutable  bool
	WhileFresh time.Duration // stale-while-revalidate
	IfError    time.Duration // stale-if-error; negative: nothing was said

	Vary         []string // lower-case names
	Drop         []string // fields that are not kept
	ETag         string
	LastModified string
	Tags         []string // surrogate keys
}

// Validatable reports whether the origin can be asked if it still holds.
func (p *Policy) Validatable() bool { return p.ETag != "" || p.LastModified != "" }

// Exchange is one answer and what it answers.
type Exchange struct {
	Request        *Request
	Method         string
	Origin         Origin
	Status         int
	Fields         proxy.Fields // of the answer
	Sent, Received Time         // when the request left, when the head came
	Partial        bool         // parts may be stored
}

// Judge decides about an answer.
func Judge(x *Exchange, o Options) Policy {
	h := read(x.Fields)
	cc := h.directives()
	p := Policy{Received: x.Received, Date: x.Received, IfError: -1, ETag: h.etag, LastModified: h.lastModified}
	p.NoCache = cc.NoCache
	p.Strict = cc.MustRevalidate || cc.ProxyRevalidate || cc.SMaxAge != cachecontrol.Absent
	p.Public, p.Immutable = cc.Public, cc.Immutable
	if cc.StaleWhileRevalidate > 0 {
		p.WhileFresh = seconds(cc.StaleWhileRevalidate)
	}
	if cc.StaleIfError != cachecontrol.Absent {
		p.IfError = seconds(cc.StaleIfError)
	}
	now := time.Unix(0, int64(x.Received))
	if date, ok := cachecontrol.Date(h.date, now); ok {
		p.Date = Time(date.UnixNano())
	}
	p.age(&h, x)
	p.fresh(&h, &cc, x.Status, now, o)
	p.Drop = append(append(p.Drop, cc.NoCacheFields...), cc.PrivateFields...)
	p.Reason = p.reason(&h, &cc, x)
	if p.Reason == Stored {
		p.Vary = varyNames(x.Fields)
		p.Tags = tags(x.Fields)
	}
	return p
}

func seconds(n cachecontrol.Seconds) time.Duration { return time.Duration(n) * time.Second }

// age follows RFC 9111 section 4.2.3:
//
//	apparent_age = max(0, response_time - date_value);
//	response_delay = response_time - request_time;
//	corrected_age_value = age_value + response_delay;
//	corrected_initial_age = max(apparent_age, corrected_age_value);
func (p *Policy) age(h *head, x *Exchange) {
	apparent := max(0, x.Received.Sub(p.Date)).Truncate(time.Second) // a Date has whole seconds
	corrected := max(0, x.Received.Sub(x.Sent))
	if n := cachecontrol.Number(h.age); n != cachecontrol.Absent {
		corrected += seconds(n)
	}
	p.InitialAge = max(apparent, corrected)
}

// fresh follows RFC 9111 section 4.2.1: s-maxage, max-age, Expires less Date, or a guess where that was asked for (4.2.2): "a cache MUST NOT use heuristics to determine freshness when an
// explicit expiration time is present in the stored response".
func (p *Policy) fresh(h *head, cc *cachecontrol.Directives, status int, now time.Time, o Options) {
	switch {
	case cc.SMaxAge != cachecontrol.Absent:
		p.Lifetime, p.Explicit = seconds(cc.SMaxAge), true
	case cc.MaxAge != cachecontrol.Absent:
		p.Lifetime, p.Explicit = seconds(cc.MaxAge), true
	case h.expires != nil && !h.targeted:
		p.Explicit = true
		// "A cache recipient MUST interpret invalid date formats, especially the value "0", as representing a time in the past"
		if t, ok := cachecontrol.Date(h.expires[0], now); ok && len(h.expires) == 1 {
			p.Lifetime = max(0, Time(t.UnixNano()).Sub(p.Date))
		}
	case o.Heuristic > 0 && (heuristic(status) || cc.Public):
		if t, ok := cachecontrol.Date(h.lastModified, now); ok {
			p.Lifetime = min(max(0, time.Duration(float64(p.Date.Sub(Time(t.UnixNano())))*o.Heuristic)), maxHeuristic)
		}
	}
}

// heuristic knows the statuses that RFC 9110 section 15.1 calls heuristically cacheable: "200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, and 501".
func heuristic(status int) bool {
	switch status {
	case 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// understood knows the statuses whose caching requirements are implemented, for must-understand.
func understood(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 410, 414, 500, 501, 502, 503, 504:
		return true
	}
	return false
}

// reason goes through the list of RFC 9111 section 3.
func (p *Policy) reason(h *head, cc *cachecontrol.Directives, x *Exchange) Reason {
	q := x.Request
	noStore := cc.NoStore
	if cc.MustUnderstand {
		// Section 5.2.2.3: "a cache that implements a response's status code [...] SHOULD ignore the no-store directive if it understands and implements the status code's caching
		// requirements"; and "MUST NOT store" otherwise.
		if !understood(x.Status) {
			return Status
		}
		noStore = false
	}
	switch {
	case q.Overrides:
		return RequestOverrides
	case q.CC.NoStore:
		return RequestNoStore
	case noStore:
		return NoStore
	case cc.Private:
		return Private
	}
	switch {
	case x.Method == "GET":
	case x.Method == "POST" && p.Explicit && h.contentLocation != "" && samePlace(h.contentLocation, x.Origin) && x.Status == 200:
		// RFC 9110 section 9.3.3: "Responses to POST requests are only cacheable when they include explicit freshness information [...] and a
		// Content-Location header field that has the same value as the POST's target URI."
	default:
		return Method
	}
	switch {
	case x.Status < 200 || x.Status == 304 || x.Status > 599:
		return Status
	case x.Status == 206 && !x.Partial:
		return Partial
	case q.Authorized && !cc.Public && !cc.MustRevalidate && cc.SMaxAge == cachecontrol.Absent:
		return Authorization
	case h.setCookie && !cc.Public && !dropped(p.Drop, "Set-Cookie"):
		return SetCookie
	case h.varyAll || h.vary > maxVary:
		return VaryAll
	case p.Lifetime > 0:
		return Stored
	case p.Explicit || cc.Public || heuristic(x.Status):
		if p.Validatable() && (x.Status == 200 || x.Status == 206) {
			return Stored // to be validated
		}
		if p.Explicit && (p.WhileFresh > 0 || p.IfError > 0) {
			return Stored // stale, and of use all the same
		}
	}
	return NoFreshness
}

func dropped(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

func samePlace(location string, o Origin) bool {
	p, ok := o.resolve(location)
	return ok && p == o.Path
}

// head is what matters of an answer's fields.
type head struct {
	cc              cachecontrol.Directives
	age, date, etag string
	lastModified    string
	contentLocation string
	expires         []string
	vary            int
	varyAll         bool
	setCookie       bool
	targeted        bool
	pillion, cdn    string
}

func read(fields proxy.Fields) head {
	h := head{cc: cachecontrol.None()}
	for i := range fields {
		h.look(fields, &fields[i])
	}
	return h
}

func (h *head) look(all proxy.Fields, f *proxy.Field) {
	switch {
	case is(f, "Cache-Control"):
		h.cc.Add(f.Value)
	case is(f, "Expires"):
		h.expires = append(h.expires, f.Value)
	case is(f, "Age"):
		if h.age == "" {
			h.age = f.Value
		}
	case is(f, "Date"):
		h.date = f.Value
	case is(f, "ETag"):
		h.etag = f.Value
	case is(f, "Last-Modified"):
		h.lastModified = f.Value
	case is(f, "Vary"):
		for name := range strings.SplitSeq(f.Value, ",") {
			if name = strings.TrimSpace(name); name == "*" {
				h.varyAll = true
			} else if name != "" {
				h.vary++
			}
		}
	case is(f, "Set-Cookie"):
		h.setCookie = true
	case is(f, "Content-Location"):
		h.contentLocation = f.Value
	case is(f, "Pillion-Cache-Control"):
		h.pillion = Joined(all, f.Name)
	case is(f, "CDN-Cache-Control"):
		h.cdn = Joined(all, f.Name)
	}
}

// directives are those of the first targeted field that is one, else those of Cache-Control.
func (h *head) directives() cachecontrol.Directives {
	for _, s := range [...]string{h.pillion, h.cdn} {
		if s == "" {
			continue
		}
		if d, ok := cachecontrol.Targeted(s); ok {
			h.targeted = true
			return d
		}
	}
	return h.cc
}

// Promising reports whether the fields of an answer say anything at all by which it could be stored. It is what an answer costs at a service that never says such things.
func Promising(fields proxy.Fields) bool {
	for i := range fields {
		f := &fields[i]
		switch len(f.Name) {
		case len("ETag"):
			if is(f, "ETag") {
				return true
			}
		case len("Expires"):
			if is(f, "Expires") {
				return true
			}
		case len("Cache-Control"): // Last-Modified is as long
			if is(f, "Cache-Control") || is(f, "Last-Modified") {
				return true
			}
		case len("CDN-Cache-Control"):
			if is(f, "CDN-Cache-Control") {
				return true
			}
		case len("Pillion-Cache-Control"):
			if is(f, "Pillion-Cache-Control") {
				return true
			}
		}
	}
	return false
}

// tags are the surrogate keys: Surrogate-Key is separated by spaces, Cache-Tag by commas. At most maxTags.
func tags(fields proxy.Fields) []string {
	var all []string
	for i := range fields {
		f := &fields[i]
		switch {
		case is(f, "Surrogate-Key"):
			all = append(all, strings.Fields(f.Value)...)
		case is(f, "Cache-Tag"):
			for t := range strings.SplitSeq(f.Value, ",") {
				if t = strings.TrimSpace(t); t != "" {
					all = append(all, t)
				}
			}
		}
	}
	return all[:min(len(all), maxTags)]
}

const maxTags = 128
