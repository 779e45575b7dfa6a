//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// rawApp is an app on a bare socket: serve gets every connection, which is closed when it returns.
func rawApp(t *testing.T, serve func(c *net.TCPConn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			running.Go(func() {
				serve(c.(*net.TCPConn))
				_ = c.Close()
				mu.Lock()
				delete(conns, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return ln.Addr().String()
}

// dialRaw connects; nothing on the connection takes longer than 20 seconds.
func dialRaw(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

// message is an HTTP/1 message as it was on the wire.
type message struct {
	start  string   // first line
	fields []string // lines as they were
	body   []byte
}

// readMessage reads a message whose body has a Content-Length, is chunked, or is absent.
func readMessage(r *bufio.Reader) (*message, error) {
	m := &message{}
	length, chunked := 0, false
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("after %q and %d fields: %w", m.start, len(m.fields), err)
		}
		line = strings.TrimSuffix(line, "\r\n")
		if m.start == "" {
			m.start = line
			continue
		}
		if line == "" {
			break
		}
		m.fields = append(m.fields, line)
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "content-length":
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return nil, err
			}
		case "transfer-encoding":
			chunked = strings.Contains(strings.ToLower(value), "chunked")
		}
	}
	if chunked {
		return m, m.readChunks(r)
	}
	m.body = make([]byte, length)
	_, err := io.ReadFull(r, m.body)
	return m, err
}

// readChunks reads a chunked body without trailers.
func (m *message) readChunks(r *bufio.Reader) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(strings.TrimSpace(line), 16, 31)
		if err != nil {
			return err
		}
		chunk := make([]byte, size+2)
		if _, err := io.ReadFull(r, chunk); err != nil {
			return err
		}
		if size == 0 {
			return nil
		}
		m.body = append(m.body, chunk[:size]...)
	}
}

// field returns the value of the first field with this name.
func (m *message) field(name string) string {
	for _, f := range m.fields {
		if n, v, ok := strings.Cut(f, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// status is the code of an answer.
func (m *message) status() int {
	parts := strings.SplitN(m.start, " ", 3)
	if len(parts) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(parts[1])
	return n
}

// exchangeRaw sends a request on a new connection and reads the answer.
func exchangeRaw(t *testing.T, addr, request string) *message {
	t.Helper()
	c := dialRaw(t, addr)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	m, err := readMessage(bufio.NewReader(c))
	if err != nil {
		t.Fatalf("answer to %q: %v", shorten([]byte(request)), err)
	}
	return m
}

// isReset reports whether a connection was broken rather than ended.
func isReset(err error) bool {
	return err != nil && bytes.Contains([]byte(err.Error()), []byte("reset"))
}
