package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// newBilling returns the app at the end of the chain.
func newBilling() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /invoices/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, ok := pathNumber(w, r)
		if !ok {
			return
		}
		writeJSON(w, invoice{Number: n, Cents: centsOf(n), Caller: callerOf(r)})
	})
	return mux
}

// serveStreams gives every connection of l to handle until ctx ends; handle need not close it.
func serveStreams(ctx context.Context, l net.Listener, handle func(io.ReadWriter)) error {
	s := &streams{conns: make(map[net.Conn]bool)}
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close()
		s.closeAll()
	})
	defer stop()
	defer s.running.Wait()
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("accept on %v: %w", l.Addr(), err)
		}
		s.running.Add(1)
		go s.serve(ctx, c, handle)
	}
}

// streams are the open connections of one socket.
type streams struct {
	running sync.WaitGroup
	mu      sync.Mutex
	conns   map[net.Conn]bool
}

func (s *streams) serve(ctx context.Context, c net.Conn, handle func(io.ReadWriter)) {
	defer s.running.Done()
	defer c.Close()
	s.mu.Lock()
	s.conns[c] = true
	s.mu.Unlock()
	if ctx.Err() == nil { // else closeAll may have run before c was in conns
		handle(c)
	}
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

func (s *streams) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// echoLines answers each line with itself and, once the client has finished sending, says how many there were: a proxy that
// does not pass on a half-close is found out.
func echoLines(c io.ReadWriter) {
	in, n := bufio.NewReader(c), 0
	for {
		line, err := in.ReadString('\n')
		if err == io.EOF && line == "" {
			_, _ = fmt.Fprintf(c, "that was all: %d\n", n)
			return
		}
		if err != nil {
			return
		}
		n++
		if _, err := io.WriteString(c, line); err != nil {
			return
		}
	}
}

const bannerLine = "220 billing speaks first\r\n"

// greet speaks first, as SMTP, FTP and many databases do, and then answers NOOP and QUIT.
func greet(c io.ReadWriter) {
	if _, err := io.WriteString(c, bannerLine); err != nil {
		return
	}
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch strings.TrimSpace(line) {
		case "NOOP":
			_, _ = io.WriteString(c, "250 still here\r\n")
		case "QUIT":
			_, _ = io.WriteString(c, "221 goodbye\r\n")
			return
		default:
			_, _ = io.WriteString(c, "500 what?\r\n")
		}
	}
}
