package httpcache

import (
	"errors"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// held is an origin whose answers wait until a test lets them go, piece by piece.
type held struct {
	mu     sync.Mutex
	asked  int
	said   bool     // the head may go
	pieces []string // of the content that may go
	closed bool     // the content is whole
	length int64
	fields []string
	gates  []func()
	ended  atomic.Int32 // answers closed
	cancel atomic.Int32 // requests cancelled
	taken  atomic.Int32 // pieces read
}

func (h *held) let(f func()) {
	h.mu.Lock()
	f()
	gates := h.gates
	h.gates = nil
	h.mu.Unlock()
	for _, g := range gates {
		g()
	}
}

func (h *held) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

// await waits until ok, which is called with the lock held, or the request is cancelled.
func (h *held) await(req *proxy.Request, g *task.Gate, ok func() bool) error {
	for {
		h.mu.Lock()
		if ok() {
			h.mu.Unlock()
			return nil
		}
		h.gates = append(h.gates, task.Waker(req.Shard, g))
		h.mu.Unlock()
		if err := req.Cancel.Err(); err != nil {
			h.cancel.Add(1)
			return err
		}
		g.Wait(0)
	}
}

// gateCancel wakes a gate when a request is cancelled.
type gateCancel struct{ g *task.Gate }

func (c gateCancel) Canceled(error) { c.g.Wake() }

func (h *held) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	g := new(task.Gate)
	req.Shard.Gate(g)
	if _, err := req.Cancel.Watch(gateCancel{g}); err != nil {
		return err
	}
	h.mu.Lock()
	h.asked++
	h.mu.Unlock()
	if err := h.await(req, g, func() bool { return h.said }); err != nil {
		return err
	}
	say(resp, 200, "", h.fields...)
	resp.Length = h.length
	b := &heldBody{h: h, req: req, g: g}
	resp.Body = b
	resp.OnClose(b)
	return nil
}

type heldBody struct {
	h    *held
	req  *proxy.Request
	g    *task.Gate
	next int
	rest string
}

func (b *heldBody) Read(p []byte) (int, error) {
	for b.rest == "" {
		err := b.h.await(b.req, b.g, func() bool { return b.next < len(b.h.pieces) || b.h.closed })
		if err != nil {
			return 0, err
		}
		b.h.mu.Lock()
		if b.next == len(b.h.pieces) {
			b.h.mu.Unlock()
			return 0, io.EOF
		}
		b.rest = b.h.pieces[b.next]
		b.next++
		b.h.taken.Store(int32(b.next))
		b.h.mu.Unlock()
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}
func (b *heldBody) Buffered() int                 { return len(b.rest) }
func (b *heldBody) Trailers() proxy.Fields        { return nil }
func (b *heldBody) Close() error                  { return nil }
func (b *heldBody) CloseResponse(*proxy.Response) { b.h.ended.Add(1) }

func heldBed(t *testing.T, h *held, cfg Config) (*bed, proxy.RoundTripper) {
	b := &bed{t: t, c: New(cfg), clock: new(clock), o: new(origin)}
	b.rt = b.c.Layers(LayerConfig{Services: map[string][]Settings{"shop": {{Always: true}}}})["shop"](h)
	return b, b.rt
}

// A thousand requests at once, on all shards, are one to the origin; all get the whole answer, as it comes.
func TestCollapsing(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		h := &held{length: proxy.Unknown, fields: []string{minute}}
		b, _ := heldBed(t, h, Config{})
		var ends []<-chan struct{}
		var first, whole atomic.Int32
		const clients = 1000
		for i := range clients {
			s := rt.Shards()[i%2]
			ends = append(ends, proxytest.Go(s, func() {
				req := &proxy.Request{Method: "GET", Scheme: "http", Authority: "shop", Path: "/a", Shard: s, Cancel: new(proxy.Cancel), Service: proxy.Service{Name: "shop"}}
				var resp proxy.Response
				if err := b.rt.RoundTrip(req, &resp); err != nil {
					t.Error(err)
					return
				}
				defer resp.Close()
				buf := make([]byte, 100)
				n, err := resp.Body.Read(buf)
				if err != nil || string(buf[:n]) != "first " {
					t.Errorf("%q, %v", buf[:n], err)
				}
				first.Add(1)
				rest, err := io.ReadAll(resp.Body)
				if err != nil || string(rest) != "second" {
					t.Errorf("%q, %v", rest, err)
				}
				whole.Add(1)
			}))
		}
		waiting := func() int {
			n := 0
			for i := range b.c.flights {
				set := &b.c.flights[i]
				set.mu.Lock()
				for _, all := range set.all {
					for _, f := range all {
						f.mu.Lock()
						n += len(f.waiting)
						f.mu.Unlock()
					}
				}
				set.mu.Unlock()
			}
			return n
		}
		proxytest.Eventually(t, "all wait", func() bool { return waiting() == clients })
		h.let(func() { h.said = true; h.pieces = []string{"first "} })
		proxytest.Eventually(t, "all have the first piece", func() bool { return first.Load() == clients })
		h.let(func() { h.pieces = append(h.pieces, "second"); h.closed = true })
		for _, end := range ends {
			proxytest.Wait(t, end)
		}
		if h.count() != 1 || whole.Load() != clients {
			t.Errorf("origin asked %d times, %d have it whole", h.count(), whole.Load())
		}
		if st := b.c.Stats().Services[0]; st.Collapsed != clients-1 || st.Misses != clients || st.Stored != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// begin sends a request in a task of its own and returns how it can be cancelled.
func begin(s task.Shard, rt proxy.RoundTripper, read func(resp *proxy.Response, err error)) (cancel func(), done <-chan struct{}) {
	c := new(proxy.Cancel)
	done = proxytest.Go(s, func() {
		req := &proxy.Request{Method: "GET", Scheme: "http", Authority: "shop", Path: "/a", Shard: s, Cancel: c, Service: proxy.Service{Name: "shop"}}
		var resp proxy.Response
		err := rt.RoundTrip(req, &resp)
		read(&resp, err)
		if err == nil {
			resp.Close()
		}
	})
	return func() { s.Post(func() { c.Cancel(errGone) }) }, done
}

func readAll(resp *proxy.Response) (string, error) {
	p, err := io.ReadAll(resp.Body)
	return string(p), err
}

// The one whose request it was leaves: the others do not notice. The last one leaves: so does the request.
func TestLeaving(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		h := &held{length: proxy.Unknown, fields: []string{minute}}
		b, stack := heldBed(t, h, Config{})
		var leader, follower error
		var got string
		cancelLeader, leaderDone := begin(rt.Shards()[0], stack, func(_ *proxy.Response, err error) { leader = err })
		proxytest.Eventually(t, "asked", func() bool { return h.count() == 1 })
		cancelFollower, followerDone := begin(rt.Shards()[1], stack, func(resp *proxy.Response, err error) {
			if follower = err; err == nil {
				got, follower = readAll(resp)
			}
		})
		proxytest.Eventually(t, "both wait", func() bool { return b.c.Stats().Services[0].Misses == 2 })
		cancelLeader()
		proxytest.Wait(t, leaderDone)
		if leader == nil {
			t.Error("the leader was not told that its client left")
		}
		h.let(func() { h.said = true; h.pieces = []string{"all"}; h.closed = true })
		proxytest.Wait(t, followerDone)
		if got != "all" || follower != nil || h.count() != 1 {
			t.Errorf("the other got %q, %v; origin asked %d times", got, follower, h.count())
		}
		cancelFollower()

		h.let(func() { h.said, h.closed, h.pieces = false, false, nil })
		b.c.PurgeAll()
		cancel, done := begin(rt.Shards()[0], stack, func(*proxy.Response, error) {})
		proxytest.Eventually(t, "asked again", func() bool { return h.count() == 2 })
		cancel()
		proxytest.Wait(t, done)
		proxytest.Eventually(t, "the request to the origin is cancelled", func() bool { return h.cancel.Load() == 1 })
	})
}

// A reader that does not read holds nobody, and an answer is stored though its only reader has left, if its end is in sight.
func TestSlowReader(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		h := &held{length: 200 << 10, fields: []string{minute}, said: true, closed: true, pieces: []string{strings.Repeat("x", 200<<10)}}
		b, stack := heldBed(t, h, Config{})
		_ = b
		release := make(chan struct{})
		var g task.Gate
		s := rt.Shards()[0]
		ready := make(chan struct{})
		var slow string
		_, slowDone := begin(s, stack, func(resp *proxy.Response, err error) {
			if err != nil {
				t.Error(err)
				return
			}
			s.Gate(&g)
			close(ready)
			for {
				select {
				case <-release:
					slow, err = readAll(resp)
					if err != nil {
						t.Error(err)
					}
					return
				default:
					g.Wait(0)
				}
			}
		})
		proxytest.Wait(t, ready)
		for range 3 {
			_, done := begin(rt.Shards()[1], stack, func(resp *proxy.Response, err error) {
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := readAll(resp); len(got) != 200<<10 || err != nil {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
			proxytest.Wait(t, done)
		}
		close(release)
		s.Post(g.Wake)
		proxytest.Wait(t, slowDone)
		if len(slow) != 200<<10 || h.count() != 1 {
			t.Errorf("the slow one got %d bytes; origin asked %d times", len(slow), h.count())
		}
	})
}

// An answer of unknown length that outgrows the cache goes to all who wait for it, in bounded memory, and is not stored; an origin that fails fails for all.
func TestOutgrown(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		h := &held{length: proxy.Unknown, fields: []string{minute}}
		b, stack := heldBed(t, h, Config{MaxObject: 64 << 10})
		const pieces = 100
		var ends []<-chan struct{}
		for i := range 4 {
			_, done := begin(rt.Shards()[i%2], stack, func(resp *proxy.Response, err error) {
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := readAll(resp); len(got) != pieces*32<<10 || err != nil {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
			ends = append(ends, done)
		}
		proxytest.Eventually(t, "all wait", func() bool { return len(b.c.Stats().Services) > 0 && b.c.Stats().Services[0].Misses == 4 })
		h.let(func() { h.said = true })
		for range pieces {
			h.let(func() { h.pieces = append(h.pieces, strings.Repeat("y", 32<<10)) })
		}
		h.let(func() { h.closed = true })
		for _, end := range ends {
			proxytest.Wait(t, end)
		}
		if st := b.c.Stats(); h.count() != 1 || st.Services[0].Stored != 0 {
			t.Errorf("origin asked %d times, %+v", h.count(), st)
		}
	})
}

// What cannot be shared is not waited for twice.
func TestUnshared(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		h := &held{length: 3, fields: []string{"Cache-Control: private"}}
		b, stack := heldBed(t, h, Config{})
		var ends []<-chan struct{}
		const clients = 20
		for i := range clients {
			_, done := begin(rt.Shards()[i%2], stack, func(resp *proxy.Response, err error) {
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := readAll(resp); got != "abc" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			})
			ends = append(ends, done)
		}
		proxytest.Eventually(t, "all wait", func() bool { return len(b.c.Stats().Services) > 0 && b.c.Stats().Services[0].Misses == clients })
		if h.count() != 1 {
			t.Errorf("origin asked %d times before it is known", h.count())
		}
		h.let(func() { h.said, h.pieces, h.closed = true, []string{"abc"}, true })
		for _, end := range ends {
			proxytest.Wait(t, end)
		}
		if h.count() != clients || int(h.ended.Load()) != clients {
			t.Errorf("origin asked %d times, %d answers closed, want %d", h.count(), h.ended.Load(), clients)
		}
	})
}

// Thousands of requests by many clients on all shards, while the origin changes, fails and cuts answers short: every answer is one that could be
// given at that moment. A version is what the origin had when it was asked; a change of it goes through the cache.
func TestOracle(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		var mu sync.Mutex
		const keys = 8
		versions := make([]int, keys) // of the origin, guarded by mu
		var known [keys]atomic.Int64  // the least that an answer may have: a change that a client has seen done
		o := proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			k, _ := strconv.Atoi(strings.TrimPrefix(req.Path, "/"))
			mu.Lock()
			if req.Method == "PUT" {
				versions[k]++
			}
			v := versions[k]
			mu.Unlock()
			req.Shard.Yield()
			switch rand.IntN(20) {
			case 0:
				if req.Method == "GET" {
					return &proxy.Error{Code: proxy.ConnectFailed, Detail: "down"}
				}
			case 1, 2:
				req.Shard.Sleep(1e6)
			}
			tag := `"` + strconv.Itoa(k) + "-" + strconv.Itoa(v) + `"`
			if req.Method == "GET" && req.Fields.Get("If-None-Match") == tag {
				say(resp, 304, "", "ETag: "+tag, minute)
				resp.Length = proxy.Unknown
				return nil
			}
			who := ""
			fields := []string{minute, "ETag: " + tag, "Vary: V"}
			if k == 0 {
				fields, who = []string{"Cache-Control: private"}, req.Fields.Get("Who")
			}
			body := strings.Repeat(strconv.Itoa(k)+" "+strconv.Itoa(v)+" "+req.Fields.Get("V")+" "+who+";", 50)
			say(resp, 200, body, fields...)
			if req.Method == "GET" && rand.IntN(20) == 0 {
				resp.Body = &text{rest: body[:len(body)/2], err: errors.New("cut")}
			} else if rand.IntN(2) == 0 {
				resp.Length = proxy.Unknown
			}
			return nil
		})
		c := New(Config{Size: 64 << 10})
		stack := c.Layers(LayerConfig{Services: map[string][]Settings{"shop": {{Always: true}}}})["shop"](o)
		var ends []<-chan struct{}
		var answers atomic.Int64
		for i := range 64 {
			s := rt.Shards()[i%2]
			ends = append(ends, proxytest.Go(s, func() {
				for range 80 {
					k := rand.IntN(keys)
					v, who := strconv.Itoa(rand.IntN(3)), strconv.Itoa(i)
					req := &proxy.Request{Method: "GET", Scheme: "http", Authority: "shop", Path: "/" + strconv.Itoa(k), Shard: s, Cancel: new(proxy.Cancel), Service: proxy.Service{Name: "shop"}}
					req.Fields.Add("V", v)
					req.Fields.Add("Who", who)
					switch rand.IntN(10) {
					case 0:
						req.Method = "PUT"
					case 1:
						req.Fields.Add("Cache-Control", "no-cache")
					}
					least := known[k].Load()
					var resp proxy.Response
					if stack.RoundTrip(req, &resp) != nil {
						continue
					}
					p, err := io.ReadAll(resp.Body)
					resp.Close()
					if err != nil {
						continue
					}
					answers.Add(1)
					if k != 0 {
						who = ""
					}
					one, _, _ := strings.Cut(string(p), ";")
					parts := strings.Split(one, " ")
					if len(parts) != 4 || string(p) != strings.Repeat(one+";", 50) || parts[0] != strconv.Itoa(k) || parts[2] != v || parts[3] != who {
						t.Errorf("key %d, V %s, client %s: %.40q, %d bytes", k, v, who, p, len(p))
						continue
					}
					version, _ := strconv.ParseInt(parts[1], 10, 64)
					if version < least {
						t.Errorf("key %d: version %d after %d was known to be there", k, version, least)
					}
					if req.Method == "PUT" {
						for {
							old := known[k].Load()
							if old >= version || known[k].CompareAndSwap(old, version) {
								break
							}
						}
					}
				}
			}))
		}
		for _, end := range ends {
			proxytest.Wait(t, end)
		}
		st := c.Stats()
		if st.Services[0].Hits == 0 || st.Bytes > st.Max || answers.Load() < 1000 {
			t.Errorf("%d answers, %+v", answers.Load(), st)
		}
	})
}

// The time of the one that asked runs out: those who have more of it ask for themselves.
func TestLeadersTimeRunsOut(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		var c *Cache
		var asked atomic.Int32
		o := proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			if asked.Add(1) == 1 {
				for c.Stats().Services[0].Misses < 2 {
					req.Shard.Sleep(1e6)
				}
				return &proxy.Error{Code: proxy.Timeout, Detail: "too late"}
			}
			say(resp, 200, "late", minute)
			return nil
		})
		c = New(Config{})
		stack := c.Layers(LayerConfig{Services: map[string][]Settings{"shop": {{Always: true}}}})["shop"](o)
		var first error
		_, firstDone := begin(rt.Shards()[0], stack, func(_ *proxy.Response, err error) { first = err })
		proxytest.Eventually(t, "asked", func() bool { return asked.Load() == 1 })
		_, secondDone := begin(rt.Shards()[1], stack, func(resp *proxy.Response, err error) {
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := readAll(resp); got != "late" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
		proxytest.Wait(t, firstDone)
		proxytest.Wait(t, secondDone)
		if e, ok := first.(*proxy.Error); !ok || e.Code != proxy.Timeout || asked.Load() != 2 {
			t.Errorf("the first: %v; asked %d times", first, asked.Load())
		}
	})
}

// Whoever has all the bytes of an answer of known length finds it kept, although its end comes later than its last byte.
func TestKeptBeforeItIsAllThere(t *testing.T) {
	for name, set := range map[string]Settings{"flight": {Always: true}, "on its way": {}} {
		t.Run(name, func(t *testing.T) {
			proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
				h := &held{length: 10, fields: []string{minute}, said: true, pieces: []string{"01234"}}
				c := New(Config{})
				cached := c.Layers(LayerConfig{Services: map[string][]Settings{"shop": {set}}})["shop"](h)
				s := rt.Shards()[0]
				_, done := begin(s, cached, func(resp *proxy.Response, err error) {
					if err != nil {
						t.Error(err)
						return
					}
					h.let(func() { h.pieces = append(h.pieces, "56789") })
					go func() { // the end, once the last byte has been taken
						for h.taken.Load() < 2 {
							time.Sleep(time.Millisecond)
						}
						h.let(func() { h.closed = true })
					}()
					if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
						t.Error(err)
					}
					req := &proxy.Request{Method: "GET", Scheme: "http", Authority: "shop", Path: "/a", Shard: s, Cancel: new(proxy.Cancel), Service: proxy.Service{Name: "shop"},
						Fields: proxy.Fields{{Name: "Range", Value: "bytes=8-"}}}
					var part proxy.Response
					if err := cached.RoundTrip(req, &part); err != nil {
						t.Error(err)
						return
					}
					defer part.Close()
					if got, err := readAll(&part); part.Status != 206 || got != "89" || err != nil || h.count() != 1 {
						t.Errorf("%d %q, %v; the origin was asked %d times", part.Status, got, err, h.count())
					}
				})
				proxytest.Wait(t, done)
			})
		})
	}
}
