package httpcache

import (
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

const price = "/shop.Prices/Get"

func message(text string) string {
	return string(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(text))), text...))
}

func withPrices() Settings { return Settings{GRPC: map[string]time.Duration{price: time.Minute}} }

// ask makes a gRPC call.
func (b *bed) ask(s task.Shard, peer *proxy.Peer, path, body string, metadata ...string) got {
	req := &proxy.Request{Method: "POST", Scheme: "http", Authority: "shop", Path: path, Shard: s, Cancel: new(proxy.Cancel), Peer: peer, Service: proxy.Service{Name: "shop"},
		Length: proxy.Unknown, Body: &text{rest: body}, Fields: proxy.Fields{{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"}}}
	for _, l := range metadata {
		name, value, _ := strings.Cut(l, ":")
		req.Fields.Add(name, strings.TrimSpace(value))
	}
	return b.send(req)
}

// prices is a server: what it is asked, how often it was asked, and a status as the question says.
func prices(o *origin, req *proxy.Request, resp *proxy.Response) error {
	question, err := io.ReadAll(req.Body)
	if err != nil {
		return err
	}
	answer, status := message(string(question)+" "+number(o.count())), "0"
	switch {
	case strings.Contains(string(question), "fails"):
		status = "5"
	case strings.Contains(string(question), "stream"):
		answer += message("more")
	case strings.Contains(string(question), "refused"):
		say(resp, 200, "", "content-type: application/grpc", "grpc-status: 7")
		return nil
	case strings.Contains(string(question), "html"):
		say(resp, 502, "<html>", "content-type: text/html")
		return nil
	}
	say(resp, 200, answer, "content-type: application/grpc", "No-Vary-Search: params", "Vary: *")
	resp.Length = proxy.Unknown
	resp.Body = &text{rest: answer, trailers: proxy.Fields{{Name: "grpc-status", Value: status}, {Name: "t", Value: "kept"}}}
	return nil
}

func TestUnaryCallsAreKept(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		b := newBed(t, s, Config{}, withPrices(), prices)
		want := func(what string, g got, asked int, kept bool) {
			t.Helper()
			if n := b.o.count(); g.err != nil || n != asked || strings.Contains(g.cache(), "hit") != kept {
				t.Errorf("%s: %d %q %v, %v; asked %d times, want %d, hit %v", what, g.status, g.body, g.fields, g.err, n, asked, kept)
			}
		}
		call := func(question string, metadata ...string) got {
			return b.ask(b.s, nil, price, message(question), metadata...)
		}
		want("the first", call("a"), 1, false)
		again := call("a", "traceparent: x", "grpc-timeout: 1S", "x-request-id: 1")
		want("the same", again, 1, true)
		if again.trailers.Get("grpc-status") != "0" || again.trailers.Get("t") != "kept" || again.body != message(message("a")+" 1") {
			t.Errorf("kept: %q, %v", again.body, again.trailers)
		}
		want("another question", call("b"), 2, false)
		want("of another user", call("a", "authorization: x"), 3, false)
		want("of the same", call("a", "Authorization: x"), 3, true)
		want("with what nobody knows", call("a", "tenant: 1"), 4, false)
		want("in another order", call("a", "tenant: 1", "authorization: x"), 5, false)
		want("which does not matter", call("a", "authorization: x", "tenant: 1"), 5, true)
		want("unless it is of one name", call("a", "tenant: 1", "tenant: 2"), 6, false)
		want("and is", call("a", "tenant: 2", "tenant: 1"), 7, false)
		want("with a condition, which is none", call("a", `if-none-match: "a"`, "range: bytes=0-1"), 8, false)
		want("another method", b.ask(b.s, nil, "/shop.Prices/Set", message("a")), 9, false)
		want("again", b.ask(b.s, nil, "/shop.Prices/Set", message("a")), 10, false)
		b.clock.add(2 * time.Minute)
		want("too old", call("a"), 11, false)
		n := 11
		for _, question := range []string{"fails", "stream", "refused", "html", strings.Repeat("x", maxQuestion)} {
			for range 2 {
				n++
				g := call(question)
				want(question[:4], g, n, false)
				if question == "stream" && !strings.HasSuffix(g.body, message("more")) || question == "fails" && g.trailers.Get("grpc-status") != "5" {
					t.Errorf("%s: %q %v", question, g.body, g.trailers)
				}
			}
		}
		for _, odd := range []string{"", "abc", message("a") + "b", message("a") + message("b"), message("abc")[:6]} {
			n++
			g := b.ask(b.s, nil, price, odd)
			want("an odd request", g, n, false)
			if !strings.Contains(g.body, odd+" "+number(n)) {
				t.Errorf("%q became %q", odd, g.body)
			}
		}
		if n := b.c.PurgeURL("", "shop"+price); n != 8 {
			t.Errorf("%d purged by URL", n)
		}
		call("a")
		if n := b.c.PurgeTag(price); n != 1 {
			t.Errorf("%d purged by tag", n)
		}
	})
}

// At the app's side each identity has its own.
func TestUnaryCallsOfCallers(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		b := newAppBed(t, s, withPrices(), prices)
		for i, who := range []proxy.Identity{"spiffe://x/a", "spiffe://x/b", "", "spiffe://x/a"} {
			b.ask(b.s, &proxy.Peer{Identity: who}, price, message("q"))
			if n := b.o.count(); n != min(i+1, 3) {
				t.Errorf("after %d calls the app was asked %d times", i+1, n)
			}
		}
	})
}

// Simultaneous calls are one, unless it fails: that is the matter of its own client.
func TestUnaryCallsCollapse(t *testing.T) {
	const clients = 100
	for question, want := range map[string]int{"q": 1, "fails": clients, "stream": clients, "refused": clients} {
		proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
			var open atomic.Bool
			b := newBed(t, rt.Shards()[0], Config{}, withPrices(), func(o *origin, req *proxy.Request, resp *proxy.Response) error {
				for !open.Load() {
					req.Shard.Sleep(4e6)
				}
				return prices(o, req, resp)
			})
			var ends []<-chan struct{}
			for i := range clients {
				s := rt.Shards()[i%len(rt.Shards())]
				ends = append(ends, proxytest.Go(s, func() {
					g := b.ask(s, nil, price, message(question))
					if g.err != nil || g.trailers == nil && g.fields.Get("grpc-status") == "" {
						t.Errorf("%q %v %v", g.body, g.trailers, g.err)
					}
				}))
			}
			proxytest.Eventually(t, "all wait", func() bool { return passengers(b.c) == clients })
			open.Store(true)
			for _, end := range ends {
				proxytest.Wait(t, end)
			}
			if n := b.o.count(); n != want {
				t.Errorf("%s: the app was asked %d times, want %d", question, n, want)
			}
		})
	}
}

// FuzzReadMessage: whatever is read is passed on whole.
func FuzzReadMessage(f *testing.F) {
	for _, s := range []string{"", message(""), message("abc"), message("abc") + "d", "\x00\xff\xff\xff\xff", strings.Repeat("x", maxQuestion+1)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		src := &text{rest: string(p)}
		all, err := readMessage(src)
		if got := slices.Concat(all, []byte(src.rest)); string(got) != string(p) {
			t.Errorf("%q became %q", p, got)
		}
		if err == nil && (len(all) > maxQuestion || int64(len(all)) != messageEnd(all)) {
			t.Errorf("%q is no message", all)
		}
	})
}
