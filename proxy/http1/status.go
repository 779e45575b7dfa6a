package http1

import (
	"bytes"

	"github.com/pillion-proxy/pillion/proxy"
)

// parseResponse reads a whole head of an answer to req, as scanHead found it, into resp, whose strings share
// b's memory. It sets Status, Reason, Version, Fields and Length; Length is Unknown for a content that ends with the connection too. m may be nil.
func parseResponse(b []byte, req *proxy.Request, resp *proxy.Response, h *head, m *Memory) *badMessage {
	h.reset()
	rest, err := parseResponseStart(b, resp, m)
	if err != nil {
		return err
	}
	if err := parseFields(rest, &resp.Fields, h, m); err != nil {
		return err
	}
	return h.response(req, resp)
}

func parseResponseStart(b []byte, resp *proxy.Response, m *Memory) (rest []byte, err *badMessage) {
	if l := m.reading(0).begins(b); l != nil {
		resp.Status, resp.Reason, resp.Version = l.status, l.reason, l.version
		return b[len(l.text):], nil
	}
	start, rest := nextLine(b)
	if err = parseStatusLine(start, resp); err == nil {
		m.learnStart(start, line{status: resp.Status, reason: resp.Reason, version: resp.Version})
	}
	return rest, err
}

// recallResponse is to parseResponse what recallRequest is to parseRequest.
func recallResponse(b []byte, most int, req *proxy.Request, resp *proxy.Response, h *head, m *Memory) (end int, err *badMessage) {
	if m == nil {
		return 0, nil
	}
	if l := m.heads.begins(b); l != nil && len(l.text) <= most {
		h.takeWhole(l.whole, &resp.Fields)
		resp.Status, resp.Reason, resp.Version, resp.Length = l.status, l.reason, l.version, l.length
		return len(l.text), nil
	}
	start, end := m.recall(b, most, &resp.Fields, h)
	if start == nil {
		return 0, nil
	}
	resp.Status, resp.Reason, resp.Version = start.status, start.reason, start.version
	if err = h.response(req, resp); err == nil && h.framingError(resp.Version) == nil { // to what req is such an answer does not matter
		m.learnWhole(b[:end], line{status: resp.Status, reason: resp.Reason, version: resp.Version, length: resp.Length}, h, resp.Fields, "", "")
	}
	return end, err
}

// response checks the framing of the answer to req, and sets Length.
func (h *head) response(req *proxy.Request, resp *proxy.Response) *badMessage {
	if err := h.framingError(resp.Version); err != nil && !tunnels(req, resp.Status) {
		return err
	}
	resp.Length = proxy.Unknown
	if h.lengths > 0 {
		resp.Length = h.length
	}
	return nil
}

// parseStatusLine reads "HTTP-version SP status-code SP [ reason-phrase ]", RFC 9112 section 4. The space
// before an absent reason may be missing, as many senders have it.
func parseStatusLine(line []byte, resp *proxy.Response) (err *badMessage) {
	if len(line) < 12 || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return bad("bad status line: " + quoted(str(line)))
	}
	if resp.Version, err = parseVersion(line[:8]); err != nil {
		return err
	}
	status := 0
	for _, c := range line[9:12] {
		if c -= '0'; c > 9 {
			return bad("bad status: " + quoted(str(line)))
		}
		status = status*10 + int(c)
	}
	if status < 100 || status > 999 {
		return bad("bad status: " + quoted(str(line)))
	}
	resp.Status, resp.Reason = status, ""
	if len(line) > 13 {
		reason := line[13:]
		if !validValue(reason) {
			return bad("control character in the reason phrase: " + quoted(str(bytes.TrimSpace(reason))))
		}
		resp.Reason = str(reason)
	}
	return nil
}

// tunnels reports whether an answer with this status turns the connection into a Stream.
//
// RFC 9112 section 6.3: "Any 2xx (Successful) response to a CONNECT request implies that the connection will become a tunnel immediately after the
// empty line that concludes the header fields. A client MUST ignore any Content-Length or Transfer-Encoding header
// fields received in such a message."
func tunnels(req *proxy.Request, status int) bool {
	return status == 101 || req.IsConnect() && status >= 200 && status < 300
}

// bodiless reports whether an answer ends with its head.
//
// RFC 9112 section 6.3: "Any response to a HEAD request and any response with a 1xx (Informational), 204 (No Content), or 304 (Not Modified) status code is always
// terminated by the first empty line after the header fields, regardless of the header fields present in the message".
func bodiless(method string, status int) bool {
	return method == "HEAD" || status < 200 || status == 204 || status == 304
}
