//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience is how long a client waits for an answer before it calls the request hung, which is always a failure.
const patience = 45 * time.Second

// outcome is what became of one request, as its client saw it.
type outcome struct {
	id     string
	began  time.Time
	took   time.Duration
	status int    // 0 if no head arrived
	code   string // Pillion-Error, if pillion answered
	whole  bool   // the right answer arrived whole
	err    error
}

// hung reports whether the client has given up waiting.
func (o outcome) hung() bool { return errors.Is(o.err, context.DeadlineExceeded) }

// load is many clients that each send a request after another, every one with its own id.
type load struct {
	t      *testing.T
	client *http.Client
	name   string // begins every id
	base   string
	query  string // more of each request's query, as in "&wait=10ms"

	stop    chan struct{}
	workers sync.WaitGroup
	next    atomic.Int64

	mu       sync.Mutex
	outcomes []outcome
}

// newLoad prepares clients of addr, each with connections of its own kind: HTTP/1.1, or one h2c connection for all.
func newLoad(t *testing.T, addr string, h2c bool) *load {
	t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP1(!h2c)
	protocols.SetUnencryptedHTTP2(h2c)
	tr := &http.Transport{
		Protocols:           &protocols,
		MaxIdleConnsPerHost: 2000,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		HTTP2:               &http.HTTP2Config{StrictMaxConcurrentRequests: true},
	}
	l := &load{t: t, client: &http.Client{Transport: tr}, name: fmt.Sprintf("%x", rand.Uint64()), base: "http://" + addr, stop: make(chan struct{})}
	t.Cleanup(tr.CloseIdleConnections)
	return l
}

// run starts n clients, until end.
func (l *load) run(n int) {
	for range n {
		l.workers.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
					o := l.one()
					if !o.whole {
						time.Sleep(20 * time.Millisecond) // nobody asks again faster than that
					}
				}
			}
		})
	}
}

// burst sends n requests at once and waits for all.
func (l *load) burst(n int) {
	for range n {
		l.workers.Go(func() { l.one() })
	}
	l.workers.Wait()
}

// end stops the clients, waits for their answers and returns what became of every request.
func (l *load) end() []outcome {
	close(l.stop)
	l.workers.Wait()
	return l.all()
}

// all is what became of the requests so far.
func (l *load) all() []outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.outcomes)
}

// one sends one request.
func (l *load) one() outcome {
	o := outcome{id: fmt.Sprintf("%s-%d", l.name, l.next.Add(1)), began: time.Now()}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// POST, with a body that Go's client cannot send again: it must not repeat anything by itself.
	body := struct{ io.Reader }{bytes.NewReader([]byte(o.id))}
	req, err := http.NewRequestWithContext(ctx, "POST", l.base+"/id?id="+o.id+l.query, body)
	if err != nil {
		l.t.Error(err)
		return o
	}
	req.ContentLength = int64(len(o.id))
	resp, err := l.client.Do(req)
	if err != nil {
		o.err = err
	} else {
		o.status, o.code = resp.StatusCode, resp.Header.Get("Pillion-Error")
		var got []byte
		got, o.err = io.ReadAll(resp.Body)
		resp.Body.Close()
		o.whole = o.err == nil && o.status == 200 && string(got) == o.id
		if o.err == nil && o.status == 200 && !o.whole {
			l.t.Errorf("request %s was answered %q: somebody else's answer, or part of one", o.id, shorten(got))
		}
	}
	o.took = time.Since(o.began)
	l.mu.Lock()
	l.outcomes = append(l.outcomes, o)
	l.mu.Unlock()
	return o
}

// settle checks the books: a request that was answered ran exactly once, one that failed at most once, none hung.
// It returns how many were answered and how many failed.
func settle(t *testing.T, app *webApp, outcomes []outcome, bound time.Duration) (answered, failed int) {
	t.Helper()
	counts := app.counts()
	kinds := map[string]int{}
	wrong := 0
	report := func(format string, args ...any) {
		if wrong++; wrong <= 5 {
			t.Errorf(format, args...)
		}
	}
	var longest time.Duration
	for _, o := range outcomes {
		ran := counts[o.id]
		longest = max(longest, o.took)
		switch {
		case o.whole:
			answered++
			if ran != 1 {
				report("request %s was answered and ran %d times, want once", o.id, ran)
			}
		default:
			failed++
			kinds[fmt.Sprintf("%d %s %s", o.status, o.code, errorKind(o.err))]++
			if ran > 1 {
				report("request %s failed and ran %d times, want at most once", o.id, ran)
			}
			if o.hung() {
				report("request %s hung for %v", o.id, o.took)
			}
		}
		if o.took > bound {
			report("request %s took %v (%d, %v), want at most %v", o.id, o.took, o.status, o.err, bound)
		}
	}
	if wrong > 5 {
		t.Errorf("and %d more", wrong-5)
	}
	t.Logf("%d answered, %d failed %v, longest %v", answered, failed, kinds, longest)
	return answered, failed
}

// errorKind is the end of an error's text.
func errorKind(err error) string {
	if err == nil {
		return ""
	}
	s := err.Error()
	return s[strings.LastIndex(s, ": ")+1:]
}

// baseline is what the sidecars hold before a test.
type baseline struct {
	pair *pair
	held []holding
}

// holding is what one sidecar holds.
type holding struct {
	fds, goroutines, tasks, buffers int
	rss                             int64
}

// holding takes stock.
func (s *sidecar) holding() holding {
	s.t.Helper()
	rt := s.status().Runtime
	return holding{fds: s.fds(), goroutines: rt.Goroutines, tasks: rt.Tasks, buffers: rt.Buffers, rss: s.rss()}
}

// String is for messages.
func (h holding) String() string {
	return fmt.Sprintf("%d descriptors, %d goroutines, %d tasks, %d buffers, %d MiB", h.fds, h.goroutines, h.tasks, h.buffers, h.rss>>20)
}

// baseline takes stock of both; a request must have gone through before, so that links stand.
func (p *pair) baseline() *baseline {
	b := &baseline{pair: p}
	for _, s := range p.both() {
		b.held = append(b.held, s.holding())
	}
	return b
}

// restored waits until the sidecars hold what they held before. Pools may keep a few of each, and memory comes back last.
func (b *baseline) restored(t *testing.T) {
	t.Helper()
	const spareFiles, spareTasks, spareMemory = 8, 8, 48 << 20
	const spareGoroutines = 300 // finished tasks that wait for the next work
	for i, s := range b.pair.both() {
		before := b.held[i]
		var now holding
		ok := false
		pause := 50 * time.Millisecond
		for end := time.Now().Add(restoreTime); !ok && time.Now().Before(end); time.Sleep(pause) {
			pause = min(2*pause, 2*time.Second) // who is asked often is not quiet, and does not give memory back
			now = s.holding()
			ok = now.fds <= before.fds+spareFiles && now.goroutines <= before.goroutines+spareGoroutines && now.tasks <= before.tasks+spareTasks &&
				now.buffers <= before.buffers+spareTasks && (now.rss <= before.rss+spareMemory || *raceBuilt)
		}
		t.Logf("%s: before %v; now %v", s.name, before, now)
		if !ok {
			t.Errorf("%s holds %v after %v, want what it held before: %v", s.name, now, restoreTime, before)
		}
	}
}

// restoreTime is how long a sidecar may take to give back what a burst has left: it does so 12 to 16 s after the last of it.
const restoreTime = 20 * time.Second

// warm sends requests until one is answered.
func (p *pair) warm(t *testing.T) {
	t.Helper()
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, 20*time.Second, "a first answer through the pair", func() bool {
		resp, err := c.Get("http://" + p.local + "/id?id=warm")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
}
