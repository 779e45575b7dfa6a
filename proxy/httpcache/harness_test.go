package httpcache

import (
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// shifted is a shard whose clock a test moves.
type shifted struct {
	task.Shard
	by *clock
}

type clock struct {
	mu sync.Mutex
	d  time.Duration
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.d += d
}

func (c *clock) get() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.d
}

func (s shifted) Now() task.Instant { return s.Shard.Now().Add(s.by.get()) }

// origin answers as a test says, and remembers what it was asked.
type origin struct {
	mu     sync.Mutex
	asked  []question
	answer func(o *origin, req *proxy.Request, resp *proxy.Response) error
}

type question struct {
	method, path string
	fields       proxy.Fields
}

func (o *origin) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	o.mu.Lock()
	a := question{method: strings.Clone(req.Method), path: strings.Clone(req.Path), fields: cloneFields(req.Fields, everything)}
	o.asked = append(o.asked, a)
	o.mu.Unlock()
	return o.answer(o, req, resp)
}

func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.asked)
}

func (o *origin) last() question {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[len(o.asked)-1]
}

// text is a Body of a string, all there.
type text struct {
	rest     string
	trailers proxy.Fields
	err      error
}

func (t *text) Read(p []byte) (int, error) {
	if t.rest == "" {
		if t.err != nil {
			return 0, t.err
		}
		return 0, io.EOF
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

func (t *text) Buffered() int {
	if t.rest == "" && t.err == nil {
		return -1
	}
	return len(t.rest)
}
func (t *text) Trailers() proxy.Fields { return t.trailers }
func (t *text) Close() error           { return nil }

// say fills an answer.
func say(resp *proxy.Response, status int, body string, fields ...string) {
	resp.Status, resp.Version = status, proxy.HTTP11
	for _, l := range fields {
		name, value, _ := strings.Cut(l, ":")
		resp.Fields.Add(name, strings.TrimSpace(value))
	}
	resp.Length = int64(len(body))
	if body != "" {
		resp.Body = &text{rest: body}
	}
}

// bed is a cache between a client and an origin.
type bed struct {
	t     *testing.T
	s     task.Shard
	o     *origin
	c     *Cache
	rt    proxy.RoundTripper
	clock *clock
}

func newBed(t *testing.T, s task.Shard, cfg Config, set Settings, answer func(o *origin, req *proxy.Request, resp *proxy.Response) error) *bed {
	b := &bed{t: t, o: &origin{answer: answer}, clock: new(clock)}
	b.s = shifted{s, b.clock}
	b.c = New(cfg)
	b.rt = b.c.Layers(LayerConfig{Services: map[string][]Settings{"shop": {set}}})["shop"](b.o)
	return b
}

// newAppBed is one on the inbound side.
func newAppBed(t *testing.T, s task.Shard, set Settings, answer func(o *origin, req *proxy.Request, resp *proxy.Response) error) *bed {
	b := newBed(t, s, Config{}, set, answer)
	b.rt = b.c.Layers(LayerConfig{Name: "pillion-app", App: "app:80", Services: map[string][]Settings{"app:80": {set}}})["app:80"](b.o)
	return b
}

// got is an answer as a client sees it.
type got struct {
	status   int
	body     string
	fields   proxy.Fields
	trailers proxy.Fields
	err      error // of the exchange, or of reading
	length   int64
}

func (g got) cache() string { return g.fields.Get(StatusField) }

// do sends a request in the calling task.
func (b *bed) do(method, path string, fields ...string) got {
	return b.from(b.s, nil, method, path, fields...)
}

func (b *bed) from(s task.Shard, peer *proxy.Peer, method, path string, fields ...string) got {
	req := &proxy.Request{Method: method, Scheme: "http", Authority: "shop", Path: path, Shard: s, Cancel: new(proxy.Cancel), Peer: peer, Service: proxy.Service{Name: "shop"}}
	for _, l := range fields {
		name, value, _ := strings.Cut(l, ":")
		req.Fields.Add(name, strings.TrimSpace(value))
	}
	return b.send(req)
}

func (b *bed) send(req *proxy.Request) got {
	var resp proxy.Response
	if err := b.rt.RoundTrip(req, &resp); err != nil {
		return got{err: err}
	}
	g := got{status: resp.Status, fields: cloneFields(resp.Fields, everything), length: resp.Length}
	if resp.Body != nil {
		var sb strings.Builder
		buf := make([]byte, 1000)
		for {
			n, err := resp.Body.Read(buf)
			sb.Write(buf[:n])
			if err == io.EOF {
				g.trailers = cloneFields(resp.Body.Trailers(), everything)
				break
			}
			if err != nil {
				g.err = err
				break
			}
		}
		g.body = sb.String()
	}
	resp.Close()
	return g
}

// want checks status, content and how often the origin was asked so far.
func (b *bed) want(what string, g got, status int, body string, asked int) {
	b.t.Helper()
	if g.err != nil || g.status != status || g.body != body || b.o.count() != asked {
		b.t.Errorf("%s: %d %q, %v, %v, origin asked %d times; want %d %q, %d times", what, g.status, g.body, g.fields, g.err, b.o.count(), status, body, asked)
	}
}

// each runs f in a task of every runtime.
func each(t *testing.T, f func(t *testing.T, s task.Shard)) {
	t.Helper()
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		proxytest.Do(t, rt.Shards()[0], func() { f(t, rt.Shards()[0]) })
	})
}

func number(n int) string { return strconv.Itoa(n) }
