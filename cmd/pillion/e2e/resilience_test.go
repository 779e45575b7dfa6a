//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// chaosRounds is how often everything happens, each time to other endpoints: each round takes about 55 s.
var chaosRounds = flag.Int("chaos-rounds", 3, "how many rounds of faults TestResilience goes through; one takes about 55 s")

// Ten endpoints behind sidecars of their own, under steady load for minutes, while they are killed, stopped, slowed, fail, break off their answers and come
// back, discovery fails and returns, certificates rotate and the configuration is reloaded. With the defaults of the calling side at least 99.9 % of the idempotent requests
// succeed, nothing is executed twice without permission, retries stay within their budget, no app gets more than its limit, and the tail of the latencies comes back.
func TestResilience(t *testing.T) {
	if *direct {
		return
	}
	w := newFlock(t, 10, "")
	began := time.Now()
	stop := w.load(12)
	time.Sleep(calm)
	for round := range *chaosRounds {
		for _, f := range w.faults(3 * round) {
			at := time.Now()
			f.do()
			time.Sleep(3 * time.Second)
			f.undo()
			time.Sleep(calm)
			w.tell(t, f.name, at)
		}
		// The tail comes back: of the requests of a while after the last fault, 99 % are as fast as requests can be on a busy machine.
		eventually(t, 10*time.Second, "p99 below a second again", func() bool {
			from := time.Now()
			time.Sleep(time.Second)
			return w.p99(from) < time.Second
		})
	}
	stop()
	ran := time.Since(began)
	st := w.a.status().Services[0]
	w.judge(t, ran)
	if r := st.Retries; r == nil {
		t.Error("there was no retry: the faults did not bite, and the test shows nothing")
	} else if most := w.count()/5 + int(10*(ran.Seconds()+10)); int(r.Total) > most {
		t.Errorf("%d retries, the budget is %d", r.Total, most)
	} else {
		t.Logf("%v, %d requests, %d retries, %d requests recovered by one, %d exhausted", ran.Round(time.Second), w.count(), r.Total, r.Recovered, r.Exhausted)
	}
}

// calm is the time between two faults.
const calm = 2 * time.Second

// chaos is one thing that goes wrong, and how it comes back.
type chaos struct {
	name     string
	do, undo func()
}

// faults are those of one round, which begins at endpoint from.
func (f *flock) faults(from int) []chaos {
	end := func(i int) *sidecar { return f.ends[(from+i)%len(f.ends)] }
	app := func(i int) *flockApp { return f.apps[(from+i)%len(f.apps)] }
	stops := func(i int) func() {
		return func() {
			end(i).signal(syscall.SIGTERM)
			end(i).wait(40 * time.Second)
			end(i).restart()
		}
	}
	return []chaos{
		{"an endpoint is killed", func() { end(0).kill() }, func() { end(0).restart() }},
		{"an endpoint stands still", func() { end(1).signal(syscall.SIGSTOP) }, func() { end(1).signal(syscall.SIGCONT) }},
		{"an endpoint is slow", func() { app(2).slow.Store(int64(300 * time.Millisecond)) }, func() { app(2).slow.Store(0) }},
		{"an endpoint fails", func() { app(3).fails.Store(true) }, func() { app(3).fails.Store(false) }},
		// A broken off answer is the client's loss: its head is there, and cannot be taken back. So ejection must be quick, though another endpoint is ejected already.
		{"an endpoint breaks off answers", func() { app(4).cuts.Store(true) }, func() { app(4).cuts.Store(false) }},
		{"discovery fails", func() { f.list("- {address: nonsense\n") }, f.listAll},
		{"certificates rotate", func() { f.rotate(f.a, "web"); f.rotate(end(5), "app") }, func() {}},
		{"the configuration is reloaded", func() { f.reload("1m1s") }, func() { f.reload("1m") }},
		{"two endpoints are killed, one fails", func() { end(6).kill(); end(7).kill(); app(8).fails.Store(true) },
			func() { end(6).restart(); end(7).restart(); app(8).fails.Store(false) }},
		{"endpoints are told to stop, one after the other", stops(8), stops(9)},
	}
}

// flock is one calling sidecar and many called ones.
type flock struct {
	t     *testing.T
	ca    *authority
	a     *sidecar
	local string
	file  string // of the endpoints
	more  string // of the service's configuration
	ends  []*sidecar
	apps  []*flockApp
	certs map[*sidecar]files

	mu      sync.Mutex
	results []result
	ran     map[string]int // by id of the request: how often it reached an app's handler
}

// result is how one request ended.
type result struct {
	id         string
	idempotent bool
	at         time.Time
	took       time.Duration
	why        string // "" if it succeeded
}

// flockApp is an app that can be told to behave badly.
type flockApp struct {
	f           *flock
	addr        string
	slow        atomic.Int64 // nanoseconds
	fails, cuts atomic.Bool
	hangs       atomic.Bool  // until the caller leaves
	left        atomic.Int32 // callers that left it while it hung
	now, most   atomic.Int32 // requests that run
}

// appLimit is how many requests may run in one app.
const appLimit = 8

// newFlock starts n endpoints, and one sidecar that calls them; more is more of what that has configured of the service.
func newFlock(t *testing.T, n int, more string) *flock {
	f := &flock{t: t, more: more, ca: newAuthority(t), local: freeAddr(t), file: filepath.Join(t.TempDir(), "endpoints"), ran: make(map[string]int), certs: make(map[*sidecar]files)}
	for i := range n {
		a := &flockApp{f: f}
		a.addr = newServer(t, a.ServeHTTP)
		cert := f.ca.issue(leaf{name: "app"})
		end := newSidecar(t, fmt.Sprintf("B%d", i), fmt.Sprintf("service: app\ndrain: 20s\napp: [{port: 8080, to: %q, limits: {requests: %d}}]\n", a.addr, appLimit), cert)
		f.apps, f.ends, f.certs[end] = append(f.apps, a), append(f.ends, end), cert
	}
	for _, e := range f.ends {
		e.ready()
	}
	f.listAll()
	cert := f.ca.issue(leaf{name: "web"})
	f.a = newSidecar(t, "A", f.config("1m"), cert)
	f.certs[f.a] = cert
	f.a.ready()
	return f
}

// config is that of the calling side: nothing but where the service is, an idle time for a reload to change, and more.
func (f *flock) config(idle string) string {
	return fmt.Sprintf("service: web\nservices:\n  app: {endpoints: %q, listen: %q, idle: %s%s}\n", "file:"+f.file, f.local, idle, f.more)
}

// reload changes the configuration of the calling side.
func (f *flock) reload(idle string) {
	f.a.write(f.t, f.config(idle), f.certs[f.a])
	f.a.signal(syscall.SIGHUP)
}

// rotate replaces the certificate of a sidecar.
func (f *flock) rotate(s *sidecar, name string) {
	next, at := f.ca.issue(leaf{name: name}), f.certs[s]
	for from, to := range map[string]string{next.key: at.key, next.cert: at.cert} {
		if err := os.Rename(from, to); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *flock) listAll() {
	var b strings.Builder
	for _, e := range f.ends {
		b.WriteString("- " + e.peer + "\n")
	}
	f.list(b.String())
}

func (f *flock) list(text string) {
	if err := os.WriteFile(f.file+".next", []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(f.file+".next", f.file); err != nil {
		f.t.Fatal(err)
	}
}

// ServeHTTP is the app: 2 ms of work, and an answer in two pieces.
func (a *flockApp) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	n := a.now.Add(1)
	defer a.now.Add(-1)
	for m := a.most.Load(); n > m && !a.most.CompareAndSwap(m, n); m = a.most.Load() {
	}
	if r.Method == "POST" {
		a.f.mu.Lock()
		a.f.ran[r.URL.Query().Get("id")]++
		a.f.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, r.Body)
	time.Sleep(2*time.Millisecond + time.Duration(a.slow.Load()))
	switch {
	case a.hangs.Load():
		select {
		case <-r.Context().Done():
			a.left.Add(1)
		case <-time.After(20 * time.Second):
		}
	case a.fails.Load():
		rw.WriteHeader(http.StatusServiceUnavailable)
	case a.cuts.Load():
		rw.Header().Set("Content-Length", "1000")
		_, _ = rw.Write(make([]byte, 10))
		_ = http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	default:
		_, _ = io.WriteString(rw, "well ")
		_ = http.NewResponseController(rw).Flush()
		_, _ = io.WriteString(rw, "done")
	}
}

// load sends requests with n clients until stop is called, every tenth of them a POST.
func (f *flock) load(n int) (stop func()) {
	var over atomic.Bool
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for k := 0; !over.Load(); k++ {
				f.one(c, fmt.Sprintf("%d.%d", i, k), k%10 != 0)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	return func() {
		over.Store(true)
		running.Wait()
	}
}

func (f *flock) one(c *http.Client, id string, idempotent bool) {
	method := "POST"
	var body io.Reader = strings.NewReader("content")
	if idempotent {
		method, body = "GET", nil
	}
	req, err := http.NewRequest(method, "http://"+f.local+"/?id="+id, body)
	if err != nil {
		f.t.Error(err)
		return
	}
	r := result{id: id, idempotent: idempotent, at: time.Now()}
	resp, err := c.Do(req)
	if err != nil {
		r.why = err.Error()
	} else {
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		switch {
		case resp.StatusCode != http.StatusOK:
			r.why = resp.Status + " " + resp.Header.Get("Pillion-Error") + " " + tail(string(text), 2)
		case err != nil || string(text) != "well done":
			r.why = "an answer that is cut short"
		}
	}
	r.took = time.Since(r.at)
	f.mu.Lock()
	f.results = append(f.results, r)
	f.mu.Unlock()
}

func (f *flock) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.results)
}

// since are the results of requests that were sent after from.
func (f *flock) since(from time.Time) []result {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []result
	for _, r := range f.results {
		if r.at.After(from) {
			all = append(all, r)
		}
	}
	return all
}

// p99 of the requests since from; a long time if there are too few.
func (f *flock) p99(from time.Time) time.Duration {
	var took []time.Duration
	for _, r := range f.since(from) {
		took = append(took, r.took)
	}
	if len(took) < 50 {
		return time.Hour
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// tell logs what a fault has cost.
func (f *flock) tell(t *testing.T, name string, from time.Time) {
	all := f.since(from)
	failed, why := 0, ""
	for _, r := range all {
		if r.why != "" && r.idempotent {
			failed++
			why = r.why
		}
	}
	t.Logf("%s: %d requests, %d idempotent ones failed, p99 %v %s", name, len(all), failed, f.p99(from).Round(time.Millisecond), why)
}

// judge is the verdict.
func (f *flock) judge(t *testing.T, ran time.Duration) {
	idempotent, failed := 0, 0
	why := make(map[string]int)
	for _, r := range f.since(time.Time{}) {
		if !r.idempotent {
			continue
		}
		idempotent++
		if r.why != "" {
			failed++
			why[r.why]++
		}
	}
	if failed*1000 > idempotent || idempotent < 1000 {
		t.Errorf("%d of %d idempotent requests failed, want 0.1 %% at most: %v", failed, idempotent, why)
	} else {
		t.Logf("%d of %d idempotent requests failed: %v", failed, idempotent, why)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, n := range f.ran {
		if n > 1 {
			t.Errorf("POST %s was executed %d times", id, n)
		}
	}
	for i, a := range f.apps {
		if n := a.most.Load(); n > appLimit {
			t.Errorf("app %d got %d requests at a time, its limit is %d", i, n, appLimit)
		}
	}
}

// A POST whose link is cut while it runs is executed once, and its client has the answer.
func TestExactlyOnce(t *testing.T) {
	if *direct {
		return
	}
	var ran atomic.Int32
	started := make(chan struct{}, 100)
	app := newServer(t, func(rw http.ResponseWriter, r *http.Request) {
		n := ran.Add(1)
		body, _ := io.ReadAll(r.Body)
		started <- struct{}{}
		time.Sleep(500 * time.Millisecond)
		fmt.Fprintf(rw, "%s, run %d, %s", body, n, r.Header.Get("Pillion-Attempt-Id"))
	})
	p := newPair(t, setup{app: app, svcMore: ", retry: {unsafe: true, attempts: 8}"})
	eventually(t, 10*time.Second, "the way is open", func() bool {
		resp, err := http.Get("http://" + p.local + "/")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	for range len(started) {
		<-started
	}
	before := ran.Load()
	answers := make(chan string, 10)
	for i := range 10 {
		go func() {
			resp, err := http.Post("http://"+p.local+"/", "text/plain", strings.NewReader(fmt.Sprint("order ", i)))
			if err != nil {
				answers <- err.Error()
				return
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			answers <- fmt.Sprint(resp.StatusCode, " ", string(text))
		}()
	}
	for range 10 {
		<-started
	}
	p.link.cut()
	p.link.restore()
	for range 10 {
		if got := <-answers; !strings.HasPrefix(got, "200 order ") || !strings.HasSuffix(got, ", ") {
			t.Errorf("got %q, want the answer of the one run", got)
		}
	}
	if n := ran.Load() - before; n != 10 {
		t.Errorf("ten requests ran %d times", n)
	}
	if st := p.b.status().Attempts; st == nil || st.Repeated < 10 {
		t.Errorf("B counts %+v, want ten repeated attempts, or more", st)
	}
}

// newServer is an app in this process.
func newServer(t *testing.T, serve http.HandlerFunc) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: serve}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	return ln.Addr().String()
}
