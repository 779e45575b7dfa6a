package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// http1 is HTTP/1.1 with one request at a time. It understands answers of RFC 9112, section 6.3: by length, chunked, until the end, without a body.
type http1 struct {
	request []byte

	due   instant
	busy  bool
	part  part
	head  []byte // what has arrived of a head or of a line of the chunked coding
	left  int64  // bytes of the body, or of the chunk with its end of line, that are still to come
	last  bool   // the connection takes no request after this answer
	bad   error  // the answer is no success
	known []byte // the head of the last answer ...
	knew  answerHead
}

// part is what of an answer comes next.
type part int

const (
	partHead part = iota
	partBody
	partRest      // a body that lasts until the end of the connection
	partChunkSize // a line
	partChunk
	partTrailers // lines
)

// answerHead is what matters of a head.
type answerHead struct {
	status  int
	length  int64 // -1: until the end
	chunked bool
	close   bool
}

const maxHead = 256 << 10 // bytes of a head; a target that sends more sends no HTTP

func newHTTP1(c *Config) *http1 {
	target := c.Path
	if c.Proxy {
		target = "http://" + c.Host + c.Path
	}
	connection := ""
	if c.Protocol == NewConn {
		connection = "Connection: close\r\n"
	}
	return &http1{request: fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: pillion-bench\r\nAccept: */*\r\n%s\r\n", target, c.Host, connection)}
}

func (h *http1) open(*conn) bool {
	if !h.busy { // a NewConn's request waits for its connection
		h.part, h.head = partHead, h.head[:0]
	}
	return true
}

func (h *http1) places() int { return 1 }

func (h *http1) send(c *conn, due instant) {
	h.due, h.busy, h.part, h.head, h.last, h.bad = due, true, partHead, h.head[:0], false, nil
	c.out = append(c.out, h.request...)
}

func (h *http1) unfinished(f func(instant)) {
	if h.busy {
		f(h.due)
	}
}

func (h *http1) end(c *conn, now instant, cause error) {
	switch {
	case !h.busy:
	case h.part == partRest && cause == errCut:
		h.whole(c, now)
	default:
		h.busy = false
		c.failed(h.due, now, cause)
	}
}

// whole is called at the end of an answer.
func (h *http1) whole(c *conn, now instant) {
	h.busy, h.part, h.head = false, partHead, h.head[:0]
	if h.last {
		c.lastAnswer(h.due, now, h.bad)
		return
	}
	c.answer(h.due, now, h.bad)
}

func (h *http1) feed(c *conn, p []byte, now instant) error {
	for len(p) > 0 {
		if !h.busy {
			return fmt.Errorf("%d bytes came that nobody had asked for", len(p))
		}
		var err error
		switch h.part {
		case partHead:
			p, err = h.feedHead(p)
		case partBody, partChunk:
			n := min(h.left, int64(len(p)))
			h.left -= n
			p = p[n:]
			if h.left == 0 && h.part == partChunk {
				h.part = partChunkSize
			}
		case partRest:
			return nil
		case partChunkSize, partTrailers:
			p, err = h.feedLine(p)
		}
		if err != nil {
			return err
		}
		if h.part == partBody && h.left == 0 {
			rest, life := len(p), c.life
			h.whole(c, now) // which may send the next request, or on another connection
			if rest > 0 && c.life == life {
				return fmt.Errorf("%d bytes more than the answer's length", rest)
			}
			return nil
		}
	}
	return nil
}

// feedHead takes bytes of the head and decides what follows it.
func (h *http1) feedHead(p []byte) ([]byte, error) {
	if len(h.head) == 0 && len(h.known) > 0 && bytes.HasPrefix(p, h.known) {
		h.begin(h.knew) // the same as the last time, as mostly
		return p[len(h.known):], nil
	}
	before := len(h.head)
	h.head = append(h.head, p...)
	end := bytes.Index(h.head[max(0, before-3):], []byte("\r\n\r\n"))
	if end < 0 {
		if len(h.head) > maxHead {
			return nil, fmt.Errorf("the answer's head is longer than %d bytes", maxHead)
		}
		return nil, nil
	}
	end += max(0, before-3) + 4
	a, err := parseHead(h.head[:end-2])
	if err != nil {
		return nil, err
	}
	rest := p[end-before:]
	if a.status < 200 && a.status != 101 { // RFC 9110, section 15.2: "A client MUST be able to parse one or more 1xx responses received prior to a final response"
		h.head = h.head[:0]
		return rest, nil
	}
	h.known, h.knew = append(h.known[:0], h.head[:end]...), a
	h.head = h.head[:0]
	h.begin(a)
	return rest, nil
}

// begin decides how the body is found.
func (h *http1) begin(a answerHead) {
	if a.status < 200 || a.status > 399 {
		h.bad = fmt.Errorf("answered %d", a.status)
	}
	h.last = h.last || a.close
	switch {
	case a.status == 204 || a.status == 304 || a.status == 101:
		h.part, h.left = partBody, 0
	case a.chunked:
		h.part = partChunkSize
	case a.length < 0:
		h.part, h.last = partRest, true
	default:
		h.part, h.left = partBody, a.length
	}
}

// feedLine takes bytes of a line of the chunked coding.
func (h *http1) feedLine(p []byte) ([]byte, error) {
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		if h.head = append(h.head, p...); len(h.head) > maxHead {
			return nil, errors.New("a line of the chunked coding does not end")
		}
		return nil, nil
	}
	line := bytes.TrimRight(append(h.head, p[:i]...), "\r")
	h.head = h.head[:0]
	p = p[i+1:]
	if h.part == partTrailers {
		if len(line) == 0 {
			h.part, h.left = partBody, 0
		}
		return p, nil
	}
	size, _, _ := bytes.Cut(line, []byte(";"))
	n, err := strconv.ParseInt(string(bytes.TrimSpace(size)), 16, 62)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("%.40q is no size of a chunk", line)
	}
	if h.part, h.left = partChunk, n+2; n == 0 {
		h.part = partTrailers
	}
	return p, nil
}

// parseHead reads a head without its last empty line.
func parseHead(head []byte) (answerHead, error) {
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	version, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || !bytes.HasPrefix(version, []byte("HTTP/1.")) || len(rest) < 3 {
		return answerHead{}, fmt.Errorf("%.40q is no answer of HTTP/1.1", line)
	}
	status, err := strconv.Atoi(string(rest[:3]))
	if err != nil {
		return answerHead{}, fmt.Errorf("%.40q is no answer of HTTP/1.1", line)
	}
	a := answerHead{status: status, length: -1, close: string(version) == "HTTP/1.0"}
	for line := range bytes.SplitSeq(fields, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			if a.length, err = strconv.ParseInt(string(value), 10, 62); err != nil || a.length < 0 {
				return answerHead{}, fmt.Errorf("Content-Length is %.40q", value)
			}
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			a.chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("connection")):
			a.close = bytes.EqualFold(value, []byte("close")) || a.close && !bytes.EqualFold(value, []byte("keep-alive"))
		}
	}
	return a, nil
}
