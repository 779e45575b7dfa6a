package httpcache

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// The kinds of what an oracle's app serves. A path is a kind and a number.
const (
	forAll    = iota // public and fresh for long; changed by POST
	forOne           // the same, for each caller alone
	varied           // the same, by the field X
	never            // no-store
	validated        // no-cache, with a validator; changed by POST
	elsewhere        // fresh for a while, and changed behind the cache's back
	kinds
)

const (
	things  = 4               // of each kind
	freshly = 2 * time.Second // how long elsewhere is fresh
)

// oracle is an app whose state changes and which fails, and knows which answers may be given: an answer is of a caller, and of a version that was the present one at a time
// that the cache may still go by. A write that its client has seen to be done is a change that every request after it must show.
type oracle struct {
	clock *clock // that of the cache is shifted by it

	mu      sync.Mutex
	version map[string]int
	done    map[string]int // the version of the last write that has come back
	ends    map[string][]task.Instant
	serial  int
	once    map[string]bool // what has been given of the answers that must be given once

	asked, failed atomic.Int64
}

// body is an answer: everything that decides it, and a content that is known from that.
func body(path, who, x string, version, serial int) string {
	head := fmt.Sprintf("%s|%s|%s|%d|%d|", path, who, x, version, serial)
	return head + strings.Repeat(head, (version*7919+len(path))%40) + "end"
}

// exact is a shard whose clock is shifted, and is never behind that of another, as that of a loop's turn may be.
type exact struct {
	task.Shard
	by *clock
}

func (s exact) Now() task.Instant { return task.Now().Add(s.by.get()) }

// RoundTrip is the app.
func (o *oracle) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	o.asked.Add(1)
	path, who := strings.Clone(req.Path), string(req.Peer.Identity)
	kind := int(path[1] - '0')
	if rand.IntN(4) == 0 {
		req.Shard.Yield()
	}
	o.mu.Lock()
	if req.Method == "POST" {
		o.version[path]++
	}
	v := o.version[path]
	o.serial++
	serial := o.serial
	o.mu.Unlock()
	if rand.IntN(4) == 0 {
		req.Shard.Sleep(time.Millisecond)
	}
	x := strings.Clone(req.Fields.Get("X"))
	control := []string{"public, max-age=1000", "max-age=1000", "public, max-age=1000", "no-store", "public, no-cache", "public, max-age=2"}[kind]
	switch rand.IntN(30) {
	case 0:
		o.failed.Add(1)
		return &proxy.Error{Code: proxy.PeerReset, Detail: "the app is gone"}
	case 1:
		o.failed.Add(1)
		say(resp, 503, body("/fails", who, "", 0, serial))
		return nil
	case 2:
		o.failed.Add(1)
		text := body(path, who, x, v, serial)
		say(resp, 200, text, "Cache-Control: "+control)
		resp.Body = &cutText{text: text[:len(text)/2]}
		return nil
	}
	tag := fmt.Sprintf(`"%d"`, v)
	if kind == validated && strings.Contains(req.Fields.Get("If-None-Match"), tag) {
		say(resp, 304, "", "Cache-Control: "+control, "ETag: "+tag)
		return nil
	}
	answered := serial
	switch kind {
	case forAll, varied, validated, elsewhere, forOne:
		answered = 0 // may be given to many
	}
	if kind != forOne && kind != never {
		who = ""
	}
	if kind != varied {
		x = ""
	}
	fields := []string{"Cache-Control: " + control}
	if kind == validated {
		fields = append(fields, "ETag: "+tag)
	}
	if kind == varied {
		fields = append(fields, "Vary: X")
	}
	say(resp, 200, body(path, who, x, v, answered), fields...)
	return nil
}

// cutText is a content that breaks off.
type cutText struct{ text string }

func (c *cutText) Read(p []byte) (int, error) {
	if c.text == "" {
		return 0, &proxy.Error{Code: proxy.PeerReset, Detail: "the app broke off"}
	}
	n := copy(p, c.text)
	c.text = c.text[n:]
	return n, nil
}
func (c *cutText) Buffered() int          { return len(c.text) }
func (c *cutText) Trailers() proxy.Fields { return nil }
func (c *cutText) Close() error           { return nil }

// change changes something behind the cache's back. The time is taken while nobody can ask for the old version any more.
func (o *oracle) change(path string, s task.Shard) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.version[path]++
	o.ends[path] = append(o.ends[path], s.Now())
}

// before is what is known when a request begins: the least version that its answer may be of.
func (o *oracle) before(path string, now task.Instant) (least int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch path[1] - '0' {
	case elsewhere:
		for v, end := range o.ends[path] {
			if end >= now.Add(-freshly) {
				return v
			}
			least = v + 1
		}
		return least
	default:
		return o.done[path]
	}
}

// check says what is wrong with a whole answer.
func (o *oracle) check(path, who, x string, least int, status int, got string) string {
	parts := strings.SplitN(got, "|", 6)
	if len(parts) != 6 {
		return "no answer of the app"
	}
	var version, serial int
	if _, err := fmt.Sscan(parts[3]+" "+parts[4], &version, &serial); err != nil {
		return err.Error()
	}
	if got != body(parts[0], parts[1], parts[2], version, serial) {
		return "torn"
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if serial != 0 {
		if o.once[parts[4]] {
			return "given twice, and may be given once"
		}
		o.once[parts[4]] = true
	}
	switch {
	case status == 503 && parts[0] == "/fails":
		if parts[1] != who {
			return "another caller's failure"
		}
		return ""
	case status != 200 || parts[0] != path:
		return "of something else"
	case parts[1] != "" && parts[1] != who, parts[1] == "" && (path[1]-'0' == forOne || path[1]-'0' == never):
		return "another caller's"
	case parts[2] != "" && parts[2] != x, path[1]-'0' == varied && parts[2] != x:
		return "another variant"
	case version < least:
		return fmt.Sprintf("too old: version %d, and %d was known", version, least)
	case version > o.version[path]:
		return "from the future"
	}
	return ""
}

// TestOracleOfCallers: thousands of clients of several identities, an app whose state changes and which fails, and every answer is one that may be given.
func TestOracleOfCallers(t *testing.T) {
	const clients, each = 300, 8
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		o := &oracle{clock: new(clock), version: make(map[string]int), done: make(map[string]int), ends: make(map[string][]task.Instant), once: make(map[string]bool)}
		b := &bed{t: t, c: New(Config{Size: 1 << 20})}
		b.rt = b.c.Layers(LayerConfig{App: "app:80", Services: map[string][]Settings{"app:80": {{Always: true}}}})["app:80"](o)
		var wrong atomic.Int64
		complain := func(format string, args ...any) {
			if wrong.Add(1) <= 5 {
				t.Errorf(format, args...)
			}
		}
		var running []<-chan struct{}
		for i := range clients {
			shard := rt.Shards()[i%len(rt.Shards())]
			s := exact{shard, o.clock}
			who := proxy.Identity("spiffe://x/" + number(i%5))
			running = append(running, proxytest.Go(shard, func() {
				for range each {
					path := fmt.Sprintf("/%d/%d", rand.IntN(kinds), rand.IntN(things))
					x := number(rand.IntN(3))
					switch dice := rand.IntN(20); {
					case dice == 0 && path[1]-'0' == elsewhere:
						o.change(path, s)
						continue
					case dice == 1:
						o.clock.add(time.Duration(rand.IntN(int(freshly))))
					case dice == 2 && path[1]-'0' != elsewhere:
						o.write(b, s, who, path)
						continue
					}
					least := o.before(path, s.Now())
					got, whole := b.leaves(s, &proxy.Peer{Identity: who}, path, "X: "+x)
					if !whole {
						continue
					}
					if why := o.check(path, string(who), x, least, got.status, got.body); why != "" {
						complain("%s of %s: %s: %d %.60q, %s", path, who, why, got.status, got.body, got.cache())
					}
				}
			}))
		}
		for _, end := range running {
			proxytest.Wait(t, end)
		}
		st := b.c.Stats().Services[0]
		if st.Hits == 0 || st.Collapsed == 0 || st.Validated == 0 || st.Invalidated == 0 || o.failed.Load() == 0 {
			t.Errorf("not everything was tried: %+v, %d failures", st, o.failed.Load())
		}
		if wrong.Load() > 5 {
			t.Errorf("%d answers are wrong", wrong.Load())
		}
	})
}

// write changes something through the cache; once its client knows, so must everybody.
func (o *oracle) write(b *bed, s task.Shard, who proxy.Identity, path string) {
	got := b.from(s, &proxy.Peer{Identity: who}, "POST", path)
	parts := strings.SplitN(got.body, "|", 6)
	if got.err != nil || got.status != 200 || len(parts) != 6 {
		return
	}
	var version int
	if _, err := fmt.Sscan(parts[3], &version); err != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done[path] = max(o.done[path], version)
}

// leaves is from for a client that sometimes leaves in the middle: then, and after an error, it has nothing whole.
func (b *bed) leaves(s task.Shard, peer *proxy.Peer, path string, field string) (got, bool) {
	name, value, _ := strings.Cut(field, ": ")
	req := &proxy.Request{Method: "GET", Scheme: "http", Authority: "shop", Path: path, Shard: s, Cancel: new(proxy.Cancel), Peer: peer, Service: proxy.Service{Name: "shop"},
		Fields: proxy.Fields{{Name: name, Value: value}}}
	if rand.IntN(10) != 0 {
		g := b.send(req)
		return g, g.err == nil
	}
	if rand.IntN(2) == 0 {
		req.Shard.After(time.Millisecond, func() { req.Cancel.Cancel(io.ErrClosedPipe) })
	}
	var resp proxy.Response
	if b.rt.RoundTrip(req, &resp) == nil {
		if resp.Body != nil {
			_, _ = resp.Body.Read(make([]byte, 10))
		}
		resp.Close()
	}
	return got{}, false
}
