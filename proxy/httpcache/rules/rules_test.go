package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
)

// at is when everything here happens: a whole second.
var at = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func date(d time.Duration) string { return at.Add(d).Format("Mon, 02 Jan 2006 15:04:05 GMT") }

// lines makes fields of "Name: value" lines.
func lines(all ...string) proxy.Fields {
	var f proxy.Fields
	for _, l := range all {
		if name, value, ok := strings.Cut(l, ":"); ok {
			f.Add(name, strings.TrimSpace(value))
		}
	}
	return f
}

func judge(method string, status int, request, answer []string, o Options) Policy {
	q := Look(lines(request...))
	return Judge(&Exchange{Request: &q, Method: method, Origin: Origin{"http", "shop", "/a?b"}, Status: status, Fields: lines(answer...), Sent: Time(at.UnixNano()), Received: Time(at.UnixNano())}, o)
}

func TestStoring(t *testing.T) {
	fresh := "Cache-Control: max-age=60"
	for _, c := range []struct {
		rule    string
		method  string
		status  int
		request []string
		answer  []string
		want    Reason
	}{
		{"RFC 9111 3: the response contains [...] a max-age response directive", "GET", 200, nil, []string{fresh}, Stored},
		{"3: an Expires header field", "GET", 200, nil, []string{"Expires: " + date(time.Minute)}, Stored},
		{"3: if the cache is shared: an s-maxage response directive", "GET", 200, nil, []string{"Cache-Control: s-maxage=60"}, Stored},
		{"3: a status code that is defined as heuristically cacheable; and it can be validated", "GET", 200, nil, []string{`ETag: "a"`}, Stored},
		{"the same by its date", "GET", 200, nil, []string{"Last-Modified: " + date(-time.Hour)}, Stored},
		{"nothing says anything: of no use without heuristics", "GET", 200, nil, nil, NoFreshness},
		{"public alone says nothing by which it could be used", "GET", 200, nil, []string{"Cache-Control: public"}, NoFreshness},
		{"3: the request method is understood by the cache", "PUT", 200, nil, []string{fresh}, Method},
		{"9110 9.3.2: HEAD has no content to be stored", "HEAD", 200, nil, []string{fresh}, Method},
		{"a method unknown", "FOO", 200, nil, []string{fresh}, Method},
		{"3: the response status code is final", "GET", 103, nil, []string{fresh}, Status},
		{"15.4.5: a 304 is no answer to be stored", "GET", 304, nil, []string{fresh}, Status},
		{"3: unknown statuses with explicit freshness", "GET", 299, nil, []string{fresh}, Stored},
		{"an unknown status without it", "GET", 299, nil, []string{`ETag: "a"`}, NoFreshness},
		{"an error with explicit freshness", "GET", 404, nil, []string{fresh}, Stored},
		{"a 500 with it", "GET", 500, nil, []string{fresh}, Stored},
		{"a redirect with it", "GET", 302, nil, []string{fresh}, Stored},
		{"no status that there is", "GET", 999, nil, []string{fresh}, Status},
		{"206 alone", "GET", 206, nil, []string{fresh, "Content-Range: bytes 0-1/10"}, Partial},
		{"3: the no-store cache directive is not present in the response", "GET", 200, nil, []string{"Cache-Control: no-store, max-age=60"}, NoStore},
		{"5.2.1.5: a cache MUST NOT store any part of either this request or any response to it", "GET", 200, []string{"Cache-Control: no-store"}, []string{fresh}, RequestNoStore},
		{"5.2.2.7: a shared cache MUST NOT store the response", "GET", 200, nil, []string{"Cache-Control: private, max-age=60"}, Private},
		{"5.2.2.7: the private directive with field names", "GET", 200, nil, []string{`Cache-Control: private="x", max-age=60`}, Stored},
		{"3.5: a response to a request with an Authorization", "GET", 200, []string{"Authorization: x"}, []string{fresh}, Authorization},
		{"3.5: public", "GET", 200, []string{"Authorization: x"}, []string{fresh, "Cache-Control: public"}, Stored},
		{"3.5: must-revalidate", "GET", 200, []string{"Authorization: x"}, []string{fresh, "Cache-Control: must-revalidate"}, Stored},
		{"3.5: s-maxage", "GET", 200, []string{"Authorization: x"}, []string{"Cache-Control: s-maxage=1"}, Stored},
		{"5.2.2.3: must-understand with no-store, understood", "GET", 200, nil, []string{"Cache-Control: max-age=60, no-store, must-understand"}, Stored},
		{"5.2.2.3: must-understand, not understood", "GET", 299, nil, []string{"Cache-Control: max-age=60, must-understand"}, Status},
		{"a cookie", "GET", 200, nil, []string{fresh, "Set-Cookie: a=b"}, SetCookie},
		{"a cookie for everybody", "GET", 200, nil, []string{"Cache-Control: public, max-age=60", "Set-Cookie: a=b"}, Stored},
		{"a cookie that is left out", "GET", 200, nil, []string{`Cache-Control: max-age=60, no-cache="set-cookie"`, "Set-Cookie: a=b"}, Stored},
		{"4.1: A stored response with a Vary header field value containing a member \"*\" always fails to match", "GET", 200, nil, []string{fresh, "Vary: a, *"}, VaryAll},
		{"9110 9.3.3: POST with explicit freshness and Content-Location", "POST", 200, nil, []string{fresh, "Content-Location: /a?b"}, Stored},
		{"the same as a whole URI", "POST", 200, nil, []string{fresh, "Content-Location: HTTP://SHOP:80/a?b"}, Stored},
		{"9110 9.3.3: POST, elsewhere", "POST", 200, nil, []string{fresh, "Content-Location: /c"}, Method},
		{"9110 9.3.3: POST without explicit freshness", "POST", 200, nil, []string{`ETag: "a"`, "Content-Location: /a?b"}, Method},
		{"9110 9.3.3: POST without Content-Location", "POST", 200, nil, []string{fresh}, Method},
		{"a request for another", "GET", 200, []string{"X-HTTP-Method-Override: DELETE"}, []string{fresh}, RequestOverrides},
		{"5.2: If directives conflict, the most restrictive should be honored", "GET", 200, nil, []string{"Cache-Control: public, private, max-age=60"}, Private},
		{"9213: a targeted field instead of Cache-Control", "GET", 200, nil, []string{"Cache-Control: no-store", "CDN-Cache-Control: max-age=60"}, Stored},
		{"9213 2.2: falls back to other cache control mechanisms", "GET", 200, nil, []string{"Cache-Control: no-store", "CDN-Cache-Control: max-age=60, &"}, NoStore},
		{"9213: ours before that of all CDNs", "GET", 200, nil, []string{"Pillion-Cache-Control: no-store", "CDN-Cache-Control: max-age=60"}, NoStore},
		{"5861: stale at once, but of use on errors", "GET", 200, nil, []string{"Cache-Control: max-age=0, stale-if-error=60"}, Stored},
		{"stale at once and nothing else", "GET", 200, nil, []string{"Cache-Control: max-age=0"}, NoFreshness},
	} {
		if got := judge(c.method, c.status, c.request, c.answer, Options{}); got.Reason != c.want {
			t.Errorf("%s: %s %d %v to %v: %q, want %q", c.rule, c.method, c.status, c.answer, c.request, got.Reason, c.want)
		}
	}
}

func TestFreshness(t *testing.T) {
	now := "Date: " + date(0)
	for _, c := range []struct {
		rule   string
		answer []string
		o      Options
		ttl    time.Duration // when it came
	}{
		{"RFC 9111 4.2.1: If the cache is shared and the s-maxage response directive is present, use its value", []string{"Cache-Control: max-age=1, s-maxage=60"}, Options{}, 60 * time.Second},
		{"4.2.1: If the max-age response directive is present, use its value", []string{"Cache-Control: max-age=60", "Expires: " + date(-time.Hour)}, Options{}, 60 * time.Second},
		{"4.2.1: use its value minus the value of the Date response header field", []string{"Expires: " + date(time.Hour), "Date: " + date(30*time.Minute)}, Options{}, 30 * time.Minute},
		{"4.2.1: using the time the message was received if it is not present", []string{"Expires: " + date(time.Hour)}, Options{}, time.Hour},
		{"5.3: A cache recipient MUST interpret invalid date formats, especially the value \"0\", as in the past", []string{"Expires: 0"}, Options{Heuristic: 1}, 0},
		{"4.2.1: more than one Expires is stale", []string{"Expires: " + date(time.Hour), "Expires: " + date(time.Hour)}, Options{}, 0},
		{"4.2.2: no explicit expiration time: no guess unless asked", []string{"Last-Modified: " + date(-10*time.Hour), now}, Options{}, 0},
		{"4.2.2: a fraction of some time since", []string{"Last-Modified: " + date(-10*time.Hour), now}, Options{Heuristic: 0.1}, time.Hour},
		{"4.2.2: at most a day", []string{"Last-Modified: " + date(-10000*time.Hour), now}, Options{Heuristic: 0.1}, 24 * time.Hour},
		{"4.2.3: age_value", []string{"Cache-Control: max-age=60", "Age: 20"}, Options{}, 40 * time.Second},
		{"5.1: a negative Age is none", []string{"Cache-Control: max-age=60", "Age: -20"}, Options{}, 60 * time.Second},
		{"4.2.3: apparent_age = max(0, response_time - date_value)", []string{"Cache-Control: max-age=60", "Date: " + date(-50*time.Second)}, Options{}, 10 * time.Second},
		{"4.2.3: corrected_initial_age = max(apparent_age, corrected_age_value)", []string{"Cache-Control: max-age=60", "Date: " + date(-50*time.Second), "Age: 55"}, Options{}, 5 * time.Second},
		{"4.2.3: a clock ahead", []string{"Cache-Control: max-age=60", "Date: " + date(time.Hour)}, Options{}, 60 * time.Second},
		{"9213 2.2: MUST ignore [...] Expires", []string{"CDN-Cache-Control: public", "Expires: " + date(time.Hour), "Cache-Control: max-age=60"}, Options{}, 0},
	} {
		p := judge("GET", 200, nil, c.answer, c.o)
		if got := p.TTL(Time(at.UnixNano())); got != c.ttl {
			t.Errorf("%s: %v: fresh for %v, want %v", c.rule, c.answer, got, c.ttl)
		}
	}
	slow := judge("GET", 200, nil, []string{"Cache-Control: max-age=60"}, Options{})
	q := Look(nil)
	slow = Judge(&Exchange{Request: &q, Method: "GET", Status: 200, Fields: lines("Cache-Control: max-age=60", "Age: 1"), Sent: Time(at.Add(-3 * time.Second).UnixNano()), Received: Time(at.UnixNano())}, Options{})
	if got := slow.TTL(Time(at.Add(5 * time.Second).UnixNano())); got != 51*time.Second {
		t.Errorf("4.2.3: response_delay and resident_time: fresh for %v, want 51s", got)
	}
}

func TestReuse(t *testing.T) {
	const minute = "Cache-Control: max-age=60"
	for _, c := range []struct {
		rule    string
		answer  string
		age     time.Duration
		request string
		want    Verdict
	}{
		{"RFC 9111 4.2: fresh", minute, 59 * time.Second, "", Fresh},
		{"4.2: response_is_fresh = (freshness_lifetime > current_age)", minute, 60 * time.Second, "", Validate},
		{"5.2.2.4: no-cache MUST NOT be used [...] without forwarding it for validation", minute + ", no-cache", 0, "", Validate},
		{"5.2.1.4: no-cache of a request", minute, 0, "Cache-Control: no-cache", Validate},
		{"5.4: Pragma", minute, 0, "Pragma: no-cache", Validate},
		{"5.2.1.1: max-age: age is less than or equal to", minute, 10 * time.Second, "Cache-Control: max-age=10", Fresh},
		{"5.2.1.1", minute, 11 * time.Second, "Cache-Control: max-age=10", Validate},
		{"5.2.1.1: Unless the max-stale request directive is also present", minute, 11 * time.Second, "Cache-Control: max-age=10, max-stale=5", Fresh},
		{"5.2.1.3: min-fresh", minute, 30 * time.Second, "Cache-Control: min-fresh=30", Fresh},
		{"5.2.1.3", minute, 31 * time.Second, "Cache-Control: min-fresh=30", Validate},
		{"5.2.1.2: max-stale", minute, 70 * time.Second, "Cache-Control: max-stale=10", Accepted},
		{"5.2.1.2", minute, 71 * time.Second, "Cache-Control: max-stale=10", Validate},
		{"5.2.1.2: If no value is assigned to max-stale, then the client will accept a stale response of any age", minute, time.Hour, "Cache-Control: max-stale", Accepted},
		{"5.2.2.2: must-revalidate: once the response has become stale, a cache MUST NOT reuse", minute + ", must-revalidate", time.Hour, "Cache-Control: max-stale", Validate},
		{"5.2.2.8: proxy-revalidate", minute + ", proxy-revalidate", time.Hour, "Cache-Control: max-stale", Validate},
		{"5.2.2.10: s-maxage incorporates the semantics of proxy-revalidate", "Cache-Control: s-maxage=60", time.Hour, "Cache-Control: max-stale", Validate},
		{"5861 3: stale-while-revalidate", minute + ", stale-while-revalidate=30", 90 * time.Second, "", Revalidate},
		{"5861 3", minute + ", stale-while-revalidate=30", 91 * time.Second, "", Validate},
		{"5861 3 beside must-revalidate", minute + ", stale-while-revalidate=30, must-revalidate", 61 * time.Second, "", Validate},
		{"and beside the request's max-age", minute + ", stale-while-revalidate=30", 61 * time.Second, "Cache-Control: max-age=60", Validate},
		{"8246: immutable", minute + ", immutable", 30 * time.Second, "Cache-Control: max-age=0", Fresh},
		{"8246: a signal that a validation is necessary", minute + ", immutable", 30 * time.Second, "Cache-Control: no-cache", Validate},
		{"8246: not once stale", minute + ", immutable", 60 * time.Second, "Cache-Control: max-age=0", Validate},
	} {
		p := judge("GET", 200, nil, []string{c.answer}, Options{})
		q := Look(lines(c.request))
		if got := p.Reuse(&q, Time(at.Add(c.age).UnixNano())); got != c.want {
			t.Errorf("%s: %s, %v old, for %q: %d, want %d", c.rule, c.answer, c.age, c.request, got, c.want)
		}
	}
}

func TestOnError(t *testing.T) {
	for _, c := range []struct {
		answer, request string
		age, fallback   time.Duration
		want            bool
	}{
		{"Cache-Control: max-age=60, stale-if-error=30", "", 90 * time.Second, 0, true},
		{"Cache-Control: max-age=60, stale-if-error=30", "", 91 * time.Second, time.Hour, false},
		{"Cache-Control: max-age=60", "", 61 * time.Second, 0, false},
		{"Cache-Control: max-age=60", "", 61 * time.Second, time.Minute, true},
		{"Cache-Control: max-age=60", "Cache-Control: stale-if-error=5", 65 * time.Second, 0, true},
		{"Cache-Control: max-age=60, must-revalidate, stale-if-error=30", "", 61 * time.Second, time.Hour, false},
		{"Cache-Control: max-age=60, no-cache, stale-if-error=30", "", 61 * time.Second, time.Hour, false},
		{"Cache-Control: max-age=60, stale-if-error=30", "Cache-Control: no-cache", 61 * time.Second, 0, false},
	} {
		p := judge("GET", 200, nil, []string{c.answer}, Options{})
		q := Look(lines(c.request))
		if got := p.UsableOnError(&q, Time(at.Add(c.age).UnixNano()), c.fallback); got != c.want {
			t.Errorf("RFC 5861 4: %+v: %v", c, got)
		}
	}
}

func TestVary(t *testing.T) {
	names := varyNames(lines("Vary: Accept-Encoding, X", "vary:  x ,Accept"))
	if want := []string{"accept", "accept-encoding", "x"}; !slices.Equal(names, want) {
		t.Fatalf("names %v, want %v", names, want)
	}
	first := lines("Accept-Encoding: gzip, br;q=0.5", "X: a b")
	for _, c := range []struct {
		rule string
		with []string
		want bool
	}{
		{"the same", []string{"Accept-Encoding: gzip, br;q=0.5", "X: a b"}, true},
		{"adding or removing whitespace, where allowed in the header field's syntax", []string{"Accept-Encoding:  gzip ,br ; q=0.5", "X: a b"}, true},
		{"combining multiple header field lines", []string{"Accept-Encoding: gzip", "X: a b", "accept-encoding: br;q=0.5"}, true},
		{"reordering field values when order is not significant", []string{"Accept-Encoding: br;q=0.5, GZIP", "X: a b"}, true},
		{"case of a field that is not known", []string{"Accept-Encoding: gzip, br;q=0.5", "X: A b"}, false},
		{"another", []string{"Accept-Encoding: gzip", "X: a b"}, false},
		{"absent: it can only match another request if it is also absent there", []string{"X: a b"}, false},
		{"present where it was absent", []string{"Accept-Encoding: gzip, br;q=0.5", "X: a b", "Accept:"}, false},
	} {
		if got := Selects(Selectors(names, first), lines(c.with...)); got != c.want {
			t.Errorf("RFC 9111 4.1: %s: %v", c.rule, got)
		}
	}
}

func TestConditional(t *testing.T) {
	lm := "Last-Modified: " + date(-time.Hour)
	for _, c := range []struct {
		rule            string
		answer, request []string
		want            bool
	}{
		{"RFC 9110 13.1.2", []string{`ETag: "a"`}, []string{`If-None-Match: "b", "a"`}, true},
		{"weak comparison", []string{`ETag: W/"a"`}, []string{`If-None-Match: "a"`}, true},
		{"weak, the other way", []string{`ETag: "a"`}, []string{`If-None-Match: W/"a"`}, true},
		{"none", []string{`ETag: "a"`}, []string{`If-None-Match: "b"`}, false},
		{"a comma in a tag", []string{`ETag: "a"`}, []string{`If-None-Match: "x,"a",y"`}, false},
		{"on two lines", []string{`ETag: "a"`}, []string{`If-None-Match: "b"`, `If-None-Match: "a"`}, true},
		{"*", []string{lm}, []string{"If-None-Match: *"}, true},
		{"13.2.2: If-None-Match first", []string{`ETag: "a"`, lm}, []string{`If-None-Match: "b"`, "If-Modified-Since: " + date(0)}, false},
		{"13.1.3", []string{lm}, []string{"If-Modified-Since: " + date(-time.Hour)}, true},
		{"13.1.3: earlier", []string{lm}, []string{"If-Modified-Since: " + date(-time.Hour-time.Second)}, false},
		{"13.1.3: is not a valid HTTP-date", []string{lm}, []string{"If-Modified-Since: tomorrow"}, false},
		{"9111 4.3.2: if not, its Date", []string{"Date: " + date(-time.Minute)}, []string{"If-Modified-Since: " + date(-time.Minute)}, true},
		{"9111 4.3.2: the time it was received", nil, []string{"If-Modified-Since: " + date(-time.Second)}, false},
	} {
		p := judge("GET", 200, nil, append(c.answer, "Cache-Control: max-age=60"), Options{})
		q := Look(lines(c.request...))
		if got := q.Conditional() && p.NotModified(&q); got != c.want {
			t.Errorf("%s: %v for %v: %v", c.rule, c.answer, c.request, got)
		}
	}
	if q := Look(lines(`If-Match: "a"`)); !q.ForOrigin {
		t.Error("If-Match is not for the origin")
	}
}

func TestRanges(t *testing.T) {
	for s, want := range map[string]string{
		"bytes=0-0": "0-0", "bytes=2-": "2-9", "bytes=-3": "7-9", "bytes=-30": "0-9", "bytes=5-50": "5-9", "bytes=9-9": "9-9",
		"bytes=10-": "416", "bytes=-0": "416", "bytes=0-1,3-4": "elsewhere",
		"bytes=3-2": "all", "bytes=": "all", "bytes=-": "all", "bytes=a-b": "all", "items=0-1": "all", "bytes=+1-2": "all", "0-1": "all",
	} {
		r, w := ParseRange(s, 10)
		got := map[Wanted]string{All: "all", Part: fmt.Sprintf("%d-%d", r.First, r.Last), Unsatisfiable: "416", Elsewhere: "elsewhere"}[w]
		if got != want {
			t.Errorf("RFC 9110 14.1.2: %s of 10 bytes: %s, want %s", s, got, want)
		}
	}
	lm := date(-time.Hour)
	for ifRange, want := range map[string]Wanted{`"a"`: Part, `"b"`: All, `W/"a"`: All, lm: Part, date(-time.Minute): All, "x": All} {
		p := judge("GET", 200, nil, []string{`ETag: "a"`, "Last-Modified: " + lm, "Cache-Control: max-age=60"}, Options{})
		q := Look(lines("Range: bytes=0-1", "If-Range: "+ifRange))
		if _, got := p.Wants(&q, 10); got != want {
			t.Errorf("RFC 9110 13.1.5: If-Range %s: %d, want %d", ifRange, got, want)
		}
	}
	if r, whole, ok := ContentRange("bytes 2-4/10"); !ok || r != (Range{2, 4}) || whole != 10 || r.Len() != 3 {
		t.Errorf("Content-Range: %v of %d, %v", r, whole, ok)
	}
	for _, s := range []string{"bytes */10", "bytes 2-4/*", "bytes 4-2/10", "bytes 2-10/10", "2-4/10", "bytes -2-4/10"} {
		if r, _, ok := ContentRange(s); ok {
			t.Errorf("Content-Range %q: %v", s, r)
		}
	}
}

func TestFreshen(t *testing.T) {
	got := Freshen(lines("Content-Type: a", "A: 1", "Content-Length: 5", "B: 1", "B: 2"), lines("b: 3", "Content-Length: 0", "Content-Type: x", "Content-Encoding: y", "C: 4"))
	want := lines("Content-Type: a", "A: 1", "Content-Length: 5", "b: 3", "C: 4")
	if !slices.Equal(got, want) {
		t.Errorf("RFC 9111 3.2: got %v, want %v", got, want)
	}
	for _, name := range []string{"Proxy-Authenticate", "proxy-authentication-info", "Proxy-Authorization", "Warning", "Age", "X"} {
		if Kept(name, []string{"x"}) {
			t.Errorf("RFC 9111 3.1: %s is kept", name)
		}
	}
}

func TestInvalidated(t *testing.T) {
	o := Origin{"http", "Shop:80", "/a/b?c"}
	for location, want := range map[string]string{
		"/x?y": "/x?y", "http://shop/x": "/x", "HTTP://SHOP:80/x": "/x", "//shop/x": "/x", "d": "/a/d", "../e": "/e", "?z": "/a/b?z", "http://shop": "/",
		"http://other/x": "", "https://shop/x": "", "http://shop:81/x": "", "http://u@shop/x": "", "/a/b?c": "", "http://[": "",
	} {
		got := strings.Join(Invalidated(o, lines("Location: "+location)), " ")
		if got != want {
			t.Errorf("RFC 9111 4.4: Location %q invalidates %q, want %q", location, got, want)
		}
	}
	for m, want := range map[string]bool{"GET": false, "HEAD": false, "OPTIONS": false, "POST": true, "PUT": true, "DELETE": true, "PATCH": true, "FOO": true} {
		if Unsafe(m) != want {
			t.Errorf("RFC 9111 4.4: %s is unsafe: %v", m, !want)
		}
	}
}

func TestTags(t *testing.T) {
	p := judge("GET", 200, nil, []string{"Cache-Control: max-age=60", "Surrogate-Key: a b", "Cache-Tag: c, d e"}, Options{})
	if want := []string{"a", "b", "c", "d e"}; !slices.Equal(p.Tags, want) {
		t.Errorf("got %q, want %q", p.Tags, want)
	}
}

func TestLookAllocatesNothing(t *testing.T) {
	f := lines("Host: shop", "Accept: */*", "Cache-Control: max-age=0", `If-None-Match: "a"`, "X-Forwarded-Host: x")
	if n := proxytest.Allocs(100, func() {
		if q := Look(f); !q.Keyed || q.IfNoneMatch == "" {
			t.Error("not seen")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzVary checks that normalising is idempotent, that a request matches itself, and that whitespace around commas says nothing.
func FuzzVary(f *testing.F) {
	for _, s := range []string{"gzip, br;q=0.5", `"," 0,"`, `a, "b, c\`, `"a,b", c`, `"\",`, ",,", "a ; q=1"} {
		f.Add("accept-encoding", s)
		f.Add("x", s)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		once := Normalise(name, value)
		if again := Normalise(name, once); again != once {
			t.Errorf("%q: %q, normalised again %q", value, once, again)
		}
		fields := proxy.Fields{{Name: name, Value: value}}
		if !Selects(Selectors([]string{name}, fields), fields) {
			t.Errorf("%q %q does not select itself", name, value)
		}
	})
}

// FuzzConditional parses what clients send in conditional and range requests.
func FuzzConditional(f *testing.F) {
	f.Add(`"a", W/"b"`, "bytes=0-5", "bytes 0-5/10")
	f.Add(`W/`, "bytes=-5", "bytes 9-9/10")
	f.Add(`"`, "bytes=9223372036854775807-", "bytes 0-0/1")
	f.Fuzz(func(t *testing.T, tags, span, content string) {
		MatchesWeakly(tags, `"a"`)
		if r, w := ParseRange(span, 10); w == Part && (r.First < 0 || r.Last > 9 || r.First > r.Last) {
			t.Errorf("%q: %v", span, r)
		}
		if r, whole, ok := ContentRange(content); ok && (r.First < 0 || r.Len() < 1 || r.Last >= whole) {
			t.Errorf("%q: %v of %d", content, r, whole)
		}
		Origin{"http", "a", "/b"}.resolve(tags)
	})
}
