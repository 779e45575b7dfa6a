//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// webApp is an HTTP app of the usual kind: Go's own server.
//
//   - /             a line
//     GET  /bytes?n=N    N bytes of content
//     POST /check?n=N    says whether the body is N bytes of content
//   - /echo         the body, and the method and version in fields
//   - /id?id=X      counts X, answers X; &wait=50ms answers later
//     GET  /hang         sends one line, then waits for the client to leave
//     GET  /sse          an event for every receive from events
//     GET  /cut?n=N      promises 1 MiB, sends N bytes and breaks the connection
type webApp struct {
	addr   string
	events chan string        // for /sse
	left   chan time.Time     // when clients of /hang had left
	seen   chan *http.Request // requests of /hang, once they wait

	mu  sync.Mutex
	ids map[string]int // how often each id of /id came
}

// newWebApp starts the app; versions are those of HTTP that it speaks, by default HTTP/1 alone.
func newWebApp(t *testing.T, versions ...string) *webApp {
	t.Helper()
	w := &webApp{
		events: make(chan string),
		left:   make(chan time.Time, 100),
		seen:   make(chan *http.Request, 100),
		ids:    map[string]int{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintln(rw, "hello, world") })
	mux.HandleFunc("/bytes", w.bytes)
	mux.HandleFunc("/check", w.check)
	mux.HandleFunc("/echo", w.echo)
	mux.HandleFunc("/id", w.id)
	mux.HandleFunc("/hang", w.hang)
	mux.HandleFunc("/sse", w.sse)
	mux.HandleFunc("/cut", w.cut)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = ln.Addr().String()
	var protocols http.Protocols
	if len(versions) == 0 {
		protocols.SetHTTP1(true)
	}
	for _, v := range versions {
		switch v {
		case "http1":
			protocols.SetHTTP1(true)
		case "h2c":
			protocols.SetUnencryptedHTTP2(true)
		}
	}
	srv := &http.Server{Handler: mux, Protocols: &protocols, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 10000}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return w
}

func (w *webApp) bytes(rw http.ResponseWriter, r *http.Request) {
	n, _ := strconv.ParseInt(r.FormValue("n"), 10, 64)
	if r.FormValue("chunked") == "" {
		rw.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	_, _ = io.CopyBuffer(struct{ io.Writer }{rw}, content(n), make([]byte, 64<<10))
}

func (w *webApp) check(rw http.ResponseWriter, r *http.Request) {
	n, _ := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
	if err := checkContent(r.Body, n); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(rw, "%d bytes as sent\n", n)
}

func (w *webApp) echo(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("App-Method", r.Method)
	rw.Header().Set("App-Version", r.Proto)
	rw.Header().Set("App-Host", r.Host)
	rw.Header().Set("Trailer", "App-Trailer")
	_ = http.NewResponseController(rw).EnableFullDuplex()
	n, err := io.Copy(rw, r.Body)
	rw.Header().Set("App-Trailer", fmt.Sprintf("%d %v", n, err))
}

func (w *webApp) id(rw http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	w.mu.Lock()
	w.ids[id]++
	w.mu.Unlock()
	_, _ = io.Copy(io.Discard, r.Body)
	if wait, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil {
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
		}
	}
	fmt.Fprint(rw, id)
}

func (w *webApp) hang(rw http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(rw, "waiting")
	_ = http.NewResponseController(rw).Flush()
	w.seen <- r
	select {
	case <-r.Context().Done():
		w.left <- time.Now()
	case <-time.After(time.Minute):
	}
}

func (w *webApp) sse(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Content-Type", "text/event-stream")
	_ = http.NewResponseController(rw).Flush()
	for {
		select {
		case event, ok := <-w.events:
			if !ok {
				return
			}
			fmt.Fprintf(rw, "data: %s\n\n", event)
			_ = http.NewResponseController(rw).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (w *webApp) cut(rw http.ResponseWriter, r *http.Request) {
	n, _ := strconv.ParseInt(r.FormValue("n"), 10, 64)
	if r.FormValue("chunked") == "" {
		rw.Header().Set("Content-Length", strconv.Itoa(1<<20))
	}
	_, _ = io.Copy(rw, content(n))
	_ = http.NewResponseController(rw).Flush()
	panic(http.ErrAbortHandler)
}

// counts is how often each id came.
func (w *webApp) counts() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := make(map[string]int, len(w.ids))
	for id, n := range w.ids {
		m[id] = n
	}
	return m
}
