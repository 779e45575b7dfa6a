package mirror

import (
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// service plays both the service and its shadow.
type service struct {
	mu     sync.Mutex
	seen   []string // "name method path field body"
	answer func(req *proxy.Request, resp *proxy.Response) error
}

func (s *service) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	var body string
	if req.Body != nil {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return &proxy.Error{Code: proxy.ClientGone, Err: err}
		}
		body = string(b)
	}
	to := req.Service
	if req.Backend.Name != "" {
		to = req.Backend
	}
	s.mu.Lock()
	s.seen = append(s.seen, strings.Join([]string{to.String(), req.Method, req.Authority, req.Path, req.Fields.Get("x"), "mirror=" + req.Fields.Get(Field), body}, " "))
	s.mu.Unlock()
	resp.Status = 200
	if s.answer != nil {
		return s.answer(req, resp)
	}
	return nil
}

func (s *service) has(line string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.seen {
		if l == line {
			return true
		}
	}
	return false
}

func request(s task.Shard, body string) *proxy.Request {
	req := &proxy.Request{Method: "GET", Authority: "a", Path: "/p?q", Shard: s, Cancel: new(proxy.Cancel), Service: proxy.Service{Name: "a", Port: 9},
		Fields: proxy.Fields{{Name: "X", Value: "y"}, {Name: "pillion-mirror", Value: "forged"}}}
	if body != "" {
		req.Method, req.Body, req.Length = "POST", &proxy.Content{Left: []byte(body)}, int64(len(body))
	}
	return req
}

func always() Settings {
	return Settings{To: proxy.Service{Name: "b"}, Share: 1, Body: 100}
}

// A copy has what the request had, and nobody waits for it.
func TestCopies(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		srv, st := new(service), new(State)
		l := st.Layer([]Settings{always()}, 1, srv)(srv)
		send := func(req *proxy.Request) {
			proxytest.Do(t, s, func() {
				var resp proxy.Response
				if err := l.RoundTrip(req, &resp); err != nil || resp.Status != 200 {
					t.Errorf("the request itself: %d, %v", resp.Status, err)
				}
				resp.Close()
			})
		}
		send(request(s, ""))
		send(request(s, "hello"))
		unknown := request(s, "chunks")
		unknown.Length = proxy.Unknown
		send(unknown)
		for _, want := range []string{
			"a:9 GET a /p?q y mirror= ", "b:9 GET a /p?q y mirror=1 ",
			"a:9 POST a /p?q y mirror= hello", "b:9 POST a /p?q y mirror=1 hello",
			"a:9 POST a /p?q y mirror= chunks", "b:9 POST a /p?q y mirror=1 chunks",
		} {
			proxytest.Eventually(t, want, func() bool { return srv.has(want) })
		}
		proxytest.Eventually(t, "three answers", func() bool { return st.Stats() == Stats{Sent: 3, Answered: 3} })
	})
}

// What becomes of a copy reaches nobody: it may be slow, fail, or never end.
func TestHarmless(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		srv, st := new(service), new(State)
		var crowded atomic.Bool // the second copy has found no room
		srv.answer = func(req *proxy.Request, resp *proxy.Response) error {
			switch {
			case req.Backend.Name == "":
				return nil
			case req.Fields.Get("x") == "fails":
				return errors.New("down")
			case req.Fields.Get("x") == "500":
				resp.Status = 500
				return nil
			}
			w := &waiter{}
			s.Gate(&w.gate)
			if _, err := req.Cancel.Watch(w); err != nil {
				return err
			}
			for req.Cancel.Err() == nil || !crowded.Load() {
				w.gate.Wait(s.Now().Add(5 * time.Millisecond))
			}
			return req.Cancel.Err()
		}
		c := always()
		c.Timeout, c.Pending = 20*time.Millisecond, 1
		l := st.Layer([]Settings{c}, 1, srv)(srv)
		send := func(x string) {
			proxytest.Do(t, s, func() {
				var resp proxy.Response
				req := request(s, "")
				req.Fields[0].Value = x
				if err := l.RoundTrip(req, &resp); err != nil || resp.Status != 200 {
					t.Errorf("%s: the request itself: %d, %v", x, resp.Status, err)
				}
				resp.Close()
			})
		}
		send("hangs")
		send("crowded")
		crowded.Store(true)
		proxytest.Eventually(t, "the copy is given up", func() bool { return st.Stats() == Stats{Sent: 1, Failed: 1, Crowded: 1} })
		for i, x := range []string{"fails", "500"} {
			proxytest.Eventually(t, "room", func() bool { return l.(*layer).pending[0].Load() == 0 })
			send(x)
			proxytest.Eventually(t, x, func() bool { return st.Stats().Failed == uint64(i+2) })
		}
	})
}

type waiter struct{ gate task.Gate }

func (w *waiter) Canceled(error) { w.gate.Wake() }

// What is not copied, and that nothing of it stays behind.
func TestNotCopied(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		for _, c := range []struct {
			name string
			make func() *proxy.Request
			want Stats
		}{
			{"too large, as declared", func() *proxy.Request { return request(s, strings.Repeat("x", 101)) }, Stats{Large: 1}},
			{"too large, as it turns out", func() *proxy.Request {
				req := request(s, strings.Repeat("x", 101))
				req.Length = proxy.Unknown
				return req
			}, Stats{Large: 1}},
			{"broken off", func() *proxy.Request {
				req := request(s, "x")
				req.Length, req.Body = 5, &broken{}
				return req
			}, Stats{Cut: 1}},
			{"a Stream", func() *proxy.Request {
				req := request(s, "")
				req.Method = "CONNECT"
				return req
			}, Stats{}},
			{"an Upgrade", func() *proxy.Request {
				req := request(s, "")
				req.Upgrade = "websocket"
				return req
			}, Stats{}},
			{"another route", func() *proxy.Request {
				req := request(s, "")
				req.Rule = 1
				return req
			}, Stats{}},
		} {
			srv, st := new(service), new(State)
			l := st.Layer([]Settings{always(), {}}, 1, srv)(srv)
			proxytest.Do(t, s, func() {
				var resp proxy.Response
				if l.RoundTrip(c.make(), &resp) == nil {
					resp.Close()
				}
			})
			if got := st.Stats(); got != c.want {
				t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
			}
			if n := l.(*layer).pending[0].Load(); n != 0 {
				t.Errorf("%s: %d copies under way", c.name, n)
			}
		}
	})
}

// broken is content that breaks off.
type broken struct{ proxy.Content }

func (*broken) Read([]byte) (int, error) { return 0, errors.New("the client left") }

// Content that nobody reads is no leak: the end of the request is the end of its copy.
func TestUnreadContent(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		st := new(State)
		refuse := proxy.RoundTripperFunc(func(_ *proxy.Request, resp *proxy.Response) error {
			resp.Status = 413
			return nil
		})
		l := st.Layer([]Settings{always()}, 1, refuse)(refuse)
		proxytest.Do(t, s, func() {
			var resp proxy.Response
			if err := l.RoundTrip(request(s, "unread"), &resp); err != nil {
				t.Error(err)
			}
			resp.Close()
		})
		if got, n := st.Stats(), l.(*layer).pending[0].Load(); got != (Stats{Cut: 1}) || n != 0 {
			t.Errorf("%+v, %d under way", got, n)
		}
	})
}

// A share is a share, and what is not copied costs nothing.
func TestShare(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		st := new(State)
		some := always()
		some.Share, some.Pending = 0.2, 1<<20
		answer := proxy.RoundTripperFunc(func(_ *proxy.Request, resp *proxy.Response) error { return nil })
		l := st.Layer([]Settings{some, {}}, 1, answer)(answer)
		proxytest.Do(t, s, func() {
			for range 5000 {
				var resp proxy.Response
				_ = l.RoundTrip(request(s, ""), &resp)
			}
			req, resp := request(s, ""), new(proxy.Response)
			req.Rule = 1
			if n := proxytest.Allocs(100, func() { _ = l.RoundTrip(req, resp) }); n != 0 {
				t.Errorf("%v allocations for a request that is not copied, want 0", n)
			}
		})
		proxytest.Eventually(t, "all copies are answered", func() bool { c := st.Stats(); return c.Sent == c.Answered && l.(*layer).pending[0].Load() == 0 })
		if n := st.Stats().Sent; n < 800 || n > 1200 { // 7 standard deviations
			t.Errorf("%d of 5000 copied, want about 1000", n)
		}
	})
}
