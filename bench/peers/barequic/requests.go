package main

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"strconv"
	"sync"

	"github.com/quic-go/quic-go"
)

// A stream for each request: the request and its answer travel as they are, and of both no more is understood than where they end. That is the
// least that a proxy can do which lets many connections share a link.

// requests is the near half: one request after the other, each over a stream of its own.
func requests(c net.Conn, l *link) {
	defer c.Close()
	m := message{from: c}
	for m.next() == nil {
		st, err := l.open()
		if err != nil {
			log.Print(err)
			return
		}
		_, err = m.pass(st)
		if err == nil {
			st.Close()
			err = m.copy(c, st)
		}
		if err != nil { // most likely the client has left
			reset(st)
			return
		}
	}
}

// apps are idle connections to the app.
type apps struct {
	mu   sync.Mutex
	idle []*message
}

// answer is the far half.
func (a *apps) answer(st *quic.Stream, next string) {
	app, err := a.take(next)
	if err != nil {
		log.Print(err)
		reset(st)
		return
	}
	err = app.copy(app.from, st)
	if err == nil {
		err = app.next()
	}
	if err == nil {
		_, err = app.pass(st)
	}
	if err != nil {
		reset(st)
		app.from.Close()
		return
	}
	st.Close()
	a.mu.Lock()
	a.idle = append(a.idle, app)
	a.mu.Unlock()
}

func (a *apps) take(next string) (*message, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if last := len(a.idle) - 1; last >= 0 {
		m := a.idle[last]
		a.idle = a.idle[:last]
		return m, nil
	}
	c, err := net.Dial("tcp", next)
	return &message{from: c}, err // without a connection if there is an error
}

// message is one HTTP/1.1 message after the other from a connection, those with Content-Length or no content only.
type message struct {
	from   net.Conn
	buf    [32 << 10]byte
	r, w   int
	length int // of the present one's content
	head   int // of the present one's head
	back   [32 << 10]byte
}

// copy is io.Copy without a buffer for each call, which would cost more than the copy.
func (m *message) copy(to io.Writer, from io.Reader) error {
	for {
		n, err := from.Read(m.back[:])
		if n > 0 {
			if _, err := to.Write(m.back[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

var errMessage = errors.New("this is not HTTP/1.1 as it is understood here")

// next reads the head of a message.
func (m *message) next() error {
	m.w = copy(m.buf[:], m.buf[m.r:m.w])
	m.r = 0
	for {
		if i := bytes.Index(m.buf[:m.w], []byte("\r\n\r\n")); i >= 0 {
			m.head = i + 4
			return m.measure()
		}
		if m.w == len(m.buf) {
			return errMessage
		}
		n, err := m.from.Read(m.buf[m.w:])
		if m.w += n; n == 0 {
			return err
		}
	}
}

// measure finds out how long the content is.
func (m *message) measure() error {
	m.length = 0
	for line := range bytes.SplitSeq(m.buf[:m.head], []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		var err error
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			m.length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			err = errMessage
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pass writes the message to w.
func (m *message) pass(w io.Writer) (int64, error) {
	size := m.head + m.length
	here := min(size, m.w)
	n, err := w.Write(m.buf[:here])
	m.r = here
	if err != nil || here == size {
		return int64(n), err
	}
	m.r, m.w = 0, 0
	rest, err := io.CopyN(w, m.from, int64(size-here))
	return int64(n) + rest, err
}
