package demo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	maxEcho   = 4 << 20 // bytes of a body that orders echoes; above: 413
	echoChunk = 8 << 10 // bytes of one flushed piece of a chunked answer
	maxFeeds  = 256     // event streams at once; above: 503
)

// newOrders returns the app in the middle: orders, echoes, an event feed, and some ways to misbehave.
func newOrders(cfg AppConfig) http.Handler {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
	feeds := &feeds{acks: make(map[string]chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, ok := pathNumber(w, r)
		if !ok {
			return
		}
		o := order{Number: n, Item: itemOf(n), Caller: callerOf(r)}
		if err := fetchJSON(r.Context(), client, fmt.Sprintf("%s/invoices/%d", cfg.Next, n), cfg.NextHost, &o.Invoice); err != nil {
			http.Error(w, "orders could not ask billing: "+err.Error(), http.StatusBadGateway)
			return
		}
		writeJSON(w, o)
	})
	mux.HandleFunc("POST /echo", echo)
	mux.HandleFunc("POST /trailers", echoTrailers)
	mux.HandleFunc("GET /events", feeds.serve)
	mux.HandleFunc("POST /events/ack", feeds.ack)
	mux.HandleFunc("GET /lines", upgradeToLines)
	mux.HandleFunc("GET /socket", serveWebSocket)
	mux.HandleFunc("GET /slow", slow)
	mux.HandleFunc("POST /close", hangUp(""))
	mux.HandleFunc("GET /cut", hangUp("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nthe first of a thousand bytes"))
	return mux
}

// digest is what both ends compute of a body.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// readEcho returns the body, or answers 413 or 400.
func readEcho(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxEcho+1))
	switch {
	case err != nil:
		http.Error(w, "the body broke off: "+err.Error(), http.StatusBadRequest)
	case len(body) > maxEcho:
		http.Error(w, "the body is too long", http.StatusRequestEntityTooLarge)
	default:
		return body, true
	}
	return nil, false
}

// echo answers with the body and, in X-Digest and X-Framing, how it arrived.
func echo(w http.ResponseWriter, r *http.Request) {
	body, ok := readEcho(w, r)
	if !ok {
		return
	}
	framing := "length"
	if r.ContentLength < 0 {
		framing = "chunked"
	}
	w.Header().Set("X-Digest", digest(body))
	w.Header().Set("X-Framing", framing)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// echoTrailers answers in chunks, with trailers: the digest of the body, and the trailer that came with the request.
func echoTrailers(w http.ResponseWriter, r *http.Request) {
	body, ok := readEcho(w, r)
	if !ok {
		return
	}
	w.Header().Set("Trailer", "X-Digest, X-Sent-Digest")
	for chunk := range chunks(body, echoChunk) {
		_, _ = w.Write(chunk)
		_ = http.NewResponseController(w).Flush()
	}
	w.Header().Set("X-Digest", digest(body))
	w.Header().Set("X-Sent-Digest", r.Trailer.Get("X-Digest"))
}

// chunks yields b in pieces of at most size bytes.
func chunks(b []byte, size int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(size, len(b))
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

// linesToken is what a client asks for that wants to talk as with billing's lines, on the connection of a request.
const linesToken = "lines"

// upgradeToLines switches to a protocol of its own.
func upgradeToLines(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != linesToken {
		http.Error(w, "say Upgrade: "+linesToken, http.StatusUpgradeRequired)
		return
	}
	c, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+linesToken+"\r\n\r\n")
	echoLines(struct {
		io.Reader
		io.Writer
	}{buf, c})
}

// slow answers after ?for=, correctly.
func slow(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.FormValue("for"))
	if err != nil || d > 10*time.Second {
		http.Error(w, "slow needs ?for=300ms, at most 10s", http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(d):
		_, _ = fmt.Fprintf(w, "slow but sure: %v\n", d)
	case <-r.Context().Done():
	}
}

// hangUp writes raw instead of an answer and closes the connection.
func hangUp(raw string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxEcho)) // unread bytes would turn the close into a reset
		c, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = io.Copy(buf, bytes.NewReader([]byte(raw)))
		_ = buf.Flush()
		_ = c.Close()
	}
}

// feeds are the event streams that wait for acknowledgements. An event is sent only when the one before
// has been acknowledged, so a proxy that holds events back is found out without looking at a clock.
type feeds struct {
	mu   sync.Mutex
	acks map[string]chan struct{} // by feed; holds one acknowledgement
}

// serve sends ?n= events to the feed ?id=.
func (f *feeds) serve(w http.ResponseWriter, r *http.Request) {
	id := r.FormValue("id")
	n, err := strconv.Atoi(r.FormValue("n"))
	if err != nil || id == "" {
		http.Error(w, "events needs ?id= and ?n=", http.StatusBadRequest)
		return
	}
	acks := make(chan struct{}, 1)
	f.mu.Lock()
	room := len(f.acks) < maxFeeds && f.acks[id] == nil
	if room {
		f.acks[id] = acks
	}
	f.mu.Unlock()
	if !room {
		http.Error(w, "too many feeds, or one of that id runs", http.StatusServiceUnavailable)
		return
	}
	defer func() {
		f.mu.Lock()
		delete(f.acks, id)
		f.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range n {
		_, _ = fmt.Fprintf(w, "id: %d\ndata: order %d is a %s\n\n", i, i, itemOf(i))
		_ = http.NewResponseController(w).Flush()
		select {
		case <-acks:
		case <-r.Context().Done():
			return
		case <-time.After(10 * time.Second):
			return // cut short: the reader misses the rest
		}
	}
}

// ack lets the feed ?id= go on.
func (f *feeds) ack(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	acks := f.acks[r.FormValue("id")]
	f.mu.Unlock()
	if acks == nil {
		http.Error(w, "no such feed", http.StatusNotFound)
		return
	}
	select {
	case acks <- struct{}{}:
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Error(w, "acknowledged already", http.StatusConflict)
	}
}
