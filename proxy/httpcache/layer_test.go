package httpcache

import (
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

const minute = "Cache-Control: max-age=60"

// fixed answers everything with the same.
func fixed(status int, body string, fields ...string) func(*origin, *proxy.Request, *proxy.Response) error {
	return func(_ *origin, req *proxy.Request, resp *proxy.Response) error {
		say(resp, status, body, fields...)
		if req.Method == "HEAD" {
			resp.Body = nil
		}
		return nil
	}
}

// counted answers with how often it was asked.
func counted(fields ...string) func(*origin, *proxy.Request, *proxy.Response) error {
	return func(o *origin, _ *proxy.Request, resp *proxy.Response) error {
		say(resp, 200, number(o.count()), fields...)
		return nil
	}
}

func TestHit(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		b := newBed(t, s, Config{}, Settings{Always: true}, fixed(200, "hello", minute, "X-Case: a", "warning: 1", "Content-Length: 5", "set-cookie2: x"))
		g := b.do("GET", "/a")
		b.want("miss", g, 200, "hello", 1)
		if g.cache() != "pillion; fwd=uri-miss; stored" || g.fields.Has("Age") {
			t.Errorf("miss: %v", g.fields)
		}
		b.clock.add(7500 * time.Millisecond)
		g = b.do("GET", "/a")
		b.want("hit", g, 200, "hello", 1)
		if g.cache() != "pillion; hit; ttl=53" || g.fields.Get("Age") != "7" || g.fields.Get("X-Case") != "a" || g.fields.Has("Warning") || g.length != 5 {
			t.Errorf("hit: %v, length %d", g.fields, g.length)
		}
		g = b.do("HEAD", "/a")
		b.want("HEAD is answered by GET", g, 200, "", 1)
		if g.length != 5 {
			t.Errorf("HEAD: length %d", g.length)
		}
		b.want("another query", b.do("GET", "/a?x"), 200, "hello", 2)
		b.clock.add(time.Minute)
		b.want("stale", b.do("GET", "/a"), 200, "hello", 3)
	})
}

// A service that nobody has configured is looked at, and nothing else, until it says something of caching.
func TestAuto(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		fields := []string{}
		b := newBed(t, s, Config{}, Settings{}, func(o *origin, _ *proxy.Request, resp *proxy.Response) error {
			say(resp, 200, number(o.count()), fields...)
			return nil
		})
		for i := range 3 {
			g := b.do("GET", "/a", "Range: bytes=0-0", `If-None-Match: "x"`)
			b.want("passive", g, 200, number(i+1), i+1)
			if g.cache() != "" || !b.o.last().fields.Has("If-None-Match") {
				t.Errorf("a service without caching: %v, the origin was asked with %v", g.fields, b.o.last().fields)
			}
		}
		fields = []string{"Cache-Control: no-store"}
		if g := b.do("GET", "/a"); g.cache() != "" {
			t.Errorf("no-store: %v", g.fields)
		}
		fields = []string{minute}
		b.want("the first that may be stored", b.do("GET", "/a"), 200, "5", 5)
		b.want("hit", b.do("GET", "/a"), 200, "5", 5)
		fields = nil
		b.want("what is not known goes straight through", b.do("GET", "/b"), 200, "6", 6)
		if st := b.c.Stats().Services[0]; st.Misses != 0 || st.Hits != 1 || st.Passed != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestOff(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		b := newBed(t, s, Config{}, Settings{Off: true}, counted(minute))
		b.do("GET", "/a")
		if g := b.do("GET", "/a"); g.body != "2" || g.cache() != "" {
			t.Errorf("%q %v", g.body, g.fields)
		}
	})
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		rule          string
		answer        []string
		first, second []string // requests
		after         time.Duration
		hit           bool
	}{
		{"no-store", []string{"Cache-Control: no-store, max-age=60"}, nil, nil, 0, false},
		{"request no-store", []string{minute}, []string{"Cache-Control: no-store"}, nil, 0, false},
		{"private", []string{"Cache-Control: private, max-age=60"}, nil, nil, 0, false},
		{"no-cache", []string{"Cache-Control: no-cache, max-age=60"}, nil, nil, 0, false},
		{"no freshness", nil, nil, nil, 0, false},
		{"authorization", []string{minute}, []string{"Authorization: a"}, []string{"Authorization: a"}, 0, false},
		{"authorization, public", []string{"Cache-Control: public, max-age=60"}, []string{"Authorization: a"}, []string{"Authorization: b"}, 0, true},
		{"cookie", []string{minute, "Set-Cookie: a=b"}, nil, nil, 0, false},
		{"vary same", []string{minute, "Vary: Accept-Language"}, []string{"Accept-Language: de"}, []string{"accept-language: DE"}, 0, true},
		{"vary other", []string{minute, "Vary: Accept-Language"}, []string{"Accept-Language: de"}, []string{"Accept-Language: en"}, 0, false},
		{"vary absent", []string{minute, "Vary: Accept-Language"}, nil, []string{"Accept-Language: en"}, 0, false},
		{"vary *", []string{minute, "Vary: *"}, nil, nil, 0, false},
		{"request no-cache", []string{minute}, nil, []string{"Cache-Control: no-cache"}, 0, false},
		{"request max-age", []string{minute}, nil, []string{"Cache-Control: max-age=5"}, 6 * time.Second, false},
		{"request max-stale", []string{minute}, nil, []string{"Cache-Control: max-stale"}, time.Hour, true},
		{"request min-fresh", []string{minute}, nil, []string{"Cache-Control: min-fresh=55"}, 6 * time.Second, false},
		{"targeted", []string{"CDN-Cache-Control: max-age=60", "Cache-Control: no-store"}, nil, nil, 0, true},
		{"a host header of proxies", []string{minute}, []string{"X-Forwarded-Host: evil"}, nil, 0, false},
		{"the same host header", []string{minute}, []string{"X-Forwarded-Host: a"}, []string{"x-forwarded-host: a"}, 0, true},
		{"the other way round", []string{minute}, nil, []string{"X-Forwarded-Host: evil"}, 0, false},
		{"method override", []string{minute}, []string{"X-HTTP-Method-Override: POST"}, nil, 0, false},
		{"method override does not read either", []string{minute}, nil, []string{"X-HTTP-Method-Override: POST"}, 0, false},
		{"path override", []string{minute}, []string{"X-Original-URL: /admin"}, nil, 0, false},
		{"precondition for the origin", []string{minute}, nil, []string{`If-Match: "a"`}, 0, false},
	} {
		t.Run(c.rule, func(t *testing.T) {
			each(t, func(t *testing.T, s task.Shard) {
				b := newBed(t, s, Config{}, Settings{Always: true}, counted(c.answer...))
				b.want("first", b.do("GET", "/a", c.first...), 200, "1", 1)
				b.clock.add(c.after)
				g := b.do("GET", "/a", c.second...)
				if hit := g.body == "1" && b.o.count() == 1; hit != c.hit || g.err != nil {
					t.Errorf("second: %q, %v, %v; want hit %v", g.body, g.fields, g.err, c.hit)
				}
			})
		})
	}
}

func TestVariants(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		b := newBed(t, s, Config{}, Settings{Always: true}, func(_ *origin, req *proxy.Request, resp *proxy.Response) error {
			say(resp, 200, req.Fields.Get("Accept-Language"), minute, "Vary: Accept-Language", "Cache-Tag: x")
			return nil
		})
		for range 2 {
			for _, lang := range []string{"de", "en", "fr"} {
				if g := b.do("GET", "/a", "Accept-Language: "+lang); g.body != lang {
					t.Errorf("%s: %q", lang, g.body)
				}
			}
		}
		if b.o.count() != 3 {
			t.Errorf("origin asked %d times, want 3", b.o.count())
		}
		b.do("POST", "/a")
		b.want("after POST all variants are gone", b.do("GET", "/a", "Accept-Language: de"), 200, "de", 5)
	})
}

func TestValidation(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		tag := `"v1"`
		b := newBed(t, s, Config{}, Settings{Always: true}, func(o *origin, req *proxy.Request, resp *proxy.Response) error {
			if req.Fields.Get("If-None-Match") == tag {
				say(resp, 304, "", "ETag: "+tag, "Cache-Control: max-age=10", "X-N: "+number(o.count()))
				resp.Length = proxy.Unknown
				return nil
			}
			say(resp, 200, "body of "+tag, "ETag: "+tag, "Cache-Control: max-age=10", "X-N: "+number(o.count()), "Content-Type: text/plain")
			return nil
		})
		b.want("first", b.do("GET", "/a"), 200, `body of "v1"`, 1)
		b.clock.add(11 * time.Second)
		g := b.do("GET", "/a", `If-None-Match: "other"`)
		b.want("validated", g, 200, `body of "v1"`, 2)
		if g.fields.Get("X-N") != "2" || g.fields.Get("Content-Type") != "text/plain" || g.cache() != "pillion; fwd=stale; fwd-status=304" {
			t.Errorf("the 304's fields replace stored ones: %v", g.fields)
		}
		b.clock.add(5500 * time.Millisecond)
		g = b.do("GET", "/a")
		b.want("fresh again", g, 200, `body of "v1"`, 2)
		if g.fields.Get("Age") != "5" {
			t.Errorf("age begins anew: %v", g.fields)
		}
		g = b.do("GET", "/a", `If-None-Match: "x", W/"v1"`)
		b.want("the client's condition", g, 304, "", 2)
		if g.fields.Get("ETag") != tag || g.fields.Has("Content-Type") {
			t.Errorf("304: %v", g.fields)
		}
		tag = `"v2"`
		b.want("not yet known", b.do("GET", "/a"), 200, `body of "v1"`, 2)
		b.want("asked for", b.do("GET", "/a", "Cache-Control: no-cache"), 200, `body of "v2"`, 3)
		b.want("and stored", b.do("GET", "/a"), 200, `body of "v2"`, 3)
	})
}

func TestOnlyIfCached(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		b := newBed(t, s, Config{}, Settings{Always: true}, counted(minute))
		g := b.do("GET", "/a", "Cache-Control: only-if-cached")
		if e, ok := g.err.(*proxy.Error); !ok || e.Code != proxy.NotCached || e.Code.Status() != 504 || b.o.count() != 0 {
			t.Errorf("%v, origin asked %d times", g.err, b.o.count())
		}
		b.do("GET", "/a")
		b.want("cached", b.do("GET", "/a", "Cache-Control: only-if-cached"), 200, "1", 1)
	})
}

func TestStaleIfError(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		var fail error
		status := 200
		b := newBed(t, s, Config{}, Settings{Always: true}, func(_ *origin, _ *proxy.Request, resp *proxy.Response) error {
			if fail != nil {
				return fail
			}
			say(resp, status, "body", "Cache-Control: max-age=10, stale-if-error=60")
			return nil
		})
		b.do("GET", "/a")
		b.clock.add(20500 * time.Millisecond)
		fail = &proxy.Error{Code: proxy.ConnectFailed, Detail: "down"}
		g := b.do("GET", "/a")
		b.want("no connection", g, 200, "body", 2)
		if g.fields.Get("Age") != "20" {
			t.Errorf("stale: %v", g.fields)
		}
		fail, status = nil, 503
		b.want("503", b.do("GET", "/a"), 200, "body", 3)
		status = 404
		b.want("404 is no error", b.do("GET", "/a"), 404, "body", 4)
	})
}

func TestStaleWhileRevalidate(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		var b *bed
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			b = newBed(t, s, Config{}, Settings{Always: true}, counted("Cache-Control: max-age=10, stale-while-revalidate=60"))
			b.do("GET", "/a")
			b.clock.add(20500 * time.Millisecond)
			if g := b.do("GET", "/a"); g.body != "1" || g.fields.Get("Age") != "20" {
				t.Errorf("%q, %v", g.body, g.fields)
			}
		})
		proxytest.Eventually(t, "refreshed", func() bool {
			fresh := false
			proxytest.Do(t, s, func() { fresh = b.do("GET", "/a").body == "2" })
			return fresh
		})
		if n := b.o.count(); n != 2 {
			t.Errorf("origin asked %d times, want 2", n)
		}
	})
}

func TestInvalidation(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		status, location := 200, ""
		b := newBed(t, s, Config{}, Settings{Always: true}, func(o *origin, req *proxy.Request, resp *proxy.Response) error {
			if req.Method != "GET" {
				say(resp, status, "", "Location: "+location)
				return nil
			}
			say(resp, 200, number(o.count()), minute)
			return nil
		})
		ask := func(what string, want int) {
			t.Helper()
			if g := b.do("GET", "/a"); g.body != number(want) {
				t.Errorf("%s: %q, want %d", what, g.body, want)
			}
		}
		ask("first", 1)
		b.do("OPTIONS", "/a")
		ask("after a safe method", 1)
		for i, m := range []string{"POST", "PUT", "DELETE", "PATCH", "FOO"} {
			b.do(m, "/a")
			ask(m, 4+2*i)
		}
		status = 500
		b.do("PUT", "/a")
		ask("after an error", 12)
		status, location = 201, "http://shop/a"
		b.do("POST", "/b")
		ask("Location", 15)
		location = "http://other/a"
		b.do("POST", "/b")
		ask("Location of another origin", 15)
	})
}

func TestRanges(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		b := newBed(t, s, Config{}, Settings{Always: true}, fixed(200, "0123456789", minute, `ETag: "a"`, "Content-Length: 10"))
		b.do("GET", "/a")
		g := b.do("GET", "/a", "Range: bytes=2-4")
		b.want("a part", g, 206, "234", 1)
		if g.fields.Get("Content-Range") != "bytes 2-4/10" || g.length != 3 || g.fields.Has("Content-Length") {
			t.Errorf("%v, length %d", g.fields, g.length)
		}
		b.want("the end", b.do("GET", "/a", "Range: bytes=-3"), 206, "789", 1)
		g = b.do("GET", "/a", "Range: bytes=10-")
		b.want("beyond", g, 416, "", 1)
		if g.fields.Get("Content-Range") != "bytes */10" {
			t.Errorf("416: %v", g.fields)
		}
		b.want("If-Range", b.do("GET", "/a", "Range: bytes=2-4", `If-Range: "a"`), 206, "234", 1)
		b.want("If-Range of another", b.do("GET", "/a", "Range: bytes=2-4", `If-Range: "b"`), 200, "0123456789", 1)
		b.want("HEAD has no ranges", b.do("HEAD", "/a", "Range: bytes=2-4"), 200, "", 1)
		b.want("more than one is for the origin", b.do("GET", "/a", "Range: bytes=0-1,3-4"), 200, "0123456789", 2)
	})
}

// TestPartOfWhole: a part comes to be stored when the whole is there already, fetched by somebody else meanwhile.
func TestPartOfWhole(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		var b *bed
		b = newBed(t, s, Config{}, Settings{}, func(_ *origin, req *proxy.Request, resp *proxy.Response) error {
			if req.Fields.Get("Range") == "" {
				say(resp, 200, "0123456789", minute, `ETag: "a"`)
				return nil
			}
			b.want("the whole", b.do("GET", "/a"), 200, "0123456789", 3)
			say(resp, 206, "234", minute, `ETag: "a"`, "Content-Range: bytes 2-4/10")
			return nil
		})
		b.do("GET", "/b") // from here on it is known that something can be kept
		b.want("a part", b.do("GET", "/a", "Range: bytes=2-4"), 206, "234", 3)
		b.want("the whole is kept", b.do("GET", "/a"), 200, "0123456789", 3)
	})
}

func TestParts(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		const all = "0123456789"
		tag := `"a"`
		b := newBed(t, s, Config{}, Settings{Always: true}, func(_ *origin, req *proxy.Request, resp *proxy.Response) error {
			v := req.Fields.Get("Range")
			if v == "" {
				say(resp, 200, all, minute, "ETag: "+tag)
				return nil
			}
			first, last := int(v[6]-'0'), int(v[8]-'0')
			say(resp, 206, all[first:last+1], minute, "ETag: "+tag, "Content-Range: bytes "+v[6:]+"/10")
			return nil
		})
		b.want("a part", b.do("GET", "/a", "Range: bytes=2-4"), 206, "234", 1)
		b.want("the same", b.do("GET", "/a", "Range: bytes=2-4"), 206, "234", 1)
		b.want("within", b.do("GET", "/a", "Range: bytes=3-3"), 206, "3", 1)
		b.want("more", b.do("GET", "/a", "Range: bytes=4-6"), 206, "456", 2)
		b.want("combined", b.do("GET", "/a", "Range: bytes=2-6"), 206, "23456", 2)
		b.want("a gap", b.do("GET", "/a", "Range: bytes=8-9"), 206, "89", 3)
		b.want("not over the gap", b.do("GET", "/a", "Range: bytes=6-8"), 206, "678", 4)
		b.want("the beginning", b.do("GET", "/a", "Range: bytes=0-2"), 206, "012", 5)
		g := b.do("GET", "/a")
		b.want("all of it", g, 200, all, 5)
		if g.fields.Has("Content-Range") || g.length != 10 {
			t.Errorf("%v, length %d", g.fields, g.length)
		}
		b.do("PUT", "/a")
		b.want("again", b.do("GET", "/a", "Range: bytes=0-5"), 206, "012345", 7)
		tag = `"b"`
		b.want("another whole", b.do("GET", "/a", "Range: bytes=6-9"), 206, "6789", 8)
		b.want("is not put together with the first", b.do("GET", "/a", "Range: bytes=0-9"), 206, all, 9)
	})
}

func TestHead(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		tag := `"a"`
		b := newBed(t, s, Config{}, Settings{Always: true}, func(o *origin, req *proxy.Request, resp *proxy.Response) error {
			say(resp, 200, "body", minute, "ETag: "+tag, "X-N: "+number(o.count()))
			if req.Method == "HEAD" {
				resp.Body = nil
			}
			return nil
		})
		b.do("GET", "/a")
		b.do("HEAD", "/a", "Cache-Control: no-cache")
		g := b.do("GET", "/a")
		b.want("freshened by HEAD", g, 200, "body", 2)
		if g.fields.Get("X-N") != "2" {
			t.Errorf("%v", g.fields)
		}
		tag = `"b"`
		b.do("HEAD", "/a", "Cache-Control: no-cache")
		b.want("HEAD tells of another", b.do("GET", "/a"), 200, "body", 4)
	})
}

func TestPost(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		b := newBed(t, s, Config{}, Settings{Always: true}, func(o *origin, req *proxy.Request, resp *proxy.Response) error {
			say(resp, 200, req.Method, minute, "Content-Location: /a")
			return nil
		})
		b.do("GET", "/a")
		b.do("POST", "/a")
		b.want("GET after POST", b.do("GET", "/a"), 200, "POST", 2)
		b.want("POST is never answered from the cache", b.do("POST", "/a"), 200, "POST", 3)
	})
}

func TestNoVarySearch(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		b := newBed(t, s, Config{}, Settings{Always: true}, counted(minute, `No-Vary-Search: params=("utm"), key-order`))
		b.want("first", b.do("GET", "/a?x=1&y=2&utm=5"), 200, "1", 1)
		b.want("another order, another utm", b.do("GET", "/a?utm=6&y=2&x=1"), 200, "1", 1)
		b.want("encoded", b.do("GET", "/a?%79=2&x=1"), 200, "1", 1)
		b.want("another x", b.do("GET", "/a?x=2&y=2"), 200, "2", 2)
		b.do("PUT", "/a?y=2&x=1&utm=9")
		b.want("invalidated by an equal", b.do("GET", "/a?x=1&y=2"), 200, "4", 4)
	})
}

func TestIdentities(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		control := minute
		b := newAppBed(t, s, Settings{Always: true}, func(o *origin, req *proxy.Request, resp *proxy.Response) error {
			who := "nobody"
			if req.Peer != nil {
				who = string(req.Peer.Identity)
			}
			say(resp, 200, who+" "+number(o.count()), control)
			return nil
		})
		web, shop := &proxy.Peer{Identity: "web"}, &proxy.Peer{Identity: "shop"}
		ask := func(p *proxy.Peer, want string) {
			t.Helper()
			if g := b.from(b.s, p, "GET", "/a"); g.body != want {
				t.Errorf("%q, want %q", g.body, want)
			}
		}
		for range 2 {
			ask(web, "web 1")
			ask(shop, "shop 2")
			ask(nil, "nobody 3")
		}
		control = "Cache-Control: public, max-age=60"
		b.from(b.s, web, "PUT", "/a")
		ask(web, "web 5")
		ask(shop, "web 5")
		ask(nil, "web 5")
	})
}

func TestKeys(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		b := newBed(t, s, Config{}, Settings{Always: true}, counted(minute))
		ask := func(authority, path string, port uint16) string {
			return b.send(&proxy.Request{Method: "GET", Scheme: "http", Authority: authority, Path: path, Shard: b.s, Cancel: new(proxy.Cancel), Service: proxy.Service{Name: "shop", Port: port}}).body
		}
		for _, same := range []string{"shop", "SHOP", "shop:80", "shop.", "Shop:"} {
			if got := ask(same, "/a", 0); got != "1" {
				t.Errorf("Host %q: %q, want the same as shop", same, got)
			}
		}
		for i, other := range []struct {
			authority, path string
			port            uint16
		}{{"shop2", "/a", 0}, {"shop:81", "/a", 0}, {"shop", "/A", 0}, {"shop", "/a/", 0}, {"shop", "//a", 0}, {"shop", "/%61", 0}, {"shop", "/a/../a", 0}, {"shop", "/a;x.css", 0}, {"shop", "/a", 5}, {"[::1]", "/a", 0}} {
			if got := ask(other.authority, other.path, other.port); got != number(i+2) {
				t.Errorf("%+v: %q, want another answer", other, got)
			}
		}
	})
}

func TestTrailersAndEmptyAnswers(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		b := newBed(t, s, Config{}, Settings{Always: true}, func(_ *origin, req *proxy.Request, resp *proxy.Response) error {
			say(resp, 200, "", minute)
			if req.Path == "/t" {
				resp.Length, resp.Body = proxy.Unknown, &text{rest: "body", trailers: proxy.Fields{{Name: "T", Value: "1"}}}
			}
			return nil
		})
		for i := range 2 {
			if g := b.do("GET", "/t"); g.body != "body" || g.trailers.Get("T") != "1" || g.length != 4 {
				t.Errorf("%d: %q, trailers %v, length %d", i, g.body, g.trailers, g.length)
			}
			b.want("empty", b.do("GET", "/e"), 200, "", 2-(1-i)*0)
		}
	})
}

// What breaks off is never stored, and never looks complete.
func TestTruncated(t *testing.T) {
	for name, set := range map[string]Settings{"flight": {Always: true}, "on its way": {}} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s task.Shard) {
				whole := false
				b := newBed(t, s, Config{}, set, func(_ *origin, _ *proxy.Request, resp *proxy.Response) error {
					say(resp, 200, "half", minute)
					if resp.Length = 8; whole {
						resp.Length = 4
					} else {
						resp.Body.(*text).err = &proxy.Error{Code: proxy.PeerReset, Detail: "cut"}
					}
					return nil
				})
				if g := b.do("GET", "/a"); g.err == nil {
					t.Errorf("half an answer: %d %q", g.status, g.body)
				}
				whole = true
				b.want("whole", b.do("GET", "/a"), 200, "half", 2)
			})
		})
	}
}

func TestTooLarge(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		big := strings.Repeat("x", 300<<10)
		known := true
		b := newBed(t, s, Config{MaxObject: 100 << 10}, Settings{Always: true}, func(_ *origin, _ *proxy.Request, resp *proxy.Response) error {
			say(resp, 200, big, minute)
			if !known {
				resp.Length = proxy.Unknown
			}
			return nil
		})
		for i := range 4 {
			known = i < 2
			if g := b.do("GET", "/"+number(i/2)); g.body != big || g.err != nil || b.o.count() != i+1 {
				t.Errorf("%d: %d bytes, %v, asked %d times", i, len(g.body), g.err, b.o.count())
			}
		}
		if st := b.c.Stats(); st.Bytes > 4<<10 {
			t.Errorf("%d bytes are held", st.Bytes)
		}
	})
}

func TestHitsAllocateNothing(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		b := newBed(t, s, Config{}, Settings{Always: true}, fixed(200, "hello", minute, "Vary: Accept-Encoding", `ETag: "a"`))
		req := &proxy.Request{}
		fields := proxy.Fields{{Name: "Host", Value: "shop"}, {Name: "Accept-Encoding", Value: "gzip"}, {Name: "User-Agent", Value: "x"}}
		resp := &proxy.Response{}
		cancel := new(proxy.Cancel)
		buf := make([]byte, 100)
		send := func() {
			*req = proxy.Request{Method: "GET", Scheme: "http", Authority: "shop", Path: "/a/long/path?with=query", Shard: s, Cancel: cancel, Service: proxy.Service{Name: "shop"}, Fields: fields}
			if err := b.rt.RoundTrip(req, resp); err != nil {
				t.Error(err)
			}
			for resp.Body.Buffered() > 0 {
				if _, err := resp.Body.Read(buf); err != nil {
					t.Error(err)
				}
			}
			resp.Close()
		}
		send()
		if n := proxytest.Allocs(200, send); n > 0 {
			t.Errorf("%v allocations for a hit", n)
		}
	})
}

// BenchmarkHit is a hit, and what a service costs of which nothing can be stored, and neither.
func BenchmarkHit(b *testing.B) {
	for _, x := range []struct {
		name   string
		set    Settings
		fields []string
	}{{"hit", Settings{Always: true}, []string{minute, `ETag: "a"`}}, {"nothing to store", Settings{}, []string{"Content-Type: a", "Content-Length: 5", "Server: x"}}, {"off", Settings{Off: true}, nil}} {
		b.Run(x.name, func(b *testing.B) {
			run := task.NewGoroutines(task.Config{})
			proxytest.Start(b, run)
			s := run.Shards()[0]
			c := New(Config{})
			body := &text{}
			rt := c.Layers(LayerConfig{Services: map[string][]Settings{"shop": {x.set}}})["shop"](proxy.RoundTripperFunc(func(_ *proxy.Request, resp *proxy.Response) error {
				resp.Status, resp.Length, resp.Body = 200, 5, body
				body.rest = "hello"
				for _, f := range x.fields {
					name, value, _ := strings.Cut(f, ": ")
					resp.Fields.Add(name, value)
				}
				return nil
			}))
			done := proxytest.Go(s, func() {
				req, resp, cancel := new(proxy.Request), new(proxy.Response), new(proxy.Cancel)
				fields := proxy.Fields{{Name: "Host", Value: "shop"}, {Name: "Accept-Encoding", Value: "gzip"}, {Name: "User-Agent", Value: "x"}}
				buf := make([]byte, 100)
				b.ReportAllocs()
				for b.Loop() {
					*req = proxy.Request{Method: "GET", Scheme: "http", Authority: "shop", Path: "/a/long/path?with=query", Shard: s, Cancel: cancel, Service: proxy.Service{Name: "shop"}, Fields: fields}
					if err := rt.RoundTrip(req, resp); err != nil {
						b.Error(err)
					}
					resp.Body.Read(buf)
					resp.Close()
				}
			})
			proxytest.Wait(b, done)
		})
	}
}
